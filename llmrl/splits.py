"""Which files of a data set's repository are trained on, and which are its tests, that never are.

README.md       configs: [{config_name: default, data_files: [{split: train, path: data/train-*}, …]}]
or by name      data/train-00000-of-00002.parquet, test.jsonl, validation/part1.csv
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fsspec.utils import glob_translate

from llmrl import raw
from llmrl.errors import InputError
from llmrl.sections import TESTS, Part

SHARD = re.compile(r"(?:.*/)?([\w.]+?)-\d{5}-of-\d{5}[\w-]*\.\w+")
WORDS = {"train": "train", "training": "train", "testing": "test", "evaluation": "eval"} | {one: one for one in TESTS}
Splits = dict[str, list[str]]  # the files of each


@dataclass(frozen=True)
class Files:
    """The files of a source, in the order in which they are read."""

    training: list[str]
    tests: list[str]


def files(paths: list[str], card: dict[str, Any], part: Part) -> Files:
    """The files that `part` names by its subset and split. Raises InputError, with what there is, where it has none."""
    splits = found(paths, card, part.subset)
    if not splits:
        held = [path for path in paths if path not in ("README.md", ".gitattributes")] or ["nothing"]
        some = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
        raise InputError(f"has no {', '.join(raw.READERS)} file in it (but {some}); use another data set.")
    if part.split not in splits:
        there = ", ".join(splits)
        raise InputError(f"has no split {part.split!r}, but {there}: name another as `split` in params.yaml.")
    # train_sft's tests are test_sft, validation_sft, …
    twins = [part.split.replace("train", kind) if "train" in part.split else kind for kind in TESTS]
    tests = [path for twin in dict.fromkeys(twins) for path in splits.get(twin, [])]
    training = [path for path in splits[part.split] if path not in tests]
    for path in (*training, *tests):
        if not path.endswith(tuple(raw.READERS)):
            raise InputError(f"{path} is none of {', '.join(raw.READERS)}, which alone are read; use another data set.")
    return Files(training, tests)


def found(paths: list[str], card: dict[str, Any], subset: str | None) -> Splits:
    """The files of each split of a subset, as README.md has it, or by their names."""
    configs = {str(config["config_name"]): config for config in card.get("configs") or []}
    if not configs:
        below = [path for path in paths if not subset or path.startswith(f"{subset}/")]
        if subset and not below:
            raise InputError(f"has no subset {subset!r}: README.md names none, and no folder is called so.")
        return named(below)
    if subset is None:
        marked = [name for name, config in configs.items() if config.get("default") or len(configs) == 1]
        subset = "default" if "default" in configs else next(iter(marked), None)
    if subset not in configs:
        lacks = "has several subsets" if subset is None else f"has no subset {subset!r}"
        raise InputError(f"{lacks}: name one of {', '.join(configs)} as `subset` in params.yaml.")
    config = configs[subset]
    base = f"{str(config['data_dir']).strip('/')}/" if config.get("data_dir") else ""
    below = [path for path in paths if path.startswith(base)]
    if "data_files" not in config:
        return named(below)
    return {
        split: [path for path in below if any(matches(path.removeprefix(base), pattern) for pattern in patterns)]
        for split, patterns in listed(config["data_files"]).items()
    }


def listed(files: Any) -> dict[str, list[str]]:
    """The patterns of each split, from any of the ways in which README.md may write them."""
    patterns: dict[str, list[str]] = {}
    for item in files if isinstance(files, list) else [files]:
        split, path = (str(item["split"]), item["path"]) if isinstance(item, dict) else ("train", item)
        patterns.setdefault(split, []).extend(path if isinstance(path, list) else [path])
    return patterns


def matches(path: str, pattern: str) -> bool:
    return re.match(glob_translate(pattern.removeprefix("./")), path) is not None


def named(paths: list[str]) -> Splits:
    """The files of each split, by a word in their names, or a folder's; all are to train on where none has one."""
    rows = [path for path in paths if path.endswith(tuple(raw.READERS))]
    splits: Splits = {}
    for path in rows:
        shard = SHARD.fullmatch(path)
        words = [WORDS[word] for word in reversed(re.findall("[a-z]+", path.lower())) if word in WORDS]
        if shard or words:
            splits.setdefault(shard[1] if shard else words[0], []).append(path)
    return splits or ({"train": rows} if rows else {})
