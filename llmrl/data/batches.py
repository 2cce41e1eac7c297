"""Parquet and Arrow files, of which a column is converted to Python when it is first asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.errors import DefectiveError, InputError

Row = Mapping[str, Any]
Numbered = Iterator[tuple[int, Row]]  # its number in the file, and the row
BATCH = 1000  # rows of Parquet or Arrow in memory at once,
BATCH_BYTES = 2**26  # or fewer, where these would be more than about so many bytes
# What pyarrow raises, for instance, at a date beyond the year 9999, an unknown time zone, a map by lists.
UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError, NotImplementedError, pa.ArrowException)


def parquet(path: Path) -> Numbered:
    """The rows of a Parquet file, a batch at a time."""
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:  # or whole row groups are in memory
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)  # uncompressed
        rows = max(1, min(BATCH, BATCH_BYTES * file.metadata.num_rows // max(1, size)))
        yield from rows_in(file.iter_batches(rows))


def arrow(path: Path) -> Numbered:
    """The rows of an Arrow file, in the format of streams or of files."""
    with pa.memory_map(str(path)) as file:
        if file.read(6) == b"ARROW1":
            whole = pa.ipc.open_file(file)
            batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
        else:
            file.seek(0)
            batches = iter(pa.ipc.open_stream(file))
        yield from rows_in(part for batch in batches for part in parts(batch))


def parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of BATCH rows. Raises ArrowInvalid where its bytes are not what its schema says: read as they
    are, they might end the process.
    """
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):  # which whoever asks for that value is told
                raise
    yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))


def rows_in(batches: Iterable[pa.RecordBatch]) -> Numbered:
    number = 0
    for arrays in batches:
        batch = Batch(arrays)
        for index in range(arrays.num_rows):
            number += 1
            yield number, BatchRow(batch, index)


def twice(names: list[str]) -> str | None:
    """A name that stands there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


class Batch:
    """Some rows as columns, each of which is converted to Python when it is first asked for, and then for all rows.

    Raises InputError where two columns have one name.
    """

    def __init__(self, arrays: pa.RecordBatch) -> None:
        names = arrays.schema.names
        if (name := twice(names)) is not None:
            raise InputError(f" two columns are named {name!r}; each must be named differently")
        self.arrays = dict(zip(names, arrays.columns, strict=True))
        self.values: dict[str, list[Any]] = {}
        self.valid: dict[str, list[bool]] = {}

    def value(self, column: str, index: int) -> Any:
        if column not in self.values:
            self.values[column] = converted(self.arrays[column])
        value = self.values[column][index]
        if isinstance(value, Unreadable):
            raise DefectiveError(f"{column} cannot be read: {value}")
        return value

    def has(self, column: str, index: int) -> bool:
        if column not in self.arrays:
            return False
        if column not in self.valid:
            self.valid[column] = self.arrays[column].is_valid().to_pylist()
        return self.valid[column][index]


class Unreadable(str):
    """Why a value of a column cannot be converted to Python, in its place."""


def converted(array: pa.Array) -> list[Any]:
    """The values of a column; maps as dicts, which pyarrow would give as lists of pairs; numbers of 32 bits as they are
    written, 0.1 and not 0.10000000149011612.
    """
    if pa.types.is_float32(array.type):
        return [value if value is None else float(str(np.float32(value))) for value in array.to_pylist()]
    try:
        values: list[Any] = array.to_pylist(maps_as_pydicts="lossy")
    except UNREADABLE:
        values = [as_python(scalar) for scalar in array]
    return [without_nulls(value) for value in values] if depth(array.type) > 1 else values


def depth(kind: pa.DataType) -> int:
    """How many structs a type has in one another."""
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return pa.types.is_struct(kind) + max(map(depth, inner), default=0)


def without_nulls(value: Any) -> Any:
    """A value without the fields that are null: a struct in a struct has those of all rows, as of all tool calls."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def as_python(scalar: pa.Scalar) -> Any:
    """One value, or why it cannot be converted."""
    try:
        return scalar.as_py(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")
    except UNREADABLE:
        return Unreadable("a value that Python cannot hold")


class BatchRow(Mapping[str, Any]):
    """A row of a batch. Raises DefectiveError where a value is asked for that cannot be converted."""

    __slots__ = ("batch", "index")

    def __init__(self, batch: Batch, index: int) -> None:
        self.batch, self.index = batch, index

    def __getitem__(self, column: str) -> Any:
        return self.batch.value(column, self.index)

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.arrays)

    def __len__(self) -> int:
        return len(self.batch.arrays)

    def __contains__(self, column: object) -> bool:
        return column in self.batch.arrays

    def has(self, column: str) -> bool:
        """Whether there is a value in that column."""
        return self.batch.has(column, self.index)
