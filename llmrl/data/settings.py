"""The `data` section of params.yaml: where the three data sets come from, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from llmrl import sources
from llmrl.fields import SHARE, Bound, Found, Keys, above, as_yaml, at_least, english

# What the rows of each data set consist of: `columns` maps these names to a source's own.
COLUMNS = {
    "sft": ("messages", "prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "prompts": ("prompt", "solution"),
}
DATA_SETS = tuple(COLUMNS)
SPLIT = Bound(
    lambda value: 0 < value < 1,
    "between 0 and 1, neither of them",
    "is not between 0 and 1: there must be rows to train on and rows held out",
)


@dataclass(frozen=True)
class Part:
    """One source of rows."""

    source: Annotated[str, "builtin:arithmetic, raw, or a repository of the Hub as owner/name"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
    subset: Annotated[str | None, "of the repository, where it has several"] = None
    split: Annotated[str, "the repository's split that is trained on; never a test split"] = "train"
    columns: Annotated[dict[str, str], "our column names to the source's own"] = field(default_factory=dict)
    weight: Annotated[float, above(0), "its share of a mixture"] = 1.0


@dataclass(frozen=True)
class Source:
    """Where one data set comes from, and how many of its rows are used."""

    source: Annotated[str | list[Part], "builtin:arithmetic, raw, a repository of the Hub; or a list of several to mix"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
    subset: Annotated[str | None, "of the repository, where it has several"] = None
    split: Annotated[str, "the repository's split that is trained on; never a test split"] = "train"
    rows: Annotated[int | None, at_least(1), "to train on; null for all"] = None
    eval_rows: Annotated[int | None, at_least(1), "held out; null for all"] = None
    columns: Annotated[dict[str, str], "our column names to the source's own"] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """The sources it is mixed from: one, where there is no list of them."""
        if isinstance(self.source, list):
            return self.source
        return [Part(self.source, self.revision, self.subset, self.split, self.columns)]


@dataclass(frozen=True)
class Data:
    """What the three data sets share, and each of them."""

    seed: Annotated[int, at_least(0), "of the built-in task"]
    salt: Annotated[str, "with a row's prompt, decides the side of the split it falls on"]
    eval_share: Annotated[float, SPLIT, "of all prompts, held out from all three sets"]
    max_defective: Annotated[float, SHARE, "a larger share of defective rows stops `prepare`"]
    sft: Source
    preference: Source
    prompts: Source


def wrong(name: str, section: dict[str, Any]) -> Found:
    """What does not go together in the section of a data set, whose values may be of any type."""
    places: list[tuple[Keys, Any]] = [((), section)]
    if isinstance(section.get("source"), list):
        if not section["source"]:
            yield ("source",), " is an empty list: there is nothing to mix."
        single: dict[str, Any] = {"revision": None, "subset": None, "split": "train", "columns": {}}
        for own, none in single.items():
            if section.get(own, none) != none:
                yield (own,), " is not set here: each source in the list has its own."
        places += [(("source", place), part) for place, part in enumerate(section["source"])]
    for here, part in places:
        if not isinstance(part, dict):
            yield here, f": {as_yaml(part)} is {english(type(part))}, not a map with source, revision, weight, …."
            continue
        yield from (((*here, *keys), text) for keys, text in sources.wrong("data", part))
        columns = part.get("columns")
        for ours, theirs in columns.items() if isinstance(columns, dict) else ():
            if ours not in COLUMNS[name]:
                text = f" is no column of this data set, which has {', '.join(COLUMNS[name])}: write ours: yours."
                yield (*here, "columns", ours), text
            elif not isinstance(theirs, str):
                text = f": {as_yaml(theirs)} is {english(type(theirs))}, not the name of a column."
                yield (*here, "columns", ours), text
    parts = [part for _, part in places[1:] or places]
    named = [str(part["source"]) for part in parts if isinstance(part, dict) and "source" in part]
    for limit in ("rows", "eval_rows"):
        if section.get(limit) is None and named and all(source.startswith("builtin:") for source in named):
            yield (limit,), " is missing: a built-in task has no end."
