"""Print what each trainer gets, in 80 columns, or every mistake."""

from __future__ import annotations

import textwrap
from typing import Any

from llmrl.errors import reported
from llmrl.params import experiment
from llmrl.training.settings import Settings

WIDTH, NAME, VALUE = 80, 28, 12  # of a line, of what precedes its values, and of each in a column


def received(settings: Settings) -> dict[str, str]:
    """What a stage's trainer gets: our settings, and TRL's that are given, of a map each item; the rest is as TRL has
    it.
    """
    decided, found = settings.deciding, dict[str, Any]()
    ours = vars(settings.own).keys() | decided.keys() - settings.defaults.keys()
    for name, value in decided.items():
        if name in ours or name in settings.trl:
            items = {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {}
            found |= items or {name: value}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()}


def alone(name: str, value: str) -> str:
    """A setting with one value; a list that is too long goes on below it."""
    text, below = f"  {name:{NAME - 1}} {value}", " " * (NAME + 2)
    return textwrap.fill(text, WIDTH, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)


def table(stages: dict[str, Settings]) -> list[str]:
    """First what is the same for all, then what is not, in a column a stage; then what has no place there."""
    columns = {name: received(settings) for name, settings in stages.items()}
    alike, unlike, single = [], [], []
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        values = {stage: column[name] for stage, column in columns.items() if name in column}
        distinct = {*values.values()}
        if len(values) == len(columns) and len(distinct) == 1:
            alike.append(alone(name, *distinct))
        elif len(values) > 1 and len(name) < NAME and max(map(len, distinct)) < VALUE:
            cells = "".join(f"{values.get(stage, ''):{VALUE}}" for stage in columns)
            unlike.append(f"  {name:{NAME}}{cells}".rstrip())
        else:
            single += [alone(f"{stage}.{name}", value) for stage, value in values.items()]
    heads = "".join(f"{stage:{VALUE}}" for stage in columns).rstrip()
    return ["all stages", *alike, f"{'each':{NAME + 2}}{heads}", *unlike, "single", *single]


def main() -> None:
    with reported():
        print("\n".join(table(experiment().stages)))


if __name__ == "__main__":
    main()
