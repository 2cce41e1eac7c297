"""Where rows come from: built in, the user's own files, or a repository of the Hub at a commit.

Files are JSON Lines, Parquet or CSV, and read a row at a time; a user's own lie in data/raw/<name>/. Which of a
repository's are trained on, and which are its tests, that never are, its README.md says, or else their names:

    configs: [{config_name: default, data_files: [{split: train, path: data/train-*}, …]}]
    data/train-00000-of-00002.parquet, test.jsonl, validation/part1.csv

`datasets` knows such patterns too, but none of split names of one's own outside data/, and takes a second to import.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.data.settings import Part
from llmrl.errors import InputError
from llmrl.fields import many
from llmrl.progress import Progress
from llmrl.sources import TESTS, of_hub
from llmrl.toy import arithmetic

Rows = Iterator[tuple[str, dict[str, Any]]]  # where each stands, as file:line, or file:row of Parquet, from 1

BUILTIN = {"sft": arithmetic.conversations, "preference": arithmetic.preferences, "prompts": arithmetic.prompts}
BATCH = 1000  # rows of a Parquet file in memory at once
SHARD = re.compile(r"(?:.*/)?([\w.]+?)-\d{5}-of-\d{5}[\w-]*\.\w+")
WORDS = {"train": "train", "training": "train", "testing": "test", "evaluation": "eval"} | {one: one for one in TESTS}

csv.field_size_limit(2**31 - 1)  # the most there is everywhere: a cell may be a whole document


def rows_from(part: Part, data_set: str, seed: int, progress: Progress) -> tuple[Rows, Rows, dict[str, Path]]:
    """The rows of a source that may be trained on, those of its own tests, which never are, and the files they are read
    from: one of the Hub is downloaded, and is there, when its rows are wanted. Raises InputError where there is none.
    """
    fetched: dict[str, Path] = {}
    if part.source.startswith("builtin:"):  # made here, without end
        made = enumerate(BUILTIN[data_set](seed), 1)
        return ((f"{part.source}:{number}", row) for number, row in made), iter(()), fetched
    if not of_hub(part.source):
        folder = Path("data/raw") / data_set
        own = {str(path.relative_to(folder)): path for path in readable(folder)}
        return (row for path in own.values() for row in rows_of(path, str(path))), iter(()), own
    from llmrl.hub import Repository

    repository = Repository("dataset", part.source, part.revision, progress)
    card = repository.card()
    try:
        training, tests = files_of(list(repository.tree), card, part)
    except InputError as error:
        raise InputError(f"{repository}: {error}") from None

    def rows(paths: list[str]) -> Rows:
        for path in paths:
            fetched[path] = repository.file(path)
            yield from rows_of(fetched[path], f"{repository}/{path}")

    return rows(training), rows(tests), fetched


def readable(folder: Path) -> list[Path]:
    """A folder's files that can be read, by name. Raises InputError where there are none."""
    present = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in present if path.suffix in READERS]
    if not found:
        held = ", ".join(path.name for path in present) or "nothing"
        raise InputError(
            f"{folder}/ holds no {', '.join(READERS)} file (but {held}). Put yours there, or name another source "
            f"as data.{folder.name}.source in params.yaml."
        )
    return found


def rows_of(path: Path, name: str) -> Rows:
    """The rows of one file, which is spoken of by `name`. Raises InputError naming the place where it is broken."""
    try:
        for number, row in READERS[path.suffix](path):
            yield f"{name}:{number}", row
    except InputError as error:
        raise InputError(f"{name}:{error}") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name}: cannot be read as {path.suffix}: {error}") from None


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, decoded one by one so that the broken one can be named."""
    with path.open("rb") as binary:
        for number, line in enumerate(binary, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{number}: not UTF-8, in which the file must be saved: {error.reason}") from None


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{number}: broken JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise InputError(f"{number}: broken JSON: nested too deeply") from None
        except ValueError:  # Python's own limit
            digits = sys.get_int_max_str_digits()
            raise InputError(f"{number}: broken JSON: an integer of more than {digits:,} digits") from None
        if not isinstance(row, dict):
            raise InputError(f"{number}: each line must be one JSON object, {{...}}")
        yield number, row


def parquet(path: Path) -> Iterator[tuple[int, Any]]:
    with pq.ParquetFile(path) as file:
        batches = (batch.to_pylist(maps_as_pydicts="lossy") for batch in file.iter_batches(BATCH))  # or lists of pairs
        yield from enumerate((row for rows in batches for row in rows), 1)


def comma_separated(path: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(lines(path), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{reader.line_num}: more or fewer cells than the first line has names")
            # An empty cell is no value.
            yield reader.line_num, {column: cell or None for column, cell in row.items()}
    except csv.Error as error:
        raise InputError(f"{reader.line_num + 1}: broken CSV: {error}") from None


# What they raise begins with the number of the line.
READERS = {".jsonl": json_lines, ".parquet": parquet, ".csv": comma_separated}


def files_of(paths: list[str], card: dict[str, Any], part: Part) -> tuple[list[str], list[str]]:
    """The files of a repository that `part` names by its subset and split, and those of its tests, in order of reading.

    Raises InputError, with what there is, where there are none to train on.
    """
    found = splits(paths, card, part.subset)
    if not found:
        held = [path for path in paths if path not in ("README.md", ".gitattributes")] or ["nothing"]
        some = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
        raise InputError(f"has no {', '.join(READERS)} file in it (but {some}); use another data set.")
    if part.split not in found:
        raise InputError(
            f"has no split {part.split!r}, but {', '.join(found)}: name another as `split` in params.yaml."
        )
    # train_sft's tests are test_sft, validation_sft, …
    twins = [part.split.replace("train", kind) if "train" in part.split else kind for kind in TESTS]
    tests = [path for twin in dict.fromkeys(twins) for path in found.get(twin, [])]
    training = [path for path in found[part.split] if path not in tests]
    for path in (*training, *tests):
        if not path.endswith(tuple(READERS)):
            raise InputError(f"{path} is none of {', '.join(READERS)}, which alone are read; use another data set.")
    return training, tests


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


def by_name(paths: list[str]) -> dict[str, list[str]]:
    """The files of each split, by a word in their names, or a folder's; all are to train on where none has one."""
    found: dict[str, list[str]] = {}
    rows = [path for path in paths if path.endswith(tuple(READERS))]
    for path in rows:
        shard = SHARD.fullmatch(path)
        words = [WORDS[word] for word in reversed(re.findall("[a-z]+", path.lower())) if word in WORDS]
        if shard or words:
            found.setdefault(shard[1] if shard else words[0], []).append(path)
    return found or ({"train": rows} if rows else {})
