"""How params.yaml names a source of data or of the base model: built in, a task of reasoning-gym, the user's own files,
or a repository of the Hugging Face Hub at a commit.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from llmrl.fields import Found, as_yaml

KNOWN = {"model": ("builtin:tiny", "raw"), "data": ("builtin:arithmetic", "raw")}
SAMPLED = "sampled"  # of pairs alone: made of a policy's own answers
GYM = re.compile(r"reasoning_gym:(\w+)", re.ASCII)  # a task of the package reasoning-gym, as reasoning_gym:chain_sum
NEAR_GYM = re.compile(r"reasoning[-_ ]?gym\W+(\w+)", re.ASCII | re.IGNORECASE)
RAW = {"model": "models/raw/", "data": "data/raw/<name>/"}
TESTS = ("test", "validation", "valid", "val", "dev", "eval")  # splits that are never trained on
# A repository of the Hugging Face Hub: owner/name, or a bare name as the oldest ones have it.
REPOSITORY = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


def of_hub(source: str) -> bool:
    """Whether a source is a repository of the Hugging Face Hub."""
    named = bool(REPOSITORY.fullmatch(source)) and not re.search(r"--|\.\.|[.-]$", source)
    return named and source != SAMPLED and all(source not in known for known in KNOWN.values())


def task_named(source: str) -> str | None:
    """The task of reasoning-gym that a source names, if it names one."""
    named = GYM.fullmatch(source)
    return named and named[1]


def made_here(source: str) -> bool:
    """Whether the rows of a source are made as they are asked for, from a seed."""
    return source.startswith("builtin:") or task_named(source) is not None


def wrong(kind: str, section: dict[str, Any]) -> Found:
    """A source is one there is, or may be a repository of the Hub; that alone has revisions, subsets and splits."""
    source, known = section.get("source"), KNOWN[kind]
    if not isinstance(source, str):
        return
    # A bare name near to one of ours is more likely that than one of the Hub's oldest repositories.
    ours = {one: one for one in known} | {one.partition(":")[2] or one: one for one in known}
    if kind == "data":
        ours |= {SAMPLED: SAMPLED, "reasoning_gym": "reasoning_gym:<task>"}
    near = difflib.get_close_matches(source, ours, n=1)
    made = source in known or (kind == "data" and task_named(source) is not None)
    gym = NEAR_GYM.fullmatch(source) if kind == "data" else None
    if not made and (not of_hub(source) or ("/" not in source and near) or gym):
        task = "" if kind == "model" else "reasoning_gym:<task>, "
        choice = f"use {known[0]}, {task}raw for the files in {RAW[kind]}, or a repository of the Hub as owner/name."
        meant = f"reasoning_gym:{gym[1]}" if gym else ours[near[0]] if near else None
        guess = f" Did you mean {meant}?" if meant else ""
        yield ("source",), f": {as_yaml(source)} is not a source: {choice}{guess}"
    if made:
        for name, none in {"revision": None, "subset": None, "split": "train"}.items():
            if section.get(name, none) != none:
                yield (name,), f" (now {as_yaml(section[name])}): {source} has none; write {as_yaml(none)}."
    elif re.match("|".join(TESTS), str(section.get("split"))):
        yield ("split",), f": {as_yaml(section['split'])} is a test split, which is never trained on."
