"""A user's own files: JSON Lines, Parquet or CSV in data/raw/<name>/, read a row at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.errors import InputError

Row = dict[str, Any]


def rows(folder: Path) -> Iterator[tuple[str, Row]]:
    """Where each row stands (file and row, from 1) and the row, in the order of the files' names.

    Raises InputError where there is no file that can be read, or naming the row that is broken.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in READERS)
    if not files:
        raise InputError(
            f"{folder}/ holds no {', '.join(READERS)} file. Put yours there, or name another source in params.yaml."
        )
    for path in files:
        number = 0
        try:
            for number, row in READERS[path.suffix](path):
                yield f"{path}:{number}", row
        except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
            # UnicodeDecodeError and JSONDecodeError are ValueErrors.
            raise InputError(f"{path}, row {number + 1}: {error}. The file must be UTF-8 {path.suffix}.") from None


def json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("a line must be one JSON object")
                yield number, row


def parquet(path: Path) -> Iterator[tuple[int, Row]]:
    number = 0
    for batch in pq.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield number, row


def comma_separated(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines, strict=True), 1):
            if None in row or None in row.values():
                raise ValueError("it has more or fewer cells than the first line has names")
            yield number, row


READERS = {".jsonl": json_lines, ".parquet": parquet, ".csv": comma_separated}
