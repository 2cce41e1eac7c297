"""What is wrong with a params.yaml: every mistake with its file, line, key, value and what would be right.

The whole file is checked whichever stage asks, so that a night of training never ends in a typo of the last section.
Nothing heavy is imported: the check costs a fraction of a second, on any machine.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from collections.abc import Iterable
from dataclasses import MISSING, fields
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from llmrl import combinations, launch
from llmrl.errors import InputError
from llmrl.schema import (
    COLUMNS,
    DECIDED,
    Names,
    choices,
    names_of,
    nonsense,
    optimizer_packages,
    reward_names,
    trackers,
)
from llmrl.sections import (
    DATA_SETS,
    SOURCES,
    STAGES,
    TESTS,
    Answers,
    Data,
    Lora,
    Model,
    Part,
    Run,
    Source,
    Top,
    Train,
    of_hub,
    sections,
    stage_names,
)

PATH = Path("params.yaml")
RAW = {"model": "models/raw/", "data": "data/raw/<name>/"}
Keys = tuple[str | int, ...]  # names of sections, and places in lists
INTERVAL = re.compile(r"\d+(\.\d+)? ?min")
NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")
PACKAGES = {"azure_ml": "azureml", "flyte": "flytekit"}  # trackers whose package has another name


def read(path: Path = PATH) -> CommentedMap:
    """params.yaml as YAML 1.2, so that the 1e-05 which DVC writes is a number; keys remember their lines."""
    content = b""
    try:
        content = path.read_bytes()
        tree = YAML(typ="rt").load(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. `git checkout {path}` or a profile of profiles/ restores it.") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8, in which the file must be saved.") from None
    except DuplicateKeyError as error:
        raise InputError(f"{path}:{error.problem_mark.line + 1}: {error.problem.split(' with ')[0]}.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}.") from None
    if not isinstance(tree, CommentedMap):
        raise InputError(f"{path}:1: there are no sections; profiles/ has whole examples.")
    return tree


def plain(value: Any) -> Any:
    """Ruamel's containers and numbers, which remember their formatting, as Python's own."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


class Checker:
    """Collects what is wrong with one params.yaml, a line each: file, line, key, value, what would be right."""

    def __init__(self, path: Path, tree: CommentedMap) -> None:
        self.path, self.tree = path, tree
        self.mistakes: list[tuple[int, str]] = []

    def say(self, keys: Keys, text: str) -> None:
        section: Any = self.tree
        line = 0
        for name in keys:
            if not isinstance(section, CommentedMap | CommentedSeq):
                break
            key = name if isinstance(name, int) else next((key for key in section if str(key) == name), None)
            if key is None:
                break
            # A key merged in by << has no line of its own.
            line, section = section.lc.data.get(key, [line])[0], section[key]
        self.mistakes.append((line + 1, f"{self.path}:{line + 1}: {dotted(keys)}{text}"))

    def finish(self) -> None:
        """Raise InputError with all mistakes, in the order of the file's lines."""
        if self.mistakes:
            ordered = sorted(self.mistakes, key=lambda mistake: mistake[0])
            raise InputError("\n".join(dict.fromkeys(text for _, text in ordered)))

    def section(self, keys: Keys, section: dict, names: Names, cls: type) -> None:
        """A section holds all that `cls` must have, and nothing that is not among the names."""
        self.names(keys, section, names)
        for f in fields(cls):
            if f.default is MISSING and f.default_factory is MISSING and f.name not in section:
                self.say((*keys, f.name), " is missing.")

    def names(self, keys: Keys, section: dict, valid: Names) -> None:
        """Each name is known, and its value one it can have."""
        stage = str(keys[0]) if keys and keys[0] in STAGES else None
        for name, value in section.items():
            if name not in valid:
                self.unknown((*keys, name), value, valid)
            elif reason := refusal(name, value, valid[name], choices(name, stage)):
                self.say((*keys, name), f": {reason}")

    def unknown(self, keys: Keys, value: Any, valid: Names) -> None:
        *section, name = keys
        homes = [home for home, names in sections().items() if name in names]
        if name in DECIDED:
            reason = f"is not set here: {DECIDED[name]} decides it."
        elif name == "lr" and section and section[0] in STAGES:
            reason = "is not set here: train.lr is one dial for all; lr_scale sets this stage's share of it."
        elif homes:
            # What all stages may have belongs in train.
            reason = f"is not set here; it belongs in {'train' if 'train' in homes else ' or '.join(homes)}."
        else:
            reason = f"is not a setting.{meant(name, valid, dotted((*section, '')))}"
        now = "" if isinstance(value, dict | list) else f" (now {shown(value)})"
        self.say(keys, f"{now} {reason}")


def dotted(keys: Keys) -> str:
    """Keys as a user writes them: data.sft.source[0].revision."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def refusal(name: str, value: Any, kinds: tuple[type, ...] | None, allowed: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a value under a known name, or None: its type, its choice, its size."""
    if not fits(value, kinds):
        return f"{shown(value)} is {english(type(value))}, not {expected(value, kinds)}."
    for one in many(value) if allowed else ():
        if one not in allowed:
            return f"{shown(one)} is none of {', '.join(allowed)}.{meant(one, allowed)}"
    if fits(value, (int, float)) and (reason := nonsense(name, value)):
        return f"{shown(value)} {reason}."
    return None


def meant(name: Any, valid: Iterable[str], prefix: str = "") -> str:
    """A question for the nearest valid name, where one is near."""
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f" Did you mean {prefix}{near[0]}?" if near else ""


def fits(value: Any, kinds: tuple[type, ...] | None) -> bool:
    """Whether a value is of one of the types; None admits any."""
    # YAML's true is an int to Python, and no number to a user.
    return kinds is None or (bool in kinds if isinstance(value, bool) else isinstance(value, kinds))


def many(value: Any) -> list[Any]:
    """A list as it stands, nothing as no value, anything else as one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def shown(value: Any) -> str:
    """A value as YAML has it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def english(kind: type) -> str:
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a map", list: "a list"}
    return (names | {type(None): "null"}).get(kind, f"a {kind.__name__}")


def expected(value: Any, kinds: tuple[type, ...] | None) -> str:
    """The types in words, and the commonest slip: a number in quotes."""
    kinds = kinds or ()
    words = " or ".join(english(kind) for kind in kinds if not (kind is int and float in kinds))
    quoted = isinstance(value, str) and NUMBER.fullmatch(value) and (int in kinds or float in kinds)
    return words + ("; write it without quotes" if quoted else "")


def check(path: Path = PATH) -> dict[str, Any]:
    """The whole of params.yaml as plain values.

    Raises InputError naming every mistake, with file, line, key, value and what would be right.
    """
    raw = read(path)
    tree = plain(raw)
    checker = Checker(path, raw)
    checker.section((), tree, names_of(Top), Top)
    given = {name: value for name, value in tree.items() if isinstance(value, dict)}
    for name, cls in {"model": Model, "data": Data, "train": Train, "answers": Answers, "run": Run}.items():
        if name in given:
            checker.section((name,), given[name], sections()[name], cls)
    check_source(checker, ("model",), given.get("model", {}))
    check_data(checker, given.get("data", {}))
    check_lora(checker, "train", given.get("train", {}).get("lora"))
    check_optimizer(checker, "train", given.get("train", {}).get("optim"))
    check_trackers(checker, given.get("run", {}))
    check_interval(checker, given.get("run", {}).get("save_steps"))
    processes = check_launch(checker, tree.get("launch"))
    for stage in STAGES:
        if stage in given:
            check_stage(checker, stage, given.get("train", {}), given[stage], processes)
    checker.finish()
    return tree


def check_launch(checker: Checker, command: Any) -> int:
    """The processes that the launcher starts, where it says how many."""
    try:
        return launch.processes(command) if isinstance(command, str) else 1
    except InputError as error:
        checker.say(("launch",), f": {shown(command)}: {error}.")
        return 1


def check_source(checker: Checker, keys: Keys, section: dict) -> None:
    """A source is one there is, or may be a repository of the Hub; that alone has revisions, subsets and splits."""
    source, known = section.get("source"), SOURCES[str(keys[0])]
    if not isinstance(source, str):
        return
    # A bare name near to one of ours is more likely that than one of the Hub's oldest repositories.
    ours = {one: one for one in known} | {one.partition(":")[2] or one: one for one in known}
    near = difflib.get_close_matches(source, ours, n=1)
    if source not in known and (not of_hub(source) or ("/" not in source and near)):
        choice = f"use {known[0]}, raw for the files in {RAW[str(keys[0])]}, or a repository of the Hub as owner/name."
        guess = f" Did you mean {ours[near[0]]}?" if near else ""
        checker.say((*keys, "source"), f": {shown(source)} is not a source: {choice}{guess}")
    if source in known:
        for name, none in {"revision": None, "subset": None, "split": "train"}.items():
            if section.get(name, none) != none:
                checker.say((*keys, name), f" (now {shown(section[name])}): {source} has none; write {shown(none)}.")
    elif re.match("|".join(TESTS), str(section.get("split"))):
        checker.say((*keys, "split"), f": {shown(section['split'])} is a test split, which is never trained on.")


def check_data(checker: Checker, data: dict) -> None:
    """Each data set's sources, columns and limits."""
    for name in DATA_SETS:
        section = data.get(name)
        if not isinstance(section, dict):
            continue
        keys = ("data", name)
        checker.section(keys, section, names_of(Source), Source)
        source = section.get("source")
        if isinstance(source, list):
            check_mixture(checker, name, section, source)
        check_source(checker, keys, section)
        check_columns(checker, keys, section.get("columns"))
        mixed = [part["source"] for part in many(source) if isinstance(part, dict) and "source" in part]
        for limit in ("rows", "eval_rows"):
            if section.get(limit) is None and all(str(one).startswith("builtin:") for one in mixed or [source]):
                checker.say((*keys, limit), " is missing: a built-in task has no end.")


def check_mixture(checker: Checker, name: str, section: dict, parts: list) -> None:
    """A list of sources, each with what belongs to it."""
    keys = ("data", name)
    if not parts:
        checker.say((*keys, "source"), " is an empty list: there is nothing to mix.")
    single: dict[str, Any] = {"revision": None, "subset": None, "split": "train", "columns": {}}
    for own, none in single.items():
        if section.get(own, none) != none:
            checker.say((*keys, own), " is not set here: each source in the list has its own.")
    for place, part in enumerate(parts):
        here = (*keys, "source", place)
        if not isinstance(part, dict):
            checker.say(here, f": {shown(part)} is {english(type(part))}, not a map with source, revision, weight, ….")
            continue
        checker.section(here, part, names_of(Part), Part)
        check_source(checker, here, part)
        check_columns(checker, here, part.get("columns"))
        if fits(part.get("weight"), (int, float)) and part["weight"] <= 0:
            checker.say((*here, "weight"), f": {shown(part['weight'])} is not greater than 0.")


def check_columns(checker: Checker, section: Keys, columns: Any) -> None:
    """`columns` maps names of ours to texts."""
    name = str(section[1])
    for ours, theirs in columns.items() if isinstance(columns, dict) else ():
        keys = (*section, "columns", ours)
        if ours not in COLUMNS[name]:
            known = ", ".join(COLUMNS[name])
            checker.say(keys, f" is no column of this data set, which has {known}: write ours: yours.")
        elif not isinstance(theirs, str):
            checker.say(keys, f": {shown(theirs)} is {english(type(theirs))}, not the name of a column.")


def check_trackers(checker: Checker, run: dict) -> None:
    """A tracker is one transformers knows, and is installed."""
    for tracker in many(run.get("report_to", "none")):
        if tracker == "none" or not isinstance(tracker, str):
            continue
        if tracker not in trackers():
            text = f": {shown(tracker)} is no tracker: none, {', '.join(trackers())}.{meant(tracker, trackers())}"
            checker.say(("run", "report_to"), text)
        elif tracker == "dvclive":
            text = ': "dvclive" of transformers rewrites dvc.yaml; leave it out: DVCLive keeps all figures anyway.'
            checker.say(("run", "report_to"), text)
        elif importlib.util.find_spec(PACKAGES.get(tracker, tracker)) is None:
            checker.say(("run", "report_to"), f": {shown(tracker)} is not installed; none needs nothing.")


def check_packages(checker: Checker, keys: Keys, value: Any, packages: list[str]) -> None:
    """What a setting takes is installed."""
    for package in packages:
        try:
            distribution(package)
        except PackageNotFoundError:
            text = f": {shown(value)} takes {package}, which is not installed: `uv pip install {package}`."
            checker.say(keys, text)


def check_interval(checker: Checker, value: Any) -> None:
    """Checkpoints are written every so many steps, or minutes."""
    if isinstance(value, str) and not INTERVAL.fullmatch(value):
        checker.say(("run", "save_steps"), f": {shown(value)} is neither a number of steps nor minutes, as in 5 min.")


def check_stage(checker: Checker, stage: str, train: dict, section: dict, processes: int) -> None:
    """A stage's names and values, and combinations that TRL would reject only after minutes of loading."""
    checker.names((stage,), section, stage_names(stage))
    check_lora(checker, stage, section.get("lora"))
    check_optimizer(checker, stage, section.get("optim"))
    if not section.get("init"):
        checker.say((stage, "init"), " is missing: the folder of the model this stage starts from.")
    if stage == "grpo":
        check_rewards(checker, section)
        check_pass_rate(checker, section.get("pass_rate"))
    for name, text in combinations.wrong(stage, train | section, processes):
        checker.say((stage if name in section or name not in train else "train", name), text)


def check_lora(checker: Checker, section: str, lora: Any) -> None:
    """The adapters' own names and values."""
    if isinstance(lora, dict):
        checker.section((section, "lora"), lora, names_of(Lora), Lora)
        if "lm_head" in many(lora.get("targets")):
            checker.say((section, "lora", "targets"), ": TRL's losses pass by an adapter of lm_head; leave it out.")
        if lora.get("targets") == []:
            checker.say((section, "lora", "targets"), " is an empty list: nothing would be trained.")
        needed = ["bitsandbytes"] if lora.get("load_in_4bit") is True else []
        check_packages(checker, (section, "lora", "load_in_4bit"), True, needed)


def check_optimizer(checker: Checker, section: str, name: Any) -> None:
    """The package of an optimizer is installed."""
    if name in choices("optim", None):
        check_packages(checker, (section, "optim"), name, optimizer_packages(name))


def check_pass_rate(checker: Checker, bounds: Any) -> None:
    """Two shares, the smaller first."""
    if not isinstance(bounds, list):
        return
    shares = [bound for bound in bounds if fits(bound, (int, float)) and 0 <= bound <= 1]
    if not (len(bounds) == len(shares) == 2 and shares[0] <= shares[1]):
        text = f": {shown(bounds)} is not the least and the greatest share of right answers, as in [0.1, 0.9]."
        checker.say(("grpo", "pass_rate"), text)


def check_rewards(checker: Checker, section: dict) -> None:
    """Each weight is a number, for a reward there is."""
    rewards = section.get("rewards", {})
    if not rewards:
        checker.say(("grpo", "rewards"), " is missing: a map from the name of a reward to its weight.")
    if not isinstance(rewards, dict):
        return
    for name, weight in rewards.items():
        if name not in reward_names():
            known = ", ".join(reward_names())
            text = f" is no reward: llmrl/rewards.py and grpo.reward_model give {known}.{meant(name, reward_names())}"
            checker.say(("grpo", "rewards", name), text)
        elif reason := refusal("weight", weight, (int, float)):
            checker.say(("grpo", "rewards", name), f": the weight {reason}")
    if "reward_model" in rewards and not section.get("reward_model"):
        checker.say(("grpo", "reward_model"), " is missing: grpo.rewards gives it a weight.")
