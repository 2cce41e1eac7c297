"""Files of rows: JSON Lines, Parquet or CSV, read a row at a time; a user's own lie in data/raw/<name>/."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.errors import InputError

Row = dict[str, Any]
Numbered = Iterator[tuple[int, Row]]  # a line of a text file, or a row of a Parquet file, from 1
BATCH = 1000  # rows of a Parquet file in memory at once

csv.field_size_limit(2**31 - 1)  # the most there is everywhere: a cell may be a whole document


class BrokenError(Exception):
    """What is wrong with a file, and at which line or row."""


def rows(folder: Path) -> Iterator[tuple[str, Row]]:
    """Where each row stands (file:line, or file:row of Parquet) and the row, in the order of the files' names.

    Raises InputError where there is no file that can be read, or naming the place where one is broken.
    """
    for path in files(folder):
        yield from read(path, str(path))


def read(path: Path, name: str) -> Iterator[tuple[str, Row]]:
    """The rows of one file, which is spoken of by `name`."""
    try:
        for number, row in READERS[path.suffix](path):
            yield f"{name}:{number}", row
    except BrokenError as error:
        raise InputError(f"{name}:{error}") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name}: cannot be read as {path.suffix}: {error}") from None


def files(folder: Path) -> list[Path]:
    """The files that can be read. Raises InputError where there are none."""
    present = sorted(path for path in folder.rglob("*") if path.is_file())
    readable = [path for path in present if path.suffix in READERS]
    if not readable:
        held = ", ".join(path.name for path in present) or "nothing"
        raise InputError(
            f"{folder}/ holds no {', '.join(READERS)} file (but {held}). Put yours there, or name another source "
            f"as data.{folder.name}.source in params.yaml."
        )
    return readable


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, decoded one by one so that the broken one can be named."""
    with path.open("rb") as binary:
        for number, line in enumerate(binary, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BrokenError(f"{number}: not UTF-8, in which the file must be saved: {error.reason}") from None


def json_lines(path: Path) -> Numbered:
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BrokenError(f"{number}: broken JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise BrokenError(f"{number}: broken JSON: nested too deeply") from None
        except ValueError:  # Python's own limit
            digits = sys.get_int_max_str_digits()
            raise BrokenError(f"{number}: broken JSON: an integer of more than {digits:,} digits") from None
        if not isinstance(row, dict):
            raise BrokenError(f"{number}: each line must be one JSON object, {{...}}")
        yield number, row


def parquet(path: Path) -> Numbered:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def comma_separated(path: Path) -> Numbered:
    reader = csv.DictReader(lines(path), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise BrokenError(f"{reader.line_num}: more or fewer cells than the first line has names")
            yield reader.line_num, {name: cell or None for name, cell in row.items()}  # an empty cell is no value
    except csv.Error as error:
        raise BrokenError(f"{reader.line_num + 1}: broken CSV: {error}") from None


READERS = {".jsonl": json_lines, ".parquet": parquet, ".csv": comma_separated}
