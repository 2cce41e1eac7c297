"""What the reward model says of texts: of held-out pairs, and of the policies' answers, as GRPO would have asked it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from llmrl import repository
from llmrl.measuring.answers import HELD_OUT_PROMPTS, made_of, with_origin
from llmrl.models import DTYPES, loading
from llmrl.training import rows, turns

if TYPE_CHECKING:
    from llmrl.training.run import Run

SCORED = pa.schema(
    {"policy": pa.string(), "row": pa.int32(), "greedy": pa.float32(), "sampled": pa.list_(pa.float32())}
)
PAIRS = pa.schema(
    {"row": pa.int32(), "prompt": pa.string(), "chosen": pa.string(), "rejected": pa.string()}
    | {f"{side}_score": pa.float32() for side in ("chosen", "rejected")}
    | {f"{side}_tokens": pa.int32() for side in ("chosen", "rejected")}  # of the whole conversation
)


def pairs(run: Run, folder: str, counting: rows.Counting) -> pa.Table:
    """The score of both sides of each held-out pair by the reward model in a folder: PAIRS."""
    texts: list[str] = []
    table: list[dict[str, Any]] = []
    for number, row in enumerate(run.eval_rows):
        _, sides = rows.sides_of({name: [value] for name, value in row.items()})
        asked = {"tokenize": False, "tools": turns.functions_of(row)}
        texts += [run.tokenizer.apply_chat_template(side[0], **asked) for side in sides]
        last = {
            name: str((row.get(name) or [{}])[-1].get("content") or "") for name in ("prompt", "chosen", "rejected")
        }
        table.append({"row": number} | last)
    given = iter(scored(run, folder, texts, counting(len(texts), "texts")))
    lengths = iter(run.tokenizer(texts, add_special_tokens=False)["input_ids"])
    for known in table:
        for side in ("chosen", "rejected"):
            known[f"{side}_score"], known[f"{side}_tokens"] = next(given), len(next(lengths))
    return with_origin(pa.Table.from_pylist(table, PAIRS), model=repository.digest(Path(folder)))


def answers(run: Run, tables: Sequence[pa.Table], counting: rows.Counting) -> pa.Table:
    """The score of every answer of these policies' tables, by the reward model that GRPO trains with: SCORED."""
    prompts = rows.read(HELD_OUT_PROMPTS)["prompt"]
    given = [row for table in tables for row in table.select(["policy", "row", "greedy", "sampled"]).to_pylist()]
    texts = [
        run.tokenizer.apply_chat_template(
            [*prompts[row["row"]], {"role": "assistant", "content": text}], tokenize=False
        )
        for row in given
        for text in (row["greedy"], *row["sampled"])
    ]
    found = iter(scored(run, run.settings.own.reward_model, texts, counting(len(texts), "answers")))
    scored_rows = [
        {
            "policy": row["policy"],
            "row": row["row"],
            "greedy": next(found),
            "sampled": [next(found) for _ in row["sampled"]],
        }
        for row in given
    ]
    models = {table["policy"][0].as_py(): made_of(table).get("model") for table in tables if len(table)}
    return with_origin(pa.Table.from_pylist(scored_rows, SCORED), models=models)


def scored(run: Run, folder: str, texts: list[str], counted: Callable[[int], None]) -> list[float]:
    """The score of each text by the reward model in a folder, in their order, as TRL's GRPOTrainer asks a judge: padded
    at the right, no special tokens but those of the chat template, as many at once as a device holds in training; equal
    ones are scored once. `counted` is told how many more there are.
    """
    import torch

    own, machine, tokenizer = run.settings.own, run.hardware, run.tokenizer
    model = loading.load_classifier(folder, own.seed, run.asked).to(machine.kind).eval()
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    padded: dict[str, Any] = {"padding": True, "padding_side": "right", "return_tensors": "pt"}
    # Policies that learned the same say the same. Texts of like length share a batch: little is computed for padding.
    copies = Counter(texts)
    order = sorted(copies, key=len)
    found: dict[str, float] = {}
    dtype = getattr(torch, DTYPES[machine.precision])
    with torch.inference_mode(), torch.autocast(machine.kind, dtype, enabled=dtype != torch.float32):
        for start in range(0, len(order), own.micro_batch):
            some = order[start : start + own.micro_batch]
            inputs = tokenizer(some, add_special_tokens=False, **padded)
            scores = model(**inputs.to(machine.kind), use_cache=False).logits[:, 0]  # (texts, 1)
            found |= zip(some, scores.float().tolist(), strict=True)
            counted(sum(copies[text] for text in some))
    return [found[text] for text in texts]
