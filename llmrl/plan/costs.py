"""What a stage costs: rows, steps, disk, hours; in words, before it starts."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from llmrl.graph import STAGES
from llmrl.memory import formula
from llmrl.memory.formula import Parts, Planned
from llmrl.memory.shape import FLOAT, numbers
from llmrl.plan import fit, past
from llmrl.training.settings import Settings

if TYPE_CHECKING:
    from llmrl.data.settings import Data

UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
# The assumption: floating-point operations a second that a training reaches. A core of a server did 50e9 in float32,
# and twice that in bfloat16 (two cores, 135 M parameters); of a GPU of the 6 GB class, 30 % of 25e12.
CORE, GPU = 50e9, 0.3 * 25e12
LOADING = 4  # seconds: loading a model and writing it
# Seconds a layer at least takes for one more token, of however many sequences; on CUDA as the kernels were launched on
# an H100, one by one or, by cuda_graphs, recorded: of SmolLM2-135M 2.1 ms and 0.09, of Qwen2.5-0.5B 1.9 and 0.11.
LAYER = {"cpu": 0.0005, "cuda": 0.002, "mps": 0.001}
RECORDED = 0.0001
READ = 250e9  # bytes a second that a GPU of the 6 GB class reads of its memory


class Time(NamedTuple):
    """What a stage takes, and by what that is known."""

    seconds: float
    how: str  # measured | assumed
    by: str  # the past run, or the assumption and why there is none


def said(planned: Planned, data: Data, device: str) -> dict[str, str]:
    """What a stage takes on a device of that name, in words: memory, disk and, where the rows that decide it are known,
    time, after which comes how it is known. `data` has the numbers of rows that there are, as far as they are known.
    """
    found = {"memory": fit.breakdown(planned), "disk": fit.size(formula.total(disk(planned)))}
    if taken := time(planned, data, device):
        found["time"] = f"{span(taken.seconds)}, {taken.how}: {taken.by}"
    return found


def prepared(data: Data, but: Collection[str] = ()) -> Data:
    """The settings with the numbers of rows that `prepare` wrote, of those data sets that lie here, but for some. Of
    pairs that a policy's answers are to become, the most there can be.
    """
    found, sampled = {}, data.preference.sampled
    for name in {stage.data for stage in STAGES.values()} - {*but}:
        folder = Path("data", "pairs" if name == "preference" and sampled else name)
        files = {"rows": folder / "train.parquet", "eval_rows": folder / "eval.parquet"}
        counts = {key: pq.ParquetFile(file).metadata.num_rows for key, file in files.items() if file.exists()}
        found[name] = replace(getattr(data, name), **counts)
    data = replace(data, **found)
    if sampled and "preference" in but:
        both = (data.preference.rows, data.prompts.rows), (data.preference.eval_rows, data.prompts.eval_rows)
        rows, eval_rows = (most_pairs(asked, prompts, data.preference.pairs) for asked, prompts in both)
        data = replace(data, preference=replace(data.preference, rows=rows, eval_rows=eval_rows))
    return data


def most_pairs(asked: int | None, prompts: int | None, each: int) -> int | None:
    """The most pairs that there can be of so many prompts, where so many are asked for; None where neither is known."""
    return min((one for one in (asked, prompts and prompts * each) if one is not None), default=None)


def steps(settings: Settings, data: Data) -> int | None:
    """Optimizer steps; where epochs decide, the most there can be, as rows are left out that are too long, packed, or
    not worth practising on; None where they follow from a number of rows that is not known yet.
    """
    if (limit := settings.option("max_steps")) > 0:
        return limit
    stage = STAGES[settings.stage]
    if (count := getattr(data, stage.data).rows) is None:
        return None
    again = settings.option("num_generations") * settings.option("num_iterations") if stage.generates else 1
    return math.ceil(settings.option("num_train_epochs") * -(-count * again // settings.own.batch))


def disk(planned: Planned) -> Parts:
    """The bytes that a stage writes: what stays, and what goes when DVC has recorded it."""
    lora, limit = planned.settings.own.lora, planned.settings.run.save_total_limit
    trained = FLOAT * numbers(planned.trained)
    follows = FLOAT * planned.parameters if planned.settings.trl.get("sync_ref_model") else 0
    each = 2 if lora and lora.merge != "float32" else FLOAT
    model = each * planned.parameters + (trained if lora else 0)
    return {
        "model": model,
        "its copy in DVC's cache": model,
        # One more while it is written.
        "checkpoints, while it runs": (limit + 1) * (trained + formula.states(planned) + follows),
        "its copy in .llmrl, while it runs": model,
    }


def time(planned: Planned, data: Data, device: str) -> Time | None:
    """The time of all steps and of all around them; None where it follows from a number of rows that is not known yet.

    By past runs on this machine, on a device of that name; where none is alike, by arithmetic.
    """
    settings, stage = planned.settings, planned.stage
    if (number := steps(settings, data)) is None:
        return None
    seconds, by = past.by_past_runs(planned, number, data, device)
    if seconds is not None:
        return Time(seconds, "measured", by)
    judged = stage.generates and settings.own.pass_rate and data.prompts.rows is None
    if judged or (stage.answers and data.prompts.eval_rows is None):
        return None
    seconds, source = assumed(planned, number, data)
    return Time(seconds, "assumed", f"{source}; {by}")


def assumed(planned: Planned, number: int, data: Data) -> tuple[float, str]:
    """The seconds of so many steps, and of all around them, where no past run tells; and what is assumed. The numbers
    of prompts to judge and to answer must be known.
    """
    settings, stage, protocol = planned.settings, planned.stage, planned.settings.answers
    speed, tokens = speed_of(planned), partial(token_seconds, planned)
    seconds = past.START + LOADING + number * operations(planned) / speed
    saved = replace(planned, saved=True)
    if stage.generates:  # completions, and the answers by which prompts are judged
        each = planned.generated * settings.processes
        new, rounds = settings.option("max_completion_length"), settings.own.batch / each
        seconds += number * rounds * tokens(planned.generated, new, formula.by_graph(planned) or planned.by_vllm)
        if settings.own.pass_rate:
            judged = max(1, protocol.batch // settings.own.pass_samples)
            at_once = max(protocol.batch, settings.own.pass_samples)
            seconds += -(-(data.prompts.rows or 0) // judged) * tokens(at_once, new, formula.by_graph(saved))
    if stage.answers:  # those to held-out prompts: also of what it starts from, unless a stage makes and measures that
        times = 1 if settings.own.init in {f"models/{name}" for name in STAGES} else 2
        rounds = -(-(data.prompts.eval_rows or 0) * (1 + protocol.samples) // protocol.batch)
        seconds += times * rounds * tokens(protocol.batch, protocol.max_new_tokens, formula.by_graph(saved))
    return seconds, assumption(planned)


def speed_of(planned: Planned) -> float:
    """The floating-point operations a second that a stage is assumed to reach."""
    cores = planned.settings.own.threads or os.cpu_count() or 1
    if planned.kind == "cpu":
        return CORE * cores * (1 if planned.precision == "fp32" else 2)
    return GPU * planned.settings.processes


def assumption(planned: Planned) -> str:
    """The same in words."""
    source = f"{speed_of(planned) / 1e12:.2g} TFLOP/s"
    return source + (" (a GPU of the 6 GB class at 30 %)" if planned.kind == "cuda" else "")


def token_seconds(planned: Planned, sequences: int, new: int, recorded: bool) -> float:
    """The seconds of so many new tokens of each of some sequences: a process generates its own."""
    least = (RECORDED if recorded else LAYER[planned.kind]) * planned.shape.layers
    reading = formula.read_a_token(planned, sequences, new) / READ if planned.kind == "cuda" else 0.0
    operations = 2 * planned.parameters * sequences * planned.settings.processes
    return new * max(least, reading, operations / speed_of(planned))


def asking(planned: Planned, data: Data) -> Time | None:
    """The time in which a policy gives the answers that become pairs, to all prompts; None where their number is not
    known yet. By arithmetic alone: each is as long as it may be.
    """
    protocol, samples = planned.settings.answers, data.preference.samples
    if data.prompts.rows is None or data.prompts.eval_rows is None:
        return None
    at_once, saved = max(1, protocol.batch // samples), replace(planned, saved=True)
    rounds = -(-(data.prompts.rows + data.prompts.eval_rows) // at_once)
    each = token_seconds(planned, at_once * samples, protocol.max_new_tokens, formula.by_graph(saved))
    return Time(past.START + LOADING + rounds * each, "assumed", assumption(planned))


def operations(planned: Planned) -> int:
    """The floating-point operations of a step's training, with every row as long as it may be: 2 a parameter and token
    forward, 4 backward, of which 2 are for the weights' gradients; 2 each for a reference, and for what is computed
    anew.
    """
    settings, stage, models = planned.settings, planned.stage, formula.models(planned)
    each = (4 if settings.own.lora else 6) + 2 * bool(settings.option("gradient_checkpointing"))
    each += 2 * (stage.reference or "reference model" in models) + 2 * ("reward model" in models)
    return each * planned.parameters * settings.own.batch * stage.sides * formula.length(settings)


def span(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> span(90), span(5400), span(4e5)
    ('90 s', '90 min', '4.6 days')
    """
    unit, name = next((unit for unit in UNITS if seconds >= 2 * unit[0]), UNITS[-1])
    value = seconds / unit
    return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"
