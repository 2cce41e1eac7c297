"""The `data` section of params.yaml: where the three data sets come from, and how they are split."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from llmrl import sources
from llmrl.answers import gym
from llmrl.errors import InputError
from llmrl.fields import SHARE, Bound, Found, Keys, above, as_yaml, at_least, at_most, english, fields_of, meant

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
OPTIONS_NOTE = "of a task of reasoning_gym, as in {min_terms: 2, max_digits: 2}; null: its own"
TEMPLATE_NOTE = 'around each row\'s last question: "{question} In short.", with any column by its name'


@dataclass(frozen=True)
class Part:
    """One source of rows."""

    source: Annotated[str, "builtin:arithmetic, a task as reasoning_gym:chain_sum, raw, or a repository as owner/name"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
    subset: Annotated[str | None, "of the repository, where it has several"] = None
    split: Annotated[str, "the repository's split that is trained on; never a test split"] = "train"
    eval: Annotated[str | None, EVAL_NOTE] = None
    columns: Annotated[dict[str, str], COLUMNS_NOTE] = field(default_factory=dict)
    format: Annotated[str | None, FORMAT_NOTE] = None
    system: Annotated[str | None, SYSTEM_NOTE] = None
    template: Annotated[str | None, TEMPLATE_NOTE] = None
    options: Annotated[dict[str, Any] | None, OPTIONS_NOTE] = None
    weight: Annotated[float, above(0), "its share of a mixture"] = 1.0


# What a source in a list has by itself, and a single one beside it.
SHARED = {name: one.default for name, one in fields_of(Part).items() if name not in ("source", "weight")}


@dataclass(frozen=True)
class Source:
    """Where one data set comes from, and how many of its rows are used."""

    source: Annotated[
        str | list[Part],
        "builtin:arithmetic, a task as reasoning_gym:chain_sum, raw, a repository of the Hub; or a list of several",
    ]
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
    options: Annotated[dict[str, Any] | None, OPTIONS_NOTE] = None

    @property
    def parts(self) -> list[Part]:
        """The sources it is mixed from: one, where there is no list of them."""
        if isinstance(self.source, list):
            return self.source
        return [Part(self.source, **{name: getattr(self, name) for name in SHARED})]


@dataclass(frozen=True)
class Preference(Source):
    """Where the pairs come from."""

    policy: Annotated[str, "whose pairs these are: data/preference or, with source: sampled, a model's folder"] = ""
    samples: Annotated[int, at_least(2), at_most(10_000), "answers of this policy to each prompt of data/prompts"] = 8
    pairs: Annotated[int, at_least(1), "the most that are made of the answers to one prompt"] = 2

    @property
    def sampled(self) -> bool:
        """Whether they are made of a policy's answers."""
        return self.source == sources.SAMPLED


OWN_PAIRS = "data/preference"  # the policy of pairs that are the data's
# What pairs of a policy's own answers have beside `source`; all else there is of rows that are read.
OF_SAMPLED = ("source", "rows", "eval_rows", "policy", "samples", "pairs")


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
    preference: Preference
    prompts: Source


def wrong(name: str, section: dict[str, Any]) -> Found:
    """What does not go together in the section of a data set, whose values may be of any type."""
    if name == "preference":
        yield from whose_pairs(section)
        if section.get("source") == sources.SAMPLED:
            return
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
        if part.get("source") == sources.SAMPLED:
            yield (*here, "source"), ": sampled makes pairs of answers: it is for data.preference, alone."
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
        if section.get(limit) is None and named and all(map(sources.made_here, named)):
            yield (limit,), " is missing: a task whose rows are made has no end."


def whose_pairs(section: dict[str, Any]) -> Found:
    """What is wrong with whose pairs data.preference has."""
    sampled, policy = section.get("source") == sources.SAMPLED, section.get("policy")
    known = fields_of(Preference)
    if not policy:
        yield ("policy",), f" is missing: {OWN_PAIRS} or, with source: sampled, a model's folder, as models/sft."
    elif sampled and str(policy).startswith("data/"):
        yield ("policy",), f" (now {as_yaml(policy)}): source: sampled asks a model; name its folder, as models/sft."
    elif not sampled and policy != OWN_PAIRS:
        text = f" (now {as_yaml(policy)}): these pairs are no policy's answers; write {OWN_PAIRS}, or source: sampled."
        yield ("policy",), text
    if sampled:
        idle, why = known.keys() - {*OF_SAMPLED}, "source: sampled reads no rows, it has the prompts of data/prompts"
    else:
        idle, why = {"samples", "pairs"}, "has no effect without source: sampled"
    for key in section:
        if key in idle and section[key] != known[key].default:
            default = known[key].default
            yield (key,), f" (now {as_yaml(section[key])}): {why}; write {as_yaml(default)}, or leave it out."


def meaning(part: dict[str, Any]) -> Found:
    """What is wrong with the evaluation set, the format, the system text, the template and the options of a source."""
    yield from task_options(part)
    # Of these `sources.wrong` has said that there are none.
    made = sources.made_here(str(part.get("source")))
    said = ["subset", "split"] if made or part.get("source") in sources.KNOWN["data"] else []
    if made and part.get("eval") is not None:
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


def task_options(part: dict[str, Any]) -> Found:
    """What is wrong with the task of reasoning-gym that a source names, and its options, which no other source has."""
    source, options = part.get("source"), part.get("options")
    if not isinstance(source, str):
        return
    task = sources.task_named(source)
    if task is None:
        if options is not None:
            yield ("options",), f" (now {as_yaml(options)}): {source} has none, as a task of reasoning_gym has."
        return
    try:
        known = gym.tasks()
    except InputError as error:
        yield ("source",), f": {as_yaml(source)}: {error}"
        return
    if task not in known:
        text = f": {as_yaml(source)}: reasoning_gym has no such task.{meant(task, known, f'{gym.NAME}:')}"
        yield ("source",), text
        return
    unknown = [name for name in options or {} if name not in gym.options(task)] if isinstance(options, dict) else []
    for name in unknown:
        text = f" is no option of {task}, which has {', '.join(gym.options(task))}."
        yield ("options", name), text + meant(name, gym.options(task))
    if isinstance(options, dict | None) and not unknown and (why := gym.why_not(task, options or {})):
        yield ("options",), f" (now {as_yaml(options)}): {task} does not take them: {why}."


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
