"""What settings that save memory cost in time: one pass of SFT over a few documents on a CPU, with each by itself.

    python -m bench.levers

The model has random weights and is narrow: what counts are the shares. The ways alternate, the least time counts.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers

LENGTHS, LIMIT, ROUNDS = (512, 130, 90, 260, 200, 330, 170, 356), 512, 3
LEVERS: dict[str, dict[str, Any]] = {
    "padded, micro_batch 4": {},
    "gradient_checkpointing": {"every": 1},
    "gradient_checkpointing, every_n_layers: 2": {"every": 2},
    "attn_implementation: eager": {"attention": "eager"},
    "packing, micro_batch 4": {"packed": 4},
    "packing, micro_batch 1": {"packed": 1},
}


def model(every: int = 0, attention: str = "sdpa") -> transformers.PreTrainedModel:
    """A narrow Llama; of every so many layers one is checkpointed."""
    config = transformers.LlamaConfig(
        vocab_size=4_096,
        hidden_size=384,
        intermediate_size=1_024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
    if every:
        made.gradient_checkpointing_enable(every_n_layers=every)
    return made


def batches(packed: int = 0) -> list[dict[str, torch.Tensor]]:
    """The documents, four at once and padded, or so many packed rows at once and end to end."""
    if not packed:
        masks = [
            torch.tensor([[place < length for place in range(LIMIT)] for length in LENGTHS[n : n + 4]]) for n in (0, 4)
        ]
        return [{"input_ids": mask.long(), "attention_mask": mask.long()} for mask in masks]
    rows: list[list[int]] = []
    for length in sorted(LENGTHS, reverse=True):  # into the fullest row that has room
        row = max((row for row in rows if sum(row) + length <= LIMIT), key=sum, default=None)
        rows.append([length]) if row is None else row.append(length)
    found = []
    for start in range(0, len(rows), packed):
        places = torch.cat([torch.arange(length) for row in rows[start : start + packed] for length in row])[None]
        found.append({"input_ids": torch.ones_like(places), "position_ids": places})
    return found


def main() -> None:
    """Print seconds, and their share of the first way's."""
    torch.manual_seed(0)
    ways = {
        name: (model(**{k: v for k, v in lever.items() if k != "packed"}), batches(lever.get("packed", 0)))
        for name, lever in LEVERS.items()
    }
    taken = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, (policy, some) in ways.items():
            start = time.perf_counter()
            for batch in some:
                policy(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()
            taken[name] = min(taken[name], time.perf_counter() - start)
    first = next(iter(taken.values()))
    for name, seconds in taken.items():
        print(f"{name:<45} {seconds:6.2f} s  {seconds / first:5.2f}")


if __name__ == "__main__":
    main()
