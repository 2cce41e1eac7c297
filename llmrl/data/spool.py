"""Usable rows of one source, on disk until it is known which of them are used, and the two files that they become.

    messages: list<struct<role, content, more>>, tools      sft
    prompt, chosen, rejected: the same, tools               preference
    prompt: the same, solution, extra                       prompts

`more` is a turn's further fields as JSON text. It is in the files, and so is `tools`, only where a row has some.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrl.data.asking import Opening
from llmrl.data.rows import Row
from llmrl.data.turns import Turn, as_json

CHUNK = 1000  # rows a write: what is held in memory
# The sides of the split: trained on; held out, to measure by; held out only; neither.
TRAIN, EVAL, TESTED, UNUSED = range(4)
PLAIN = pa.struct([("role", pa.string()), ("content", pa.string())])
WITH_MORE = pa.struct([*PLAIN, ("more", pa.string())])
# What conversations and what texts a row of each set has.
COLUMNS = {
    "sft": (("messages",), ("tools",)),
    "preference": (("prompt", "chosen", "rejected"), ("tools",)),
    "prompts": (("prompt",), ("solution", "extra")),
}


def schema(data_set: str, more: bool, tools: bool) -> pa.Schema:
    """The columns of a data set's files, with turns' further fields and tools or without."""
    conversations, texts = COLUMNS[data_set]
    fields = [(name, pa.list_(WITH_MORE if more else PLAIN)) for name in conversations]
    return pa.schema([*fields, *((name, pa.string()) for name in texts if name != "tools" or tools)])


SCHEMAS = {data_set: schema(data_set, more=False, tools=False) for data_set in COLUMNS}


def turn_lists(column: list[list[Turn]]) -> pa.Array:
    """A column of lists of turns."""
    turns = [turn for conversation in column for turn in conversation]
    roles, contents = ([turn[name] for turn in turns] for name in PLAIN.names)
    ends = pa.array(accumulate(map(len, column), initial=0), pa.int32())
    fields = [pa.array(texts, pa.string()) for texts in (roles, contents, map(more_of, turns))]
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(fields, fields=[*WITH_MORE]))


def more_of(turn: Turn) -> str | None:
    """A turn's further fields; of a tool's, of which not every chat template knows, also where there are none."""
    if len(turn) == 2 and turn["role"] != "tool":
        return None
    return as_json({name: turn[name] for name in turn if name not in PLAIN.names})


class Distinct:
    """Numbers of 64 bits, each of which is new once, in 16 to 32 bytes each: a set would take three times the memory, a
    database three times the time.
    """

    def __init__(self) -> None:
        self.table, self.count = array("q", bytes(8 << 16)), 0  # 0 is a free place

    def add(self, number: int) -> bool:
        """Whether it is new."""
        number = number or 1
        mask = len(self.table) - 1
        place = number & mask
        while found := self.table[place]:
            if found == number:
                return False
            place = (place + 1) & mask
        self.table[place] = number
        self.count += 1
        if 2 * self.count > len(self.table):
            old, self.table, self.count = self.table, array("q", bytes(16 * len(self.table))), 0
            for one in filter(None, old):
                self.add(one)
        return True


class Spool:
    """Rows of one source in a file, each with its side of the split and its place in a sample beside it."""

    def __init__(self, path: Path, data_set: str) -> None:
        self.path, (self.conversations, self.texts) = path, COLUMNS[data_set]
        self.sides, self.orders = array("b"), array("q")
        self.needing: dict[str, list[np.ndarray]] = {"more": [], "tools": []}  # which rows have some
        self.schema = schema(data_set, more=True, tools=True)
        for name in Opening._fields:
            self.schema = self.schema.append(pa.field(name, pa.string()))
        self.writer = pa.ipc.new_file(path, self.schema)
        self.waiting: list[tuple[Row, Opening]] = []

    def add(self, row: Row, opening: Opening, side: int, order: int) -> None:
        """One row more."""
        self.waiting.append((row, opening))
        self.sides.append(side)
        self.orders.append(order)
        if len(self.sides) % CHUNK == 0:
            self.flush()

    def flush(self) -> None:
        rows, openings = zip(*self.waiting, strict=True)
        columns = {name: turn_lists([row[name] for row in rows]) for name in self.conversations}
        columns |= {name: pa.array([row[name] for row in rows], pa.string()) for name in self.texts}
        for name, texts in zip(Opening._fields, zip(*openings, strict=True), strict=True):
            columns[name] = pa.array(texts, pa.string())
        start = len(self.sides) - len(rows)
        for name in self.conversations:
            more = columns[name].values.field("more")
            if more.null_count < len(more):
                self.needing["more"].append(
                    start + pc.list_parent_indices(columns[name]).filter(more.is_valid()).to_numpy()
                )
        if "tools" in columns and columns["tools"].null_count < len(rows):
            self.needing["tools"].append(start + np.flatnonzero(columns["tools"].is_valid()))
        self.writer.write_batch(pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema))
        self.waiting.clear()

    def close(self) -> None:
        """After which it can be read."""
        if len(self.sides) % CHUNK:
            self.flush()
        self.writer.close()
        self.side, self.order = np.frombuffer(self.sides, np.int8), np.frombuffer(self.orders, np.int64)

    def batches(self) -> Iterator[tuple[slice, pa.RecordBatch]]:
        """The rows, a thousand at a time, and which these are."""
        start = 0
        with pa.OSFile(str(self.path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                yield slice(start, start + len(batch)), batch
                start += len(batch)

    def need(self, what: str, chosen: np.ndarray) -> bool:
        """Whether of the chosen rows (bool) some turn has further fields ("more"), or some row has tools."""
        return any(chosen[rows].any() for rows in self.needing[what])

    def chosen(self, side: int, most: int, sample: bool) -> np.ndarray:
        """Which rows of a side are used (bool): at most so many. The first ones, or as a `sample` those that come first
        by their hashes, so that a larger sample has the smaller one in it.
        """
        (rows,) = np.nonzero(self.side == side)
        if sample and len(rows) > most:
            rows = rows[np.argsort(self.order[rows], kind="stable")]
        found = np.zeros(len(self.side), bool)
        found[rows[:most]] = True
        return found


class Written:
    """A file of a data set, written in row groups of a thousand whatever comes at once."""

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self.columns, self.writer = columns, pq.ParquetWriter(path, columns, compression="zstd")
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def fitted(self, batch: pa.RecordBatch) -> pa.Table:
        """Rows of a spool, with the columns and fields that the file has."""
        columns = [without_more(batch.column(field.name), field.type) for field in self.columns]
        return pa.Table.from_arrays(columns, schema=self.columns)

    def write(self, table: pa.Table) -> None:
        """Some rows more, fitted."""
        self.waiting.append(table)
        self.rows += len(table)
        if sum(map(len, self.waiting)) >= CHUNK:
            whole = pa.concat_tables(self.waiting)
            ready = len(whole) - len(whole) % CHUNK
            self.writer.write_table(whole.slice(0, ready).combine_chunks(), row_group_size=CHUNK)
            self.waiting = [whole.slice(ready)]

    def close(self, metadata: dict[str, str]) -> None:
        if rest := sum(map(len, self.waiting)):
            self.writer.write_table(pa.concat_tables(self.waiting).combine_chunks(), row_group_size=rest)
        if metadata:
            self.writer.add_key_value_metadata(metadata)
        self.writer.close()


def without_more(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column, of conversations without `more` where the file has none."""
    if column.type == kind or not pa.types.is_list(kind):
        return column
    ends = pc.subtract(column.offsets, column.offsets[0])
    turns = column.flatten()
    plain = pa.StructArray.from_arrays([turns.field("role"), turns.field("content")], fields=[*PLAIN])
    return pa.ListArray.from_arrays(ends, plain)
