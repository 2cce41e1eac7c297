"""What `dvc repro` would do, and what it would cost, before it starts: `python -m llmrl.plan [--parts]`.

params.yaml + DVC's status + a model's config.json + runs/ -> stages, rows, steps, memory, disk, hours

No model is loaded, and neither torch nor TRL imported.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from llmrl import devices, params
from llmrl.base.settings import FOLDERS
from llmrl.data.settings import DATA_SETS, Data
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.plan import costs, fit, memory
from llmrl.plan.memory import Planned
from llmrl.plan.shape import Shape, numbers
from llmrl.training import hardware
from llmrl.training.settings import Settings

BASE = "models/dvc.yaml:base"


def reasons() -> dict[str, list[str]]:
    """Which of its stages DVC would run, and why. Raises InputError where DVC refuses."""
    import networkx  # DVC's graph is one of its
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    found: dict[str, list[str]] = {}
    try:
        with Repo() as repo:
            changes, graph = repo.status(), repo.index.graph
            for stage in graph:
                above = {one.addressing for one in networkx.descendants(graph, stage)} & changes.keys()
                own = [words(entry) for entry in changes.get(stage.addressing, ())]
                if own or above:
                    found[stage.addressing] = own or [f"follows {', '.join(sorted(above))}"]
    except DvcException as error:
        raise InputError(f"dvc status: {error}") from None
    return found


def words(entry: Any) -> str:
    """DVC's nested changes on one line: what happened, and to what."""
    if isinstance(entry, str):
        return entry
    ((kind, changed),) = entry.items()
    grouped: dict[str, list[str]] = {}
    for name, how in changed.items():
        each = {f"{name} {key}": one for key, one in how.items()} if isinstance(how, dict) else {name: how}
        for what, happened in each.items():
            grouped.setdefault(happened, []).append(what)
    return f"{kind}: " + "; ".join(f"{happened} {', '.join(names)}" for happened, names in grouped.items())


def on_machine(device: devices.Machine, settings: Settings, shape: Shape) -> Planned:
    """A stage as it would run on a machine."""
    asked = (settings.own.precision, settings.answers.precision)
    precision, answers = (device.precision if one == "auto" else one for one in asked)
    liger = device.generation >= hardware.TRITON[0] and settings.own.kernels != "torch"
    return Planned(shape, settings, precision, device.kind, answers, liger)


def column(settings: Settings, data: Data, runs: bool, planned: Planned | None, limit: int | None) -> dict[str, str]:
    """What there is to do for a stage and, of a model whose sizes are known, what it takes."""
    stage = STAGES[settings.stage]
    count, number = costs.rows(stage.data, data), costs.steps(settings, data)
    found = {"runs": "yes" if runs else "no: up to date"}
    found |= {"rows": f"{count:,}" if count else "all", "steps": f"{number:,}" if number else "?"}
    if number:
        tokens = number * settings.own.batch * stage.sides * memory.length(settings)
        found["tokens at most"] = f"{tokens / 1e6:,.1f} M"
    if planned:
        (moment, held), said = memory.fullest(planned), costs.said(planned, data)
        found["parameters"] = f"{planned.parameters / 1e6:,.2f} M"
        if planned.lora:
            found["of which trained"] = f"{numbers(planned.trained) / 1e6:,.2f} M"
        found |= {"memory expected": fit.size(memory.total(held)), "most of it": moment}
        if limit is not None:
            found["fits"] = "yes" if memory.total(held) <= limit else "no"
        found["disk"] = said["disk"]
        if "time" in said:
            found["time"], found["time is"] = said["time"].split(", ", 1)
    return found


def add_rows(table: Table, columns: list[dict[str, str]]) -> None:
    """Add a row for each name that a column has."""
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))


def in_parts(stages: list[Planned]) -> Table:
    """What takes the memory at the moment at which most is held, what is held at each moment, and the disk."""
    table = Table("", *STAGES, box=box.SIMPLE_HEAD)
    for title, columns in {
        "memory at the peak": [memory.fullest(one)[1] for one in stages],
        "memory while": [{name: memory.total(held) for name, held in memory.moments(one).items()} for one in stages],
        "disk": [costs.disk(one) for one in stages],
    }.items():
        table.add_section()
        table.add_row(f"[bold]{title}")
        add_rows(table, [{f"  {name}": fit.size(taken) for name, taken in one.items() if taken} for one in columns])
    return table


def show(all_parts: bool) -> None:
    """Print the plan for this folder and machine. Raises InputError where params.yaml has mistakes, or DVC refuses."""
    experiment, why, device = params.experiment(), reasons(), devices.machine()
    source, data, gib = experiment.model.source, experiment.data, experiment.run.memory_gib
    stale = any("params.yaml model" in one for one in why.get(BASE, ()))  # models/base is of another source
    folders = ([] if stale else ["models/base"]) + ([FOLDERS[source]] if source in FOLDERS else [])
    file = next((file for folder in folders if (file := Path(folder, "config.json")).exists()), None)
    config = json.loads(file.read_text()) if file else {}
    shape = Shape.of(config)
    stages = {name: on_machine(device, one, shape) for name, one in experiment.stages.items()} if shape else {}
    limit, whose = (device.memory, device.name) if gib is None else (int(gib * fit.GIB), "run.memory_gib")
    columns = [column(one, data, name in why, stages.get(name), limit) for name, one in experiment.stages.items()]

    console, table = Console(highlight=False, soft_wrap=True), Table("", *STAGES, box=box.SIMPLE_HEAD)
    console.print(f"model   {source}" + (f", by {file}" if file else ""))
    room = f"{fit.size(limit)} by {whose}" if limit is not None else "no limit of memory: run.memory_gib sets one"
    console.print("; ".join((f"device  {device.name}, {device.precision}", room, *device.unknown)))
    if not stages:
        missing = f"{source} is not here yet: `dvc repro models/dvc.yaml` fetches it; its size, memory and time follow"
        unknown = f"its architecture, {config.get('model_type')}, is none whose memory is known here"
        console.print(unknown if file else missing)
    add_rows(table, columns)
    console.print(table)
    for name in (BASE, *(f"data/dvc.yaml:prepare@{one}" for one in DATA_SETS), *STAGES):
        if name in why:
            console.print(f"{name} would run: {'. '.join(why[name])}")
    for one in stages.values():
        if said := fit.shortage(one, limit, whose):
            console.print(said)
    if stages and all_parts:
        console.print(in_parts([*stages.values()]))
    if stages:
        console.print("Memory is arithmetic (docs/memory.md), with every row as long as it may be.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmrl.plan", description="What `dvc repro` would do, and cost.")
    parser.add_argument("--parts", action="store_true", help="what takes the memory and the disk, part by part")
    arguments = parser.parse_args()
    with reported():
        show(arguments.parts)


if __name__ == "__main__":
    main()
