"""Milliseconds a token of each way to generate, on a GPU: `python -m bench.generation [--seconds 40]`.

Of each Hub profile's shape, full and with adapters: as TRL has it (a model as accelerate prepares it for bf16, decoded
by transformers), and as `answers.engine` has it here, by transformers and by cuda_graphs. Beside them the time in which
the card reads what a token cannot do without: the weights in bf16, once, and the cache of keys and values.

Rows are prompts of 128 tokens, up to 31 of which are padding, and are sampled as GRPO samples. A token's time is what a
longer call takes more than a shorter one, for each further token; what comes first, the prompts and the recording of
a graph, is told by the first call's seconds. Weights are random. Each result goes at once, as a line of JSON, into
generation.jsonl. `--smoke` proves the same code on a CPU, with narrow models.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import stages  # noqa: F401 - tells Hugging Face's libraries what it does in a stage, before they are imported

# isort: split
import accelerate
import peft
import torch
import transformers

from bench import gpu_page, speed
from bench.gpu_jobs import PROFILES, ROOT, TRL
from bench.gpu_one import GIB
from llmrl import devices
from llmrl.answers import generation
from llmrl.errors import InputError, reported
from llmrl.memory.shape import Shape, numbers
from llmrl.models import loading
from llmrl.training.settings import Lora

PROMPT, PADDING = 128, 32
ROWS = {"smollm2-135m": [64], "qwen2.5-0.5b": [16, 64]}  # at once: as the profile has it in 5 GiB, and as a step has
CUDA_GRAPHS, TRANSFORMERS = "cuda_graphs", "transformers"  # of `answers.engine`
LORA = Lora(rank=16, alpha=32)  # as the profiles have it
SAMPLED = {"do_sample": True, "temperature": 1.0, "top_k": 0}
COPIED = GIB  # bytes, by whose copying the card's bandwidth is measured


class Way(NamedTuple):
    """A way to generate; `short` and `long` are the tokens of the two calls, whose difference counts."""

    by: str  # TRL, or one of ours
    lora: bool
    short: int
    long: int


# The most telling first. What takes some 50 ms a token is given fewer.
WAYS = [
    Way(CUDA_GRAPHS, False, 64, 320),
    Way(TRL, False, 8, 40),
    Way(TRANSFORMERS, False, 8, 40),
    Way(CUDA_GRAPHS, True, 64, 320),
    Way(TRANSFORMERS, True, 8, 40),
    Way(TRL, True, 8, 40),
]


def model(way: Way, device: str) -> Any:
    """The policy of models/base to train: by TRL as accelerate prepares it, else with the layers that it has here."""
    cuda = device == "cuda"
    policy = loading.load_policy("models/base", loading.Loading(liger=cuda and way.by != TRL)).to(device)
    if way.lora:
        policy = peft.get_peft_model(policy, LORA.config("CAUSAL_LM"))
    if way.by == TRL:
        return accelerate.Accelerator(mixed_precision="bf16" if cuda else "no", cpu=not cuda).prepare_model(policy)
    return policy.eval()


def prompts(rows: int, device: str) -> dict[str, torch.Tensor]:
    """Rows of random tokens, (rows, PROMPT), padded at the left."""
    torch.manual_seed(0)
    mask = torch.ones(rows, PROMPT, dtype=torch.long)
    for row in range(rows):
        mask[row, : row % PADDING] = 0
    return {"input_ids": torch.randint(5, 400, (rows, PROMPT)).to(device), "attention_mask": mask.to(device)}


@contextmanager
def generating(way: Way, policy: Any, inputs: dict[str, torch.Tensor]) -> Iterator[Callable[[int], None]]:
    """What generates so many tokens, and takes all the time it takes."""
    precision = "bf16" if inputs["input_ids"].is_cuda else "fp32"
    context = torch.no_grad() if way.by == TRL else generation.answering(policy, precision)
    with context:

        def generate(new: int) -> None:
            asked = transformers.GenerationConfig(max_new_tokens=new, min_new_tokens=new, **SAMPLED)
            engine = {} if way.by == TRL else generation.decoded_by(way.by, policy, asked)
            policy.generate(**inputs, generation_config=asked, **engine)
            wait()

        yield generate


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(call: Callable[..., None], *given: Any) -> float:
    wait()
    begun = time.perf_counter()
    call(*given)
    return time.perf_counter() - begun


def measured(way: Way, rows: int, device: str) -> dict[str, Any]:
    """The milliseconds a token, of so many rows at once, the seconds of the first call, and the GiB at most."""
    liger = speed.own_layers() if device == "cuda" else nullcontext()
    with liger:
        policy, inputs = model(way, device), prompts(rows, device)
        with generating(way, policy, inputs) as generate:
            first = seconds(generate, way.short)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            short, long = seconds(generate, way.short), seconds(generate, way.long)
    found = {"ms": 1000 * (long - short) / (way.long - way.short), "first_s": first, "short_s": short, "long_s": long}
    if device == "cuda":
        found["gib"] = torch.cuda.max_memory_allocated() / GIB
    return {name: round(value, 3) for name, value in found.items()}


def row(way: Way, profile: str, rows: int, device: str, copied: float | None) -> dict[str, Any]:
    """What was measured, or what went wrong: the rest is measured all the same."""
    begun = time.monotonic()
    one = {"profile": profile, "way": way.by, "lora": way.lora, "rows": rows, "new": way.long}
    try:
        one |= measured(way, rows, device)
    except Exception as error:  # of whatever kind
        traceback.print_exc()
        one["failed"] = f"{type(error).__name__}: {error}"[:300]
    gc.collect()
    if copied and (shape := Shape.of(json.loads(Path("models/base/config.json").read_text()))):
        least = gpu_page.read(shape, numbers(shape.tensors()), rows, PROMPT + (way.short + way.long) / 2)
        one |= {"reading_ms": round(1000 * least / copied, 4), "bandwidth_gb_s": round(copied / 1e9)}
    return one | {"took": round(time.monotonic() - begun, 1)}


def bandwidth() -> float:
    """The bytes a second that the card reads, or writes, as it copies."""
    source = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        wait()

    return 2 * COPIED / min(seconds(copy) for _ in range(10))


def short(one: dict[str, Any]) -> str:
    """A result in a line."""
    name = f"{one['took']:5.1f} s  {one['profile']} {one['way']}{', LoRA' if one['lora'] else ''}, {one['rows']} rows"
    if "failed" in one:
        return f"{name}: {one['failed']}"
    return f"{name}: {one['ms']} ms, {one.get('reading_ms')} to read; first {one['first_s']} s; {one.get('gib')} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", choices=PROFILES, default=PROFILES, metavar="PROFILE")
    parser.add_argument("--seconds", type=float, default=40.0, help="after which nothing begins")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results", help="the folder of generation.jsonl")
    parser.add_argument("--work", type=Path, default=ROOT / ".llmrl/bench", help="where models and data are made")
    parser.add_argument("--smoke", action="store_true", help="narrow models, on a CPU too")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    with reported():
        device = devices.machine()
        if device.kind != "cuda" and not arguments.smoke:
            raise InputError("bench.generation: there is no GPU here; --smoke tries the same code with narrow models.")
        speed.begin(device)
        torch.backends.cuda.enable_cudnn_sdp(False)  # as llmrl/training/hardware.py says
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        copied = bandwidth() if kind == "cuda" else None
        out, work, failed = arguments.out.resolve(), arguments.work.resolve(), 0
        out.mkdir(parents=True, exist_ok=True)
        places = {profile: speed.filled(work, profile, arguments.smoke) for profile in arguments.arch}
        with (out / "generation.jsonl").open("w") as lines:
            lines.write(json.dumps(speed.about("generation")) + "\n")
            for way, profile in product(WAYS, arguments.arch):
                for rows in ROWS[profile] if way.by == CUDA_GRAPHS else ROWS[profile][:1]:
                    if time.monotonic() > end:
                        raise InputError(f"the time was up before {way} of {profile}")
                    os.chdir(places[profile])
                    one = row(way._replace(short=3, long=6) if arguments.smoke else way, profile, rows, kind, copied)
                    failed += "failed" in one
                    lines.write(json.dumps(one) + "\n")
                    lines.flush()
                    print(short(one), flush=True)
        if failed:
            raise InputError(f"{failed} failed: see `failed` in generation.jsonl.")


if __name__ == "__main__":
    main()
