"""Where rows come from: built in, a task of reasoning-gym, the user's own files, or a repository of the Hub.

A user's own files lie in data/raw/<name>/. Which files are trained on, and which are tests, that never are, tells the
README.md of a repository, or else a word in their names:

    configs: [{config_name: default, data_files: [{split: train, path: data/train-*}, …]}]
    data/train-00000-of-00002.parquet, test.jsonl, validation/part1.csv

`datasets` knows such patterns too, but none of split names of one's own outside data/, and takes a second to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from llmrl.data import files, made
from llmrl.data.files import ENDINGS, Rows, readable
from llmrl.data.settings import Part
from llmrl.errors import InputError
from llmrl.fields import many
from llmrl.progress import Progress
from llmrl.sources import TESTS, made_here, of_hub, task_named
from llmrl.toy import arithmetic

BUILTIN = {"sft": arithmetic.conversations, "preference": arithmetic.preferences, "prompts": arithmetic.prompts}
SHARD = re.compile(r"(?:.*/)?([\w.]+?)-\d{5}-of-\d{5}[\w-]*\.\w+")
WORDS = {"train": "train", "training": "train"} | {one: one for one in TESTS}
WORDS |= dict.fromkeys(("testing", "tests", "testset", "heldout", "holdout"), "test")
WORDS |= dict.fromkeys(("evaluation", "evals", "evalset", "evaluate"), "eval") | {"devset": "dev", "validate": "val"}
ABOUT = re.compile(
    r"(?i)(.*/)?(README\.md|\.gitattributes|\.gitignore|\.gitkeep|.*\.dvc)"
)  # no data, and not meant as such


@dataclass(frozen=True)
class Origin:
    """Rows of a source that may be trained on, those of its tests, and those of the evaluation set that is named, which
    never are. Of the files those that were read are there once their rows are wanted: a repository's is downloaded
    then. `not_read` says why of the others.
    """

    training: Rows
    tests: Rows
    named: Rows  # those of the evaluation set that is named
    read: dict[str, Path]
    tested: list[str]  # files of tests
    not_read: dict[str, str]


def origin(part: Part, data_set: str, seed: int, progress: Progress) -> Origin:
    """What there is of a source. Raises InputError where there is none."""
    fetched: dict[str, Path] = {}
    if made_here(part.source):
        task = task_named(part.source)
        endless = made.rows(task, part.options or {}, data_set, seed) if task else BUILTIN[data_set](seed)
        numbered = ((f"{part.source}:{number}", row) for number, row in enumerate(endless, 1))
        return Origin(numbered, iter(()), iter(()), fetched, [], {})
    if not of_hub(part.source):
        folder = Path("data/raw") / data_set
        training, tests, not_read = own(folder, part)

        def own_rows(paths: list[str]) -> Rows:
            for path in paths:
                fetched[path] = folder / path
                yield from files.rows_of(folder / path, str(folder / path))

        named = [path for path in tests if is_named(path, part)]
        others = [path for path in tests if path not in named]
        return Origin(own_rows(training), own_rows(others), own_rows(named), fetched, tests, not_read)
    from llmrl.hub import Repository

    repository = Repository("dataset", part.source, part.revision, progress)
    card = repository.card()
    try:
        training, tests, not_read = files_of(list(repository.tree), card, part)
    except InputError as error:
        raise InputError(f"{repository}: {error}") from None

    def rows(paths: list[str]) -> Rows:
        for path in paths:
            fetched[path] = repository.file(path)
            yield from files.rows_of(fetched[path], f"{repository}/{path}")

    none: list[str] = []
    others, named = (none, tests) if part.eval else (tests, none)
    return Origin(rows(training), rows(others), rows(named), fetched, tests, not_read)


def own(folder: Path, part: Part) -> tuple[list[str], list[str], dict[str, str]]:
    """The user's files to train on, those of tests, by name, and why others are not read. Raises InputError where there
    are none to train on.
    """
    present = sorted(path.relative_to(folder).as_posix() for path in walked(folder, set()))
    present = [path for path in present if not ABOUT.fullmatch(path)]
    not_read = {path: "hidden" for path in present if files.hidden(path)}
    not_read |= {path: "a link that leads nowhere" for path in present if not (folder / path).exists()}
    not_read |= {path: "no rows" for path in present if path not in not_read and not readable(path)}
    found = [path for path in present if path not in not_read]
    set_name = folder.name
    if not found:
        held = ", ".join(present) or "nothing"
        raise InputError(
            f"{folder}/ holds no file of rows ({ENDINGS}), but {held}. Put yours there, or name another source as "
            f"data.{set_name}.source in params.yaml."
        )
    tests = [path for path in found if has_word(split_of(path), TESTS)]
    if part.eval is not None:
        if not any(is_named(path, part) for path in found):
            raise InputError(
                f"data.{set_name}.eval in params.yaml names {part.eval!r}, and {folder}/ holds {', '.join(found)}."
            )
        tests = [path for path in found if path in tests or is_named(path, part)]
    training = [path for path in found if path not in tests]
    if not training:
        raise InputError(
            f"{folder}/ holds {', '.join(tests)}, held out by name or data.{set_name}.eval, and no file to train on: "
            "add one, or rename what shall be trained on (train.jsonl)."
        )
    return training, tests, not_read


def walked(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The files below a folder, those of folders that links lead to as well, each folder once."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            yield from walked(path, seen)
        else:
            yield path


def is_named(path: str, part: Part) -> bool:
    """Whether a file is one that data.<set>.eval names: by its name, a pattern, or its folder."""
    named = part.eval
    return named is not None and (path == named or fnmatch(path, named) or path.startswith(f"{named.rstrip('/')}/"))


def files_of(paths: list[str], card: dict[str, Any], part: Part) -> tuple[list[str], list[str], dict[str, str]]:
    """The files of a repository that `part` names by its subset and split, those of its tests, in order of reading, and
    why others are not read.

    Raises InputError, with what there is, where there are none to train on.
    """
    found = splits(paths, card, part.subset)
    if not found:
        held = [path for path in paths if not ABOUT.fullmatch(path)] or ["nothing"]
        some = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
        raise InputError(f"has no file of rows in it ({ENDINGS}), but {some}; use another data set.")
    for name, split in (("split", part.split), ("eval", part.eval or part.split)):
        if split not in found:
            raise InputError(
                f"has no split {split!r}, but {', '.join(found)}: name another as `{name}` in params.yaml."
            )
    # train_sft's tests are test_sft, validation_sft, …
    twins = [part.split.replace("train", kind) if "train" in part.split else kind for kind in TESTS]
    twins = [part.eval] if part.eval else twins
    tests = [path for twin in dict.fromkeys(twins) for path in found.get(twin, [])]
    training = [path for path in found[part.split] if path not in tests]
    for path in (*training, *tests):
        if not readable(path):
            raise InputError(f"{path} is no file of rows ({ENDINGS}); use another data set.")
    of_split = {path: f"of the split {split}" for split, those in found.items() for path in those}
    others = (path for path in paths if path not in (*training, *tests) and not ABOUT.fullmatch(path))
    return (
        training,
        tests,
        {
            path: of_split.get(path, "of no split" if part.subset is None else f"not of {part.subset}")
            for path in others
        },
    )


def splits(paths: list[str], card: dict[str, Any], subset: str | None) -> dict[str, list[str]]:
    """The files of each split of a subset, as README.md has it, or by their names."""
    from fsspec.utils import glob_translate

    configs = {str(config["config_name"]): config for config in card.get("configs") or []}
    if configs and subset is None:
        marked = [name for name, config in configs.items() if config.get("default") or len(configs) == 1]
        subset = "default" if "default" in configs else next(iter(marked), None)
    if configs and subset not in configs:
        lacks = "has several subsets" if subset is None else f"has no subset {subset!r}"
        raise InputError(f"{lacks}: name one of {', '.join(configs)} as `subset` in params.yaml.")
    config = configs.get(str(subset), {"data_dir": subset})
    folder = f"{str(config['data_dir']).strip('/')}/" if config.get("data_dir") else ""
    below = [path for path in paths if path.startswith(folder)]
    if not configs and subset and not below:
        raise InputError(f"has no subset {subset!r}: README.md names none, and no folder is called so.")
    if "data_files" not in config:
        return by_name(below)
    patterns: dict[str, list[str]] = {}
    for item in many(config["data_files"]):
        split, globs = (str(item["split"]), item["path"]) if isinstance(item, dict) else ("train", item)
        patterns.setdefault(split, []).extend(glob_translate(glob.removeprefix("./")) for glob in many(globs))
    return {
        split: [path for path in below if any(re.match(one, path.removeprefix(folder)) for one in those)]
        for split, those in patterns.items()
    }


def by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """The files of each split, by a word in their names, or a folder's; all are to train on where none has one."""
    rows = [path for path in paths if readable(path)]
    found: dict[str, list[str]] = {}
    for path in rows:
        if split := split_of(path):
            found.setdefault(split, []).append(path)
    return found or ({"train": rows} if rows else {})


def has_word(split: str | None, words: Iterable[str]) -> bool:
    """Whether one of these words is in the name of a split: test_sft."""
    return split is not None and any(
        word in WORDS and WORDS[word] in words for word in re.findall("[a-z]+", split.lower())
    )


def split_of(path: str) -> str | None:
    """The split that a file is of by its name or a folder's, if any.

    >>> split_of("data/train_sft-00000-of-00002.parquet"), split_of("validation/part1.csv"), split_of("latest.jsonl")
    ('train_sft', 'validation', None)
    """
    if (shard := SHARD.fullmatch(path)) and shard[1] != "data":  # as `datasets.save_to_disk` names them all
        return shard[1]
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", re.sub("(?i)held[_-]out", "heldout", path))  # TestSplit is two
    return next((WORDS[word.lower()] for word in reversed(words) if word.lower() in WORDS), None)
