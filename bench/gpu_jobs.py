"""What bench.gpu measures, and by which params.yaml: a few steps that take what the profile's take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl import params
from llmrl.params import checks
from llmrl.training.settings import Settings

ROOT = Path(__file__).parents[1]
PROFILES = ("smollm2-135m", "qwen2.5-0.5b")
PROFILE, TRL, OFF = KINDS = ("profile", "TRL", "off")
STEPS = {"sft": 3, "reward": 3, "dpo": 3, "grpo": 2}  # from the second on the optimizer has its states
ACCUMULATED = 8  # micro-batches a measured step: more take longer, but neither more memory nor more time each
EQUAL, AUTO = "equal", "auto"  # what bench.speed measures besides: at TRL's micro-batch, and with what `auto` becomes
CAP = 5.0  # GiB that torch may reserve
NEW = 64  # tokens of GRPO's completions there: TRL takes its time for each
# What saves memory, and its value where it is off. A profile's own value, where it has none of it, is left alone.
LEVERS = {
    "gradient_checkpointing": False,
    "kernels": "torch",
    "lora": None,
    "optim": "adamw_torch_fused",
    "precision": "fp32",
}
SMOKE: dict[str, dict[str, Any]] = {
    **{stage: {"max_length": 48} for stage in ("sft", "reward", "dpo")},
    "grpo": {"max_prompt_length": 32, "max_completion_length": 8},
    "answers": {"max_new_tokens": 4},
}


@dataclass(frozen=True)
class Job:
    """What is measured: a stage of a profile, with a few settings changed, or TRL's own."""

    profile: str
    stage: str
    kind: str
    changes: tuple[tuple[str, Any], ...] = ()
    steps: int | None = None  # None: those of STEPS

    @property
    def name(self) -> str:
        """What tells it from the stage's other measurements."""
        return ", ".join(f"{key}: {json.dumps(value)}" for key, value in self.changes) or self.kind

    @property
    def key(self) -> tuple[str, str, str]:
        return self.profile, self.stage, self.name


def file(profile: str) -> Path:
    return ROOT / f"profiles/{profile}.yaml"


def levers(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The settings of a stage that save memory, one at a time, with a value by which they do not."""
    chosen = {**settings.trl, **vars(settings.own)}
    for name, off in LEVERS.items():
        if chosen.get(name) not in (None, False, off):
            yield name, off
    if settings.own.micro_batch != AUTO:
        yield "micro_batch", 2 * settings.own.micro_batch
    if chosen.get("generation_batch_size", settings.own.batch) < settings.own.batch:
        yield "generation_batch_size", settings.own.batch


def jobs(profiles: list[str], stages: list[str], kinds: list[str]) -> list[Job]:
    """Everything to measure, what matters most first."""
    found = []
    for kind in kinds:
        for profile in profiles:
            for stage in stages:
                off = levers(params.experiment(file(profile)).stages[stage]) if kind == OFF else [None]
                found += [Job(profile, stage, kind, (one,) if one else ()) for one in off]
    return found


def settings_of(job: Job, smoke: bool) -> dict[str, Any]:
    """The params.yaml of a measurement: the profile's, for a few steps that take as much as its own."""
    tree = checks.check(file(job.profile))
    for section, values in (SMOKE if smoke else {}).items():
        tree[section].update(values)
    section = tree[job.stage]
    section.update(job.changes)
    batch = section.get("batch", tree["train"]["batch"])
    micro_batch = section.get("micro_batch", tree["train"]["micro_batch"])
    several = batch if job.stage == "grpo" or micro_batch == AUTO else ACCUMULATED * micro_batch
    some = section.get("generation_batch_size", several)
    held_out = section.get("per_device_eval_batch_size", tree["train"].get("per_device_eval_batch_size", 8))
    section.update(
        init="models/base",
        batch=some if batch % some == 0 else batch,
        max_steps=job.steps or STEPS[job.stage],
        eval_rows=max(1, held_out // section.get("num_generations_eval", 1)),  # one batch
        eval_strategy="no",
        logging_steps=1,
    )
    tree["launch"] = "python"
    tree["run"].update(memory_gib=None, verbosity="quiet", report_to="none")
    return tree
