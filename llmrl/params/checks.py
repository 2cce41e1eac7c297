"""What is wrong with a params.yaml: every mistake with its file, line, key, value and what would be right."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import replace
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from llmrl import fields, sources
from llmrl.base import settings as base_settings
from llmrl.data import settings as data_settings
from llmrl.environment import installing
from llmrl.errors import InputError
from llmrl.fields import Field, Found, Keys, as_yaml, fields_of, fits, many, meant
from llmrl.graph import STAGES
from llmrl.measuring.settings import Answers
from llmrl.params import combinations, unused
from llmrl.session import gates
from llmrl.session import settings as session_settings
from llmrl.training import options, processes
from llmrl.training.settings import OWN, Lora, TrainSettings


def read(path: Path) -> CommentedMap:
    """A params.yaml as YAML 1.2, so that the 1e-05 which DVC writes is a number; keys remember their lines."""
    try:
        tree = YAML(typ="rt").load(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. `git checkout {path}` or a profile of profiles/ restores it.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
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
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def check(path: Path) -> dict[str, Any]:
    """The whole of a params.yaml as plain values.

    Raises InputError naming every mistake, with file, line, key, value and what would be right.
    """
    raw = read(path)
    tree = plain(raw)
    # Each once, in the order of the file's lines.
    if found := sorted([*mistakes(tree), *within_braces(raw)], key=lambda mistake: line(raw, mistake[0])):
        said = (f"{path}:{line(raw, keys)}: {dotted(keys)}{text}" for keys, text in found)
        raise InputError("\n".join(dict.fromkeys(said)))
    return tree


def within_braces(tree: Any, keys: Keys = ()) -> Found:
    """Texts such as reasoning_gym:chain_sum in a map or list within braces: without quotes, which DVC drops when it
    writes the file, DVC cannot read them there.
    """
    if isinstance(tree, CommentedMap | CommentedSeq):
        for key, value in tree.items() if isinstance(tree, CommentedMap) else enumerate(tree):
            here = (*keys, key if isinstance(key, int) else str(key))
            yield from within_braces(value, here)
            if isinstance(value, str) and re.search(r":\S", value) and tree.fa.flow_style():
                said = f"within braces DVC cannot read {as_yaml(plain(value))}"
                yield here, f": {said}: write a line for each setting, without them."


def line(tree: Any, keys: Keys) -> int:
    """The line on which a setting stands, or else what would hold it; from 1."""
    number = 0
    for name in keys:
        if not isinstance(tree, CommentedMap | CommentedSeq):
            break
        key = name if isinstance(name, int) else next((key for key in tree if str(key) == name), None)
        if key is None:
            break
        # A key merged in by << has no line of its own.
        number, tree = tree.lc.data.get(key, [number])[0], tree[key]
    return number + 1


def dotted(keys: Keys) -> str:
    """Keys as a user writes them: data.sft.source[0].revision."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


@cache
def sections() -> dict[str, dict[str, Field]]:
    """Every section, by its dotted name, and what it may hold.

    `train` takes what all TRL configs do, a stage what its own does and our names but the one dial, none of which it
    must have: `train` has them.
    """
    stages = {}
    for name in STAGES:
        own = {one: replace(field, default=None) for one, field in fields_of(OWN[name]).items() if one != "lr"}
        stages[name] = options.of_stage(name) | own
    return {
        "model": fields_of(base_settings.Model),
        "data": fields_of(data_settings.Data),
        "train": options.shared() | fields_of(TrainSettings),
        "train.lora": fields_of(Lora),
        **stages,
        "answers": fields_of(Answers),
        "run": fields_of(session_settings.RunSettings),
        **{f"data.{name}": fields_of(fields_of(data_settings.Data)[name].inner) for name in data_settings.DATA_SETS},
    }


def mistakes(tree: dict[str, Any]) -> Found:
    """Every mistake of a file, by its keys."""
    known = {name: names for name, names in sections().items() if "." not in name}
    outside = {name: {} if isinstance(value, dict) else value for name, value in tree.items()}
    yield from fields.wrong({"launch": Field((str,)), **dict.fromkeys(known, Field((dict,)))}, outside, unknown)
    given = {name: tree[name] for name in known if isinstance(tree.get(name), dict)}
    for name, section in given.items():
        yield from fields.wrong(known[name], section, unknown, (name,))
    started = 1
    if isinstance(tree.get("launch"), str):
        if not tree["launch"].strip():
            yield ("launch",), " is an empty text; python starts one process."
        try:
            started = processes.count(tree["launch"])
        except InputError as error:
            yield ("launch",), f": {as_yaml(tree['launch'])}: {error}."
    yield from below(("model",), sources.wrong("model", given.get("model", {})))
    yield from below(("model",), base_settings.wrong(given.get("model", {})))
    run, answers = given.get("run", {}), given.get("answers", {})
    yield from below(("run",), session_settings.wrong(run, options.choices("report_to")))
    rewards = given.get("grpo", {}).get("rewards")
    yield from below(("run",), gates.wrong(run.get("gates"), rewards, answers.get("samples")))
    for name, section in given.get("data", {}).items():
        if name in data_settings.DATA_SETS and isinstance(section, dict):
            yield from below(("data", name), data_settings.wrong(name, section))
    preference = given.get("data", {}).get("preference")
    policy = preference.get("policy") if isinstance(preference, dict) else None
    if made_of_pairs(policy, given):
        text = f" (now {as_yaml(policy)}): is trained on pairs, or from what is; name another, as models/sft."
        yield ("data", "preference", "policy"), text
    train = given.get("train", {})
    yield from below(("train",), adapters_and_packages(train))
    for name in [name for name in STAGES if name in given]:
        yield from below((name,), stage(name, given[name]))
        for setting, text in combinations.wrong(name, train | given[name], started):
            yield (name if setting in given[name] or setting not in train else "train", setting), text
    stages = {name: given[name] for name in STAGES if name in given}
    for name, setting, text in unused.without_effect(train, stages):
        yield (name, setting), text


def made_of_pairs(folder: Any, stages: dict[str, Any], seen: tuple[Any, ...] = ()) -> bool:
    """Whether the model in a folder is trained on pairs, or from one that is."""
    parent, name = os.path.split(os.path.normpath(str(folder)))
    if parent != "models" or name not in stages or name not in STAGES or name in seen:
        return False
    above = (stages[name].get(setting) for setting in STAGES[name].models)
    return STAGES[name].data == "preference" or any(made_of_pairs(one, stages, (*seen, name)) for one in above)


def below(keys: Keys, found: Found) -> Found:
    yield from (((*keys, *inner), text) for inner, text in found)


def unknown(keys: Keys, value: Any, known: dict[str, Field]) -> str:
    """Where a name that its section does not know belongs, or what it may have been meant to be."""
    name = keys[-1]
    homes = [home for home, names in sections().items() if name in names]
    if name in options.DECIDED:
        decided, _, why = options.DECIDED[name].partition("nothing: ")
        reason = f"is not set here: {f'{why}.' if why else f'{decided} decides it.'}"
    elif name == "lr" and keys[0] in STAGES:
        reason = "is not set here: train.lr is one dial for all; lr_scale sets this stage's share of it."
    elif homes:
        # What all stages may have belongs in train.
        reason = f"is not set here; it belongs in {'train' if 'train' in homes else ' or '.join(homes)}."
    else:
        reason = f"is not a setting.{meant(name, known, dotted((*keys[:-1], '')))}"
    now = "" if isinstance(value, dict | list) else f" (now {as_yaml(value)})"
    return f"{now} {reason}"


def stage(name: str, section: dict[str, Any]) -> Found:
    """What a stage needs of its own, beside names and values."""
    yield from adapters_and_packages(section)
    if not section.get("init"):
        yield ("init",), " is missing: the folder of the model this stage starts from."
    if not STAGES[name].generates:
        return
    if not section.get("rewards"):
        yield ("rewards",), " is missing: a map from the name of a reward to its weight."
    chosen, known = section.get("rewards"), reward_names()
    for reward in chosen if isinstance(chosen, dict) else ():
        if reward not in known:
            text = f" is no reward: llmrl/rewards.py and grpo.reward_model give {', '.join(known)}."
            yield ("rewards", reward), text + meant(reward, known)
        if reward == "reward_model" and not section.get("reward_model"):
            yield ("reward_model",), " is missing: grpo.rewards gives it a weight."
    bounds = section.get("pass_rate")
    shares = bounds if isinstance(bounds, list) and all(fits(bound, (int, float)) for bound in bounds) else [0, 1]
    if not (len(shares) == 2 and 0 <= shares[0] <= shares[1] <= 1):
        text = f": {as_yaml(bounds)} is not the least and the greatest share of right answers, as in [0.1, 0.9]."
        yield ("pass_rate",), text


def adapters_and_packages(section: dict[str, Any]) -> Found:
    """What no adapters can have, and packages that are not installed, in `train` or a stage's section."""
    lora = section["lora"] if isinstance(section.get("lora"), dict) else {}
    if "lm_head" in many(lora.get("targets")):
        yield ("lora", "targets"), ": TRL's losses pass by an adapter of lm_head; leave it out."
    if lora.get("targets") in ([], ""):
        yield ("lora", "targets"), " is empty: nothing would be trained."
    if isinstance(lora.get("targets"), str):
        try:
            re.compile(lora["targets"])
        except re.error as error:
            text = f": {as_yaml(lora['targets'])} is no regular expression: {error}; several names are a list."
            yield ("lora", "targets"), text
    takes: list[tuple[Keys, Any, str]] = []
    if lora.get("load_in_4bit") is True:
        takes.append((("lora", "load_in_4bit"), True, "bitsandbytes"))
    if section.get("optim") in options.choices("optim"):
        takes += [(("optim",), section["optim"], package) for package in options.packages(section["optim"])]
    for keys, value, package in takes:
        if not any(distributions(name=package)):
            yield keys, f": {as_yaml(value)} takes {package}, which is not installed: {installing(package)}."


@cache
def reward_names() -> tuple[str, ...]:
    """The public functions of rewards.py, and the trained reward model. Raises InputError where it is not Python."""
    try:
        tree = options.source_of("llmrl", "rewards.py")
    except SyntaxError as error:
        raise InputError(f"llmrl/rewards.py:{error.lineno}: {error.msg}.") from None
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return (*(node.name for node in functions if not node.name.startswith("_")), "reward_model")
