"""What `dvc repro` would do, and what it would cost, before it starts: `python -m llmrl.plan [--parts]`.

params.yaml + DVC's status + a model's config.json + runs/ -> stages, rows, steps, memory, disk, hours

No model is loaded, and neither torch nor TRL imported.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from llmrl import devices, params
from llmrl.base.settings import FOLDERS
from llmrl.data.settings import DATA_SETS, Data
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.memory import auto, formula
from llmrl.memory.formula import Planned
from llmrl.memory.shape import Shape, numbers
from llmrl.params import Experiment
from llmrl.plan import costs, fit, workspace
from llmrl.plan.costs import Time
from llmrl.plan.workspace import Reasons
from llmrl.training.settings import Settings

UNKNOWN = "?"


def number_of(number: int | None, bound: bool) -> str:
    """A number of rows or steps, or the most there can be.

    >>> number_of(16000, bound=True), number_of(64, bound=False), number_of(None, bound=True)
    ('≤ 16,000', '64', '?')
    """
    return UNKNOWN if number is None else f"{'≤ ' if bound else ''}{number:,}"


def asked(settings: Settings, data: Data, runs: bool, unprepared: list[str]) -> dict[str, str]:
    """What there is to do for a stage, by its settings and the rows that there are, or of `unprepared` sets may be."""
    stage = STAGES[settings.stage]
    rows, number = getattr(data, stage.data), costs.steps(settings, data)
    held_out = min((count for count in (rows.eval_rows, settings.own.eval_rows) if count), default=None)
    found = {
        "runs": "yes" if runs else "up to date",
        "rows": number_of(rows.rows, stage.data in unprepared),
        "held out": number_of(held_out, stage.data in unprepared),
        "steps": number_of(number, settings.option("max_steps") <= 0),
    }
    if number:
        tokens = number * settings.own.batch * stage.sides * formula.length(settings)
        found["tokens at most"] = f"{tokens / 1e6:,.1f} M"
    return found


def asked_for_pairs(experiment: Experiment, data: Data, why: Reasons, device: devices.Machine) -> str:
    """What it takes to have a policy give the answers that become pairs."""
    preference, policy = data.preference, experiment.asked
    if workspace.PAIRS not in why:
        return "up to date"
    config, _ = config_for(workspace.starts_from("pairs", {**experiment.stages, "pairs": policy}), experiment, why)
    shape = config and Shape.of(config)
    time = costs.asking(formula.on_machine(device, policy, shape), data) if shape else None
    prompts = [data.prompts.rows, data.prompts.eval_rows]
    number = number_of(None if None in prompts else preference.samples * sum(filter(None, prompts)), bound=True)
    taken = f"≤ {costs.span(time.seconds)}, {time.how}: {time.by}" if time else f"time: {UNKNOWN}"
    return f"{number} answers of {preference.policy} to data/prompts, {preference.samples} each; {taken}"


def taken(planned: Planned, limit: int | None, time: Time | None) -> dict[str, str]:
    """What a stage of a model whose sizes are known takes."""
    moment, held = formula.fullest(planned)
    found = {"parameters": f"{planned.parameters / 1e6:,.2f} M"}
    if planned.lora:
        found["of which trained"] = f"{numbers(planned.trained) / 1e6:,.2f} M"
    found |= {"memory expected": fit.size(formula.total(held)), "most of it": moment}
    if limit is not None:
        found["fits"] = "yes" if formula.total(held) <= limit else "no"
    found["disk"] = fit.size(formula.total(costs.disk(planned)))
    bound = "≤ " if planned.settings.option("max_steps") <= 0 else ""
    found["time"] = f"{bound}{costs.span(time.seconds)}" if time else UNKNOWN
    return found | {"time is": time.how if time else ""}


def add_rows(table: Table, columns: list[dict[str, str]], indent: int = 0) -> None:
    """Add a row for each name that a column has."""
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(Padding(name, (0, 0, 0, indent)), *(column.get(name, "") for column in columns))


def in_parts(stages: dict[str, Planned]) -> Table:
    """What takes the memory at the moment at which most is held, what is held at each moment, and the disk."""
    table = Table("", *stages, box=box.SIMPLE_HEAD)
    for title, columns in {
        "memory at the peak": [formula.fullest(one)[1] for one in stages.values()],
        "memory while": [
            {name: formula.total(held) for name, held in formula.moments(one).items()} for one in stages.values()
        ],
        "disk": [costs.disk(one) for one in stages.values()],
    }.items():
        table.add_section()
        table.add_row(f"[bold]{title}")
        add_rows(table, [{name: fit.size(taken) for name, taken in one.items() if taken} for one in columns], indent=2)
    return table


def config_for(folder: str, experiment: Experiment, why: Reasons) -> tuple[dict[str, Any] | None, str]:
    """The config.json of the model in a folder that stages start from, where there is one; and where, or why not."""
    source = experiment.model.source if folder == "models/base" else folder
    if (file := workspace.config_file(folder, experiment.model, why)) is None:
        missing = f"{FOLDERS.get(source, source)} has no config.json yet"
        if folder == "models/base" and source not in FOLDERS:
            missing = f"{source} is not here yet: `dvc repro models/dvc.yaml` fetches it"
        return None, f"{missing}; its size, memory and time follow"
    config = json.loads(file.read_text(encoding="utf-8"))
    said = f"{source}, by {file}"
    if Shape.of(config) is None:
        said += f"; its architecture, {config.get('model_type')}, is none whose memory is known here"
    return config, said


def in_numbers(
    stages: dict[str, Settings], configs: dict[str, dict[str, Any]], device: devices.Machine
) -> tuple[dict[str, Settings], list[str]]:
    """The stages' settings with what each `auto` becomes here, for models whose config.json is known; and why not."""
    found, refused = dict(stages), list[str]()
    for name, config in configs.items():
        try:
            found[name] = auto.resolved(stages[name], config, device)
        except InputError as error:
            refused.append(str(error))
    return found, refused


def notes(lines: list[tuple[str, str]]) -> Table:
    """Lines that begin with what they are about, and go on beside it."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for about, text in lines:
        table.add_row(about, Text(text))
    return table


def legend(columns: list[dict[str, str]], unprepared: list[str], times: dict[str, Time]) -> list[tuple[str, str]]:
    """What the signs in the columns mean, and by what the times are known."""
    found = []
    if unprepared:
        sets = ", ".join(f"data/{name}" for name in unprepared)
        asks = f"at most, as params.yaml asks of {sets}, which `dvc repro data/dvc.yaml` is yet to prepare"
        found += [("≤", asks), (UNKNOWN, "not known before that")]
    if any(column["steps"].startswith("≤") for column in columns):
        found.append(("≤ steps", "epochs are of rows that are not too long, which a stage finds when it starts"))
    for how, by in dict.fromkeys((time.how, time.by) for time in times.values()):
        names = [name for name, time in times.items() if (time.how, time.by) == (how, by)]
        found.append((how, f"{', '.join(names)}: {by}"))
    return found


def show(all_parts: bool) -> None:
    """Print the plan for this folder and machine. Raises InputError where params.yaml has mistakes, or DVC refuses."""
    experiment, why, device = params.experiment(), workspace.reasons(), devices.machine()
    unprepared = [name for name in DATA_SETS if workspace.PREPARE[name] in why]
    if experiment.data.preference.sampled and workspace.PAIRS in why and "preference" not in unprepared:
        unprepared.append("preference")
    data = costs.prepared(experiment.data, but=unprepared)
    origins = {name: workspace.starts_from(name, experiment.stages) for name in STAGES}
    models = {folder: config_for(folder, experiment, why) for folder in origins.values()}
    configs = {name: config for name, folder in origins.items() if (config := models[folder][0])}
    settings, refused = in_numbers(experiment.stages, configs, device)
    shapes = {name: shape for name, config in configs.items() if (shape := Shape.of(config))}
    known = [name for name in shapes if not auto.left_open(settings[name])]
    stages = {name: formula.on_machine(device, settings[name], shapes[name]) for name in known}
    times = {name: time for name, one in stages.items() if (time := costs.time(one, data, device.name))}
    gib = experiment.run.memory_gib
    limit, whose = (device.memory, device.name) if gib is None else (int(gib * fit.GIB), "run.memory_gib")
    columns = [asked(one, data, name in why, unprepared) for name, one in settings.items()]
    for name, column in zip(settings, columns, strict=True):
        column |= auto.became(experiment.stages[name], settings[name])
        column |= taken(stages[name], limit, times.get(name)) if name in stages else {}

    console, table = Console(highlight=False), Table("", *STAGES, box=box.SIMPLE_HEAD)
    room = f"{fit.size(limit)} by {whose}" if limit is not None else "no limit of memory: run.memory_gib sets one"
    here = "; ".join((f"{device.name}, {device.precision}", room, *device.unknown))
    console.print(notes([*(("model", said) for _, said in models.values()), ("device", here)]))
    add_rows(table, columns)
    console.print(table)
    if experiment.data.preference.sampled:
        console.print(notes([("pairs", asked_for_pairs(experiment, data, why, device))]), "")
    if lines := legend(columns, unprepared, times):
        console.print(notes(lines), "")
    if why:
        console.print("What DVC would run, and why:")
        console.print(notes([(f"  {name}", ". ".join(why[name])) for name in workspace.IN_ORDER if name in why]), "")
    for text in dict.fromkeys(refused):
        console.print(text)
    for one in stages.values():
        if shortage := fit.shortage(one, limit, whose):
            console.print(shortage, soft_wrap=True)  # its commands are to be copied
    if limit is not None and (more := fit.larger([*stages.values()], limit, data.prompts)):
        said = ", ".join(f"{name} up to {number:,}" for name, number in more.items())
        console.print(f"There is room for more at once, which draws other random numbers: {said}.")
    if stages and all_parts:
        console.print(in_parts(stages))
    if stages:
        said = "Memory is of tensors, by arithmetic (docs/memory.md), with every row as long as it may be"
        console.print(f"{said}{fit.and_the_process(device.kind)}.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmrl.plan", description="What `dvc repro` would do, and cost.")
    parser.add_argument("--parts", action="store_true", help="what takes the memory and the disk, part by part")
    arguments = parser.parse_args()
    with reported():
        show(arguments.parts)


if __name__ == "__main__":
    main()
