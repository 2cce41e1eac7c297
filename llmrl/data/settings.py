"""The `data` section of params.yaml: where the three data sets come from, and how they are split."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from llmrl import sources
from llmrl.errors import InputError
from llmrl.fields import SHARE, Bound, Found, Keys, above, as_yaml, at_least, english, fields_of, meant

# What the rows of each data set consist of: `columns` maps these names to a source's own.
COLUMNS = {
    "sft": ("messages", "prompt", "completion", "system", "tools"),
    "preference": ("prompt", "chosen", "rejected", "system", "tools"),
    "prompts": ("prompt", "solution", "system"),
}
DATA_SETS = tuple(COLUMNS)
SPLIT = Bound(
    lambda value: 0 < value < 1,
    "between 0 and 1, neither of them",
    "is not between 0 and 1: there must be rows to train on and rows held out",
)

EVAL_NOTE = "held out, and nothing else: a file of data/raw/<name>/, or a split of the repository; null: by the hash"
COLUMNS_NOTE = "our column names to the source's own, fields within a column by dots"
FORMAT_NOTE = "a function of llmrl/formats.py that says what a row means; null: its columns do"
SYSTEM_NOTE = "a system text before each conversation that has none"
TEMPLATE_NOTE = 'around each row\'s last question: "{question} In short.", with any column by its name'


@dataclass(frozen=True)
class Part:
    """One source of rows."""

    source: Annotated[str, "builtin:arithmetic, raw, or a repository of the Hub as owner/name"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
    subset: Annotated[str | None, "of the repository, where it has several"] = None
    split: Annotated[str, "the repository's split that is trained on; never a test split"] = "train"
    eval: Annotated[str | None, EVAL_NOTE] = None
    columns: Annotated[dict[str, str], COLUMNS_NOTE] = field(default_factory=dict)
    format: Annotated[str | None, FORMAT_NOTE] = None
    system: Annotated[str | None, SYSTEM_NOTE] = None
    template: Annotated[str | None, TEMPLATE_NOTE] = None
    weight: Annotated[float, above(0), "its share of a mixture"] = 1.0


# What a source in a list has by itself, and a single one beside it.
SHARED = {name: one.default for name, one in fields_of(Part).items() if name not in ("source", "weight")}


@dataclass(frozen=True)
class Source:
    """Where one data set comes from, and how many of its rows are used."""

    source: Annotated[str | list[Part], "builtin:arithmetic, raw, a repository of the Hub; or a list of several to mix"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
    subset: Annotated[str | None, "of the repository, where it has several"] = None
    split: Annotated[str, "the repository's split that is trained on; never a test split"] = "train"
    rows: Annotated[int | None, at_least(1), "to train on; null for all"] = None
    eval_rows: Annotated[int | None, at_least(1), "held out; null for all"] = None
    eval: Annotated[str | None, EVAL_NOTE] = None
    columns: Annotated[dict[str, str], COLUMNS_NOTE] = field(default_factory=dict)
    format: Annotated[str | None, FORMAT_NOTE] = None
    system: Annotated[str | None, SYSTEM_NOTE] = None
    template: Annotated[str | None, TEMPLATE_NOTE] = None

    @property
    def parts(self) -> list[Part]:
        """The sources it is mixed from: one, where there is no list of them."""
        if isinstance(self.source, list):
            return self.source
        return [Part(self.source, **{name: getattr(self, name) for name in SHARED})]


@dataclass(frozen=True)
class Data:
    """What the three data sets share, and each of them."""

    seed: Annotated[int, at_least(0), "of the built-in task"]
    salt: Annotated[str, "with a row's prompt, decides the side of the split it falls on"]
    eval_share: Annotated[float, SPLIT, "of all prompts, held out from all three sets"]
    max_defective: Annotated[float, SHARE, "a larger share of defective rows stops `prepare`, or the stage"]
    max_overlap: Annotated[
        float, SHARE, "a larger share of held-out prompts that stand in training text stops `prepare`"
    ]
    sft: Source
    preference: Source
    prompts: Source


def wrong(name: str, section: dict[str, Any]) -> Found:
    """What does not go together in the section of a data set, whose values may be of any type."""
    places: list[tuple[Keys, Any]] = [((), section)]
    if isinstance(section.get("source"), list):
        if not section["source"]:
            yield ("source",), " is an empty list: there is nothing to mix."
        for own, none in SHARED.items():
            if section.get(own, none) != none:
                yield (own,), " is not set here: each source in the list has its own."
        places += [(("source", place), part) for place, part in enumerate(section["source"])]
    for here, part in places:
        if not isinstance(part, dict):
            yield here, f": {as_yaml(part)} is {english(type(part))}, not a map with source, revision, weight, …."
            continue
        yield from (((*here, *keys), text) for keys, text in sources.wrong("data", part))
        columns = part.get("columns")
        for ours in columns if isinstance(columns, dict) else ():
            if ours not in COLUMNS[name] and part.get("format") is None:
                text = f" is no column of this data set, which has {', '.join(COLUMNS[name])}: write ours: yours."
                yield (*here, "columns", ours), text
        yield from ((((*here, *keys), text)) for keys, text in meaning(part))
    parts = [part for _, part in places[1:] or places]
    named = [str(part["source"]) for part in parts if isinstance(part, dict) and "source" in part]
    for limit in ("rows", "eval_rows"):
        if section.get(limit) is None and named and all(source.startswith("builtin:") for source in named):
            yield (limit,), " is missing: a built-in task has no end."


def meaning(part: dict[str, Any]) -> Found:
    """What is wrong with the evaluation set, the format, the system text and the template of a source."""
    # Of these `sources.wrong` has said that there are none.
    said = ["subset", "split"] if part.get("source") in sources.KNOWN["data"] else []
    if str(part.get("source")).startswith("builtin:") and part.get("eval") is not None:
        said.append("eval")
        yield ("eval",), f" (now {as_yaml(part['eval'])}): {part['source']} has none; write null."
    for key, none in {"eval": "null", "system": "null", "subset": "null", "split": "train"}.items():
        if key not in said and isinstance(part.get(key), str) and not part[key].strip():
            yield (key,), f" is an empty text; write {none}."
    if isinstance(name := part.get("format"), str) and name not in (known := format_names()):
        text = f": {as_yaml(name)} is no function of llmrl/formats.py, which has {', '.join(known)}."
        yield ("format",), text + meant(name, known)
    if isinstance(template := part.get("template"), str):
        try:
            if not fields_of_template(template):
                yield ("template",), f": {as_yaml(template)} holds no question; write {{question}} where it stands."
        except ValueError as error:
            text = f": {as_yaml(template)} is no template: {error}; a brace that is meant as such is written twice."
            yield ("template",), text


def fields_of_template(template: str) -> list[str]:
    """The names in a template. Raises ValueError where it is none."""
    found = []
    for _, name, form, conversion in Formatter().parse(template):
        if name is not None:
            if not name or name.isdigit() or form or conversion:
                raise ValueError("a name is needed between braces")
            found.append(name)
    return found


@cache
def format_names() -> list[str]:
    """The public functions of llmrl/formats.py. Raises InputError where it is not Python."""
    path = Path(sources.__file__).with_name("formats.py")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"llmrl/formats.py:{error.lineno}: {error.msg}.") from None
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
