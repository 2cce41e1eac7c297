"""What a stage costs: steps, disk, hours, these by its past runs on this machine; all in words, before it starts."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from llmrl import repository
from llmrl.graph import STAGES
from llmrl.plan import fit, memory
from llmrl.plan.memory import Parts, Planned
from llmrl.plan.shape import FLOAT, numbers
from llmrl.training.settings import Settings

if TYPE_CHECKING:
    from llmrl.data.settings import Data

UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
# The assumption: floating-point operations a second that a training reaches. A core of a server did 50e9 in float32,
# and twice that in bfloat16 (two cores, 135 M parameters); of a GPU of the 6 GB class, 30 % of 25e12.
CORE, GPU = 50e9, 0.3 * 25e12
START = 10  # seconds: Python, torch and TRL, loading the model and writing it
LAYER = {"cpu": 0.0005, "cuda": 0.001, "mps": 0.001}  # seconds a layer at least takes for one more token
# What decides neither how long a step takes nor what is measured around it. Any other setting may; so may one that
# only the record knows, or only this version.
FREE = {
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    *("seed", "init", "reward_model", "max_steps", "num_train_epochs", "run"),
}


def said(planned: Planned, data: Data) -> dict[str, str]:
    """What a stage takes, in words: memory, disk and, where its steps are known, time, after which comes its source."""
    found = {"memory": fit.breakdown(planned), "disk": fit.size(memory.total(disk(planned)))}
    if number := steps(planned.settings, data):
        seconds, source = by_past_runs(planned, number) or assumed(planned, number, data)
        found["time"] = f"{span(seconds)}, {source}"
    return found


def rows(name: str, data: Data) -> int | None:
    """The rows of a data set to train on that `prepare` wrote, else those asked for; None for all there are."""
    file = Path("data", name, "train.parquet")
    return pq.ParquetFile(file).metadata.num_rows if file.exists() else getattr(data, name).rows


def steps(settings: Settings, data: Data) -> int | None:
    """Optimizer steps; None where they follow from a number of rows that is not known yet."""
    if (limit := settings.option("max_steps")) > 0:
        return limit
    stage = STAGES[settings.stage]
    if (count := rows(stage.data, data)) is None:
        return None
    sequences = count * (settings.option("num_generations") if stage.generates else 1)
    return math.ceil(settings.option("num_train_epochs") * -(-sequences // settings.own.batch))


def disk(planned: Planned) -> Parts:
    """The bytes that a stage writes: what stays, and what goes when DVC has recorded it."""
    lora, limit = planned.settings.own.lora, planned.settings.run.save_total_limit
    trained = FLOAT * numbers(planned.trained)
    each = 2 if lora and lora.merge != "float32" else FLOAT
    model = each * planned.parameters + (trained if lora else 0)
    return {
        "model": model,
        "its copy in DVC's cache": model,
        "checkpoints, while it runs": (limit + 1) * (trained + memory.states(planned)),  # one more while it is written
        "its copy in .llmrl, while it runs": model,
    }


def by_past_runs(planned: Planned, number: int) -> tuple[float, str] | None:
    """The seconds of so many steps, evaluations among them, and of all around them, by the last run of the stage on
    this machine, with as many parameters and the same settings, whose record in runs/ tells; and which that is.
    """

    def deciding(settings: dict[str, Any]) -> dict[str, Any]:  # of rewards their names, not their weights
        rewards = sorted(settings.get("rewards") or {})
        return {name: value for name, value in settings.items() if name not in FREE} | {"rewards": rewards}

    settings = planned.settings
    wanted = deciding(json.loads(json.dumps(settings.deciding | {"answers": asdict(settings.answers)})))
    same = {"stage": settings.stage, "machine": platform.node(), "kind": planned.kind, "exit": 0}
    same["parameters"] = planned.parameters
    for file in sorted((repository.root() / "runs").glob("*/run.json"), reverse=True):
        try:
            record = json.loads(file.read_text())
        except ValueError:  # cut short, by a machine that went down say
            continue
        metrics = file.with_name("metrics.jsonl")
        if same.items() <= record.items() and deciding(record["settings"]) == wanted and metrics.exists():
            lines = map(json.loads, metrics.read_text().splitlines())
            taken = [(line["step"], line["seconds"]) for line in lines if "loss" in line]
            if taken and taken[-1][0] > taken[0][0]:
                each = (taken[-1][1] - taken[0][1]) / (taken[-1][0] - taken[0][0])
                around = record["seconds"] - record["phases"].get("training", 0.0)
                return number * each + around, f"from {record['id']}, {each:.2f} s a step"
    return None


def assumed(planned: Planned, number: int, data: Data) -> tuple[float, str]:
    """The seconds of so many steps, and of all around them, where no past run tells; and what is assumed."""
    settings, stage, protocol = planned.settings, planned.stage, planned.settings.answers
    cores, processes = settings.own.threads or os.cpu_count() or 1, settings.processes
    speed = CORE * cores * (1 if planned.precision == "fp32" else 2) if planned.kind == "cpu" else GPU * processes
    # Of a step, with every row as long as it may be: 2 operations a parameter and token forward, 4 backward, of which 2
    # are for the weights' gradients; 2 each for a reference, and for what is computed anew.
    each, models = 4 if settings.own.lora else 6, memory.models(planned)
    each += 2 * bool(settings.option("gradient_checkpointing"))
    each += 2 * (stage.reference or "reference model" in models) + 2 * ("reward model" in models)
    work = each * planned.parameters * settings.own.batch * stage.sides * memory.length(settings)
    seconds = START + number * work / speed

    def token(sequences: int) -> float:  # one more for each of so many: a process generates its own
        least = LAYER[planned.kind] * planned.shape.layers
        return max(least, 2 * planned.parameters * sequences * processes / speed)

    if stage.generates:  # completions, and the answers by which prompts are judged
        new, rounds = settings.option("max_completion_length"), settings.own.batch / (planned.generated * processes)
        seconds += number * rounds * new * token(planned.generated)
        if settings.own.pass_rate:
            judged = max(1, protocol.batch // settings.own.pass_samples)
            at_once = max(protocol.batch, settings.own.pass_samples)
            seconds += -(-(rows("prompts", data) or 0) // judged) * new * token(at_once)
    if stage.answers:  # those to held-out prompts: also of what it starts from, unless a stage makes and measures that
        times = 1 if settings.own.init in {f"models/{name}" for name in STAGES} else 2
        rounds = -(-(data.prompts.eval_rows or 0) * (1 + protocol.samples) // protocol.batch)
        seconds += times * rounds * protocol.max_new_tokens * token(protocol.batch)
    source = f"assumed: {speed / 1e12:.2g} TFLOP/s"
    return seconds, source + (" (a GPU of the 6 GB class at 30 %)" if planned.kind == "cuda" else "")


def span(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> span(90), span(5400), span(4e5)
    ('90 s', '90 min', '4.6 days')
    """
    unit, name = next((unit for unit in UNITS if seconds >= 2 * unit[0]), UNITS[-1])
    value = seconds / unit
    return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"
