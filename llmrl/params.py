"""The settings of an experiment: params.yaml, checked, and what each trainer makes of it.

params.yaml -> Settings of a stage        python -m llmrl.params prints them all
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrl import launch
from llmrl.checks import PATH, check
from llmrl.errors import reported
from llmrl.schema import names_of
from llmrl.sections import OWN, STAGES, Answers, Data, Grpo, Model, Run, Settings, Source


def stage(name: str, path: Path = PATH) -> Settings:
    """The resolved settings of a stage. Raises InputError like `check`."""
    tree = check(path)
    merged = {"lr_scale": 1.0, **tree["train"], **tree[name]}
    own = names_of(OWN[name])
    return Settings(
        stage=name,
        lr=merged["lr"] * merged["lr_scale"],
        own=Grpo(**{key: value for key, value in merged.items() if key in own}),
        trl={key: value for key, value in merged.items() if key not in own},
        answers=answers(tree),
        run=Run(**tree["run"]),
        processes=launch.processes(tree["launch"]),
    )


def answers(tree: dict[str, Any]) -> Answers:
    """The protocol of the answers, alike in all stages: its precision, where nothing is said, that of `train`."""
    protocol = Answers(**tree["answers"])
    asked = tree["train"].get("precision", "auto") if protocol.precision == "auto" else protocol.precision
    return replace(protocol, precision=asked)


def source(name: str, path: Path = PATH) -> tuple[Data, Source]:
    """The settings of the data as a whole and of one data set. Raises InputError like `check`."""
    data = check(path)["data"]
    return Data(**data), Source(**data[name])


def model(path: Path = PATH) -> Model:
    """Where the base model comes from. Raises InputError like `check`."""
    return Model(**check(path)["model"])


def main() -> None:
    """Print what each trainer will get, or every mistake."""
    from rich.console import Console
    from rich.table import Table

    with reported():
        stages = [stage(name) for name in STAGES]
    columns = [settings.tracked for settings in stages]
    table = Table(title=str(PATH), title_justify="left")
    table.add_column("setting", no_wrap=True)
    for name in STAGES:
        table.add_column(name, overflow="fold")
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(name, "") for column in columns]
        table.add_row(name, *(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
