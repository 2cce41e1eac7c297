"""A stage on the built-in model, within this process: its settings, a run of it, its trainer."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import datasets

from llmrl import params
from llmrl.models import loading
from llmrl.training import loop
from llmrl.training.hardware import Hardware
from llmrl.training.rows import LeftOut
from llmrl.training.run import Run
from llmrl.training.settings import Lora, Settings

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "models/tiny")
LORA = Lora(rank=4, alpha=8)
QUESTION = [{"role": "user", "content": "1 + 1?"}]
PAIR = {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", "2"), ("rejected", "3"))}
ROWS: dict[str, dict[str, Any]] = {
    "sft": {"messages": [*QUESTION, {"role": "assistant", "content": "2"}]},
    "reward": {"prompt": QUESTION} | PAIR,
    "dpo": {"prompt": QUESTION} | PAIR,
    "grpo": {"prompt": QUESTION, "solution": "2", "extra": None},
}
experiment = cache(lambda: params.experiment(ROOT / "params.yaml"))


def settings(stage: str, own: dict[str, Any] | None = None, **trl: object) -> Settings:
    """The stage's settings in params.yaml, with some changed."""
    found = experiment().stages[stage]
    return replace(found, own=replace(found.own, **(own or {})), trl=found.trl | trl)


def run(
    folder: Path, chosen: Settings, rows: list[dict[str, Any]], precision: str = "fp32", answers: str = "fp32"
) -> Run:
    """A run on these rows, which are held out too, on the CPU; it writes into the folder."""
    return Run(
        settings=chosen,
        hardware=Hardware("cpu", "CPU", precision, answers=answers),
        tokenizer=loading.load_tokenizer(TINY),
        train_rows=datasets.Dataset.from_list(rows),
        eval_rows=datasets.Dataset.from_list(rows),
        left_out=LeftOut(),
        output_dir=folder,
        name="run",
    )


def made(
    folder: Path,
    stage: str,
    own: dict[str, Any] | None = None,
    precision: str = "fp32",
    answers: str = "fp32",
    **trl: object,
) -> tuple[Any, Run]:
    """A stage's trainer, as it is trained, and its run."""
    own = {"init": TINY, "batch": 4, "micro_batch": 2} | (own or {})
    options: dict[str, object] = {"max_length": 64}
    if stage == "grpo":
        if not (judge := folder / "judge").exists():
            loading.load_classifier(TINY, 1).save_pretrained(judge)
            (folder / "completions").mkdir()
        own = {"reward_model": str(judge)} | own
        options = {"num_generations": 2, "num_generations_eval": 2, "max_completion_length": 8}
    options |= {"per_device_eval_batch_size": 2, "max_steps": 1, "eval_strategy": "no"} | trl
    rows = [longer(ROWS[stage], by) for by in range(4)]
    found = run(folder, settings(stage, own, **options), rows, precision, answers)
    return loop.constructed(importlib.import_module(f"stages.{stage}").trainer, found, TINY), found


def longer(row: dict[str, Any], by: int) -> dict[str, Any]:
    """The row with so many more numbers in its question: beside another, one is padded."""
    return json.loads(json.dumps(row).replace("1 + 1?", "1 + 1" + by * " + 1" + "?"))
