"""What `dvc repro` would do, and what it would cost, before it starts: `python -m llmrl.plan [--parts]`.

params.yaml + DVC's status + a model's config.json + runs/ -> stages, rows, steps, memory, disk, hours

No model is loaded, and neither torch nor TRL imported.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from llmrl import fit, hardware, memory, params, past
from llmrl.errors import InputError, reported
from llmrl.memory import FLOAT, Parts, Shape
from llmrl.sections import STAGES, Settings

DATA = {"sft": "sft", "reward": "preference", "dpo": "preference", "grpo": "prompts"}
BUILT_IN = {"builtin:tiny": Path("models/tiny"), "raw": Path("models/raw")}
BASE = "models/dvc.yaml:base"
UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Machine:
    """What the plan is for: the device a stage would use, its precision for `auto`, its bytes (None: no limit), and
    what could not be asked of it.
    """

    kind: str
    name: str
    precision: str
    memory: int | None
    unknown: tuple[str, ...] = ()
    triton: bool = False  # whether its kernels run, as Liger's do


def machine() -> Machine:
    """This machine, asked of the driver's own tool, as torch would cost seconds."""
    first = next(iter(hardware.devices()), "")
    for card in hardware.cards() if first else ():
        if card.has(first):
            return gpu(card, first)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Machine("mps", "Apple GPU", "fp32", None)
    unknown = (f"CUDA_VISIBLE_DEVICES names {first}, of which nvidia-smi says nothing",) if first else ()
    return Machine("cpu", "CPU", "fp32", None, unknown)


def gpu(card: hardware.Card, device: str) -> Machine:
    """A card, or the slice of it that the device is."""
    question = ("-i", card.uuid, "--query-gpu=compute_cap,memory.free", "--format=csv,noheader,nounits")
    answer = hardware.driver(*question) or ["no answer, no answer"]
    capability, free = (part.strip(" []") for part in answer[0].split(","))  # [N/A], [Insufficient Permissions]
    name, memory, unknown = whole(card, free) if device == card.uuid else slice_of(card, device)
    generation = capability.partition(".")[0]
    if not generation.isdecimal():
        unknown += (f"nvidia-smi on its compute capability: {capability}, so fp16 is assumed, which all cards have",)
    number = int(generation) if generation.isdecimal() else 0
    return Machine("cuda", name, "bf16" if number >= 8 else "fp16", memory, unknown, number >= hardware.TRITON[0])


def whole(card: hardware.Card, free: str) -> tuple[str, int | None, tuple[str, ...]]:
    """A card's name, what is free on it, and what is not known of that."""
    if free.isdecimal():
        return card.name, int(free) * 2**20, ()
    return card.name, None, (f"nvidia-smi on its free memory: {free}",)


def slice_of(card: hardware.Card, device: str) -> tuple[str, int | None, tuple[str, ...]]:
    """The same of a slice, of which nvidia-smi tells the profile alone: 1g.10gb has 10 GiB, or up to an eighth less."""
    profile = card.slices.get(device)
    if not profile or not (size := re.search(r"(\d+)gb", profile)):
        return f"{device} of {card.name}", None, ("nvidia-smi does not tell its memory",)
    unknown = (f"that is the most {profile} can have, nvidia-smi does not tell what is free",)
    return f"MIG {profile} of {card.name}", int(size[1]) * fit.GIB, unknown


@dataclass(frozen=True)
class Status:
    """What DVC says of its stages: the changes of each that has some, and what each depends on."""

    changes: dict[str, list[Any]]
    upstream: dict[str, set[str]]

    def why(self, name: str) -> list[str]:
        """Why `dvc repro` would run a stage, in DVC's words; nothing where it would not."""
        found = []
        for entry in self.changes.get(name, []):
            if isinstance(entry, str):
                found.append(entry)
                continue
            for what, changed in entry.items():
                found.append(f"{what}: {words(changed)}")
        waits = [other for other in sorted(self.upstream.get(name, ())) if other in self.changes]
        return found or ([f"follows {', '.join(waits)}"] if waits else [])


def words(changed: Any) -> str:
    """DVC's nested changes on one line: what happened, and to what."""
    if not isinstance(changed, dict):
        return str(changed)
    grouped: dict[str, list[str]] = {}
    for name, how in changed.items():
        if isinstance(how, dict):
            for key, inner in how.items():
                grouped.setdefault(str(inner), []).append(f"{name} {key}")
        else:
            grouped.setdefault(str(how), []).append(name)
    return "; ".join(f"{how} {', '.join(names)}" for how, names in grouped.items())


def status() -> Status:
    """DVC's status of the whole graph. Raises InputError where DVC refuses."""
    import networkx  # DVC's graph is one of its
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            changes = repo.status()
            graph = repo.index.graph
            above = {stage.addressing: networkx.descendants(graph, stage) for stage in graph}
    except DvcException as error:
        raise InputError(f"dvc status: {error}") from None
    return Status(changes, {name: {stage.addressing for stage in stages} for name, stages in above.items()})


def config(found: Status) -> tuple[dict[str, Any] | None, str]:
    """The config of the model that the pipeline starts from, and where it was read; None where it is not here yet."""
    source = params.model().source
    stale = any("params.yaml model" in why for why in found.why(BASE))  # models/base is of another source
    places = [] if stale else [Path("models/base")]
    places += [BUILT_IN[source]] if source in BUILT_IN else []
    for place in places:
        if (place / "config.json").exists():
            return json.loads((place / "config.json").read_text()), str(place)
    return None, f"{source} is not here yet: `dvc repro models/dvc.yaml` fetches it; its size, memory and time follow"


@cache
def rows(name: str) -> int | None:
    """The rows to train on that `prepare` wrote, else those asked for; None for all there are."""
    import pyarrow.parquet as pq

    file = Path("data", name, "train.parquet")
    return pq.ParquetFile(file).metadata.num_rows if file.exists() else params.source(name)[1].rows


def steps(settings: Settings) -> int | None:
    """Optimizer steps; None where they follow from a number of rows that is not known yet."""
    if (limit := settings.trl.get("max_steps", -1)) > 0:
        return limit
    if (count := rows(DATA[settings.stage])) is None:
        return None
    sequences = count * (settings.trl.get("num_generations", 8) if settings.stage == "grpo" else 1)
    return math.ceil(settings.trl.get("num_train_epochs", 3) * -(-sequences // settings.own.batch))


def disk(stage: memory.Stage) -> Parts:
    """The bytes that a stage writes: what stays, and what goes when DVC has recorded it."""
    lora, limit = stage.settings.lora, stage.settings.run.save_total_limit
    trained = FLOAT * memory.numbers(stage.trained)
    each = 2 if lora and lora.merge != "float32" else FLOAT
    model = each * stage.parameters + (trained if lora else 0)
    checkpoint = trained + stage.states()
    return {
        "model": model,
        "its copy in DVC's cache": model,
        "checkpoints, while it runs": (limit + 1) * checkpoint,  # one more while the next is written
        "its copy in .llmrl, while it runs": model,
    }


def stage_of(settings: Settings, shape: Shape, device: Machine) -> memory.Stage:
    """The stage as it would run on a device."""
    asked = (settings.own.precision, settings.answers.precision)
    precision, answers = (device.precision if one == "auto" else one for one in asked)
    return memory.Stage(
        shape, settings, precision, device.kind, answers, device.triton and settings.own.kernels != "torch"
    )


def limit_of(settings: Settings, device: Machine) -> tuple[int | None, str]:
    """The bytes a stage may take, and who says so."""
    if settings.run.memory_gib is not None:
        return int(settings.run.memory_gib * fit.GIB), "run.memory_gib"
    return device.memory, device.name


def facts(settings: Settings, shape: Shape | None, device: Machine, found: Status) -> dict[str, str]:
    """A stage's column."""
    name, count, number = settings.stage, rows(DATA[settings.stage]), steps(settings)
    column = {
        "runs": "yes" if found.why(name) else "no: up to date",
        "rows": f"{count:,}" if count else "all",
        "steps": f"{number:,}" if number else "?",
    }
    if number:
        tokens = number * settings.own.batch * memory.sides(settings) * memory.length(settings)
        column["tokens at most"] = f"{tokens / 1e6:,.1f} M"
    if shape is None:
        return column
    stage = stage_of(settings, shape, device)
    limit, _ = limit_of(settings, device)
    trained = memory.numbers(stage.trained)
    column["parameters"] = f"{stage.parameters / 1e6:,.2f} M"
    if settings.lora:
        column["of which trained"] = f"{trained / 1e6:,.2f} M"
    moment, parts = stage.peak()
    expected = sum(parts.values())
    column["memory expected"] = fit.size(expected)
    column["most of it"] = moment
    if limit is not None:
        column["fits"] = "yes" if expected <= limit else "no"
    column["disk"] = fit.size(sum(disk(stage).values()))
    if number:
        time = time_of(stage, number)
        column["time"], column["time is"] = span(time.seconds), time.source
    return column


def time_of(stage: memory.Stage, number: int) -> past.Time:
    """How long so many steps of it take, and the answers before and after."""
    held_out = params.source("prompts")[1].eval_rows or 0
    cores = stage.settings.own.threads or os.cpu_count() or 1
    return past.expected(stage, number, cores, rows("prompts") or 0, held_out)


def span(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> span(90), span(5400), span(4e5)
    ('90 s', '90 min', '4.6 days')
    """
    unit, name = next((unit for unit in UNITS if seconds >= 2 * unit[0]), UNITS[-1])
    value = seconds / unit
    return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"


def show(parts: bool) -> None:
    """Print the plan."""
    settings = [params.stage(name) for name in STAGES]
    found, device = status(), machine()
    values, place = config(found)
    shape = Shape.of(values) if values else None
    console = Console(highlight=False)
    limit, whose = limit_of(settings[0], device)
    console.print(f"model   {params.model().source}" + (f", by {place}/config.json" if values else ""))
    room = f"{fit.size(limit)} by {whose}" if limit is not None else "no limit of memory: run.memory_gib sets one"
    console.print("; ".join((f"device  {device.name}, {device.precision}", room, *device.unknown)), soft_wrap=True)
    if values and shape is None:
        place = f"its architecture, {values.get('model_type')}, is none whose memory is known here"
    if shape is None:
        console.print(place)
    table = Table("", *STAGES, box=box.SIMPLE_HEAD)
    columns = [facts(one, shape, device, found) for one in settings]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    console.print(table)
    for name in [BASE, *(f"data/dvc.yaml:prepare@{one}" for one in ("sft", "preference", "prompts")), *STAGES]:
        if why := found.why(name):
            console.print(f"{name} would run: {'. '.join(why)}", soft_wrap=True)
    if shape is None:
        return
    stages = [stage_of(one, shape, device) for one in settings]
    for one in stages:
        allowed, of = limit_of(one.settings, device)
        if allowed is not None and (said := fit.refusal(one, allowed, of)):
            console.print(said, soft_wrap=True)
    if parts:
        console.print(table_of(stages))
    console.print("Memory is arithmetic (docs/memory.md), with every row as long as it may be.")


def table_of(stages: list[memory.Stage]) -> Table:
    """What takes the memory at the moment at which most is held, what is held at each moment, and the disk."""
    sections = (
        ("memory at the peak", [stage.peak()[1] for stage in stages]),
        ("memory while", [{name: sum(one.values()) for name, one in stage.moments().items()} for stage in stages]),
        ("disk", [disk(stage) for stage in stages]),
    )
    table = Table("", *(stage.settings.stage for stage in stages), box=box.SIMPLE_HEAD)
    for title, columns in sections:
        table.add_section()
        table.add_row(f"[bold]{title}")
        for name in dict.fromkeys(name for column in columns for name, taken in column.items() if taken):
            table.add_row(f"  {name}", *(fit.size(column[name]) if column.get(name) else "" for column in columns))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmrl.plan", description="What `dvc repro` would do, and cost.")
    parser.add_argument("--parts", action="store_true", help="what takes the memory and the disk, part by part")
    arguments = parser.parse_args()
    with reported():
        show(arguments.parts)


if __name__ == "__main__":
    main()
