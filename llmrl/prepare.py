"""Makes one data set: `python -m llmrl.prepare sft`.

    its sources (built in, the user's files, repositories of the Hub) -> data/<name>/{train,eval}.parquet, source.json

A defective row is dropped and counted by reason, up to a stated share; a defective file stops the run. Rows pass
through one by one, and only a hash of each is kept. The folder appears whole, by rename, once everything is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl import answers, data, params, sections, sources
from llmrl.errors import InputError, reported
from llmrl.progress import Progress

CHUNK = 1000  # rows a write: what is held in memory


class Seen:
    """The rows there have been, in a temporary file: of any number of them, little is held in memory."""

    def __init__(self) -> None:
        self.table = sqlite3.connect("", isolation_level=None)  # "": a file that nobody sees, gone at the end
        self.table.execute("PRAGMA journal_mode = OFF")
        self.table.execute("CREATE TABLE seen (digest INTEGER PRIMARY KEY)")
        self.table.execute("BEGIN")

    def add(self, row: data.Row) -> bool:
        """Whether the row is new."""
        digest = hashlib.blake2b(json.dumps(row).encode(), digest_size=8).digest()
        number = int.from_bytes(digest, signed=True)
        return self.table.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,)).rowcount == 1


class Rows:
    """The usable rows of one source, each once and in the data set's one shape; the others are counted by reason."""

    def __init__(self, name: str, settings: params.Data, part: sections.Part, seen: Seen, progress: Progress) -> None:
        self.name, self.settings, self.part, self.seen, self.progress = name, settings, part, seen, progress
        self.origin = sources.opened(name, part, settings.seed, progress)
        self.read = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, str] = {}  # where the first row of each reason stands

    def usable(self, rows: sources.Rows) -> Iterator[data.Row]:
        """Those of the source's rows that can be used."""
        for where, row in rows:
            self.read += 1
            if self.read % CHUNK == 0:
                self.progress.rows(self.part.source, self.read)
            try:
                shaped = self.shaped(where, row)
            except data.DefectiveError as reason:
                self.dropped[str(reason)] += 1
                self.examples.setdefault(str(reason), where)
                continue
            self.kept += 1
            yield shaped

    def shaped(self, where: str, row: data.Row) -> data.Row:
        """A row in its one shape. Raises DefectiveError where it cannot be used, InputError where columns are wrong."""
        try:
            shaped = data.shape(self.name, rename(row, self.part.columns, self.name))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if shaped.get("solution") is not None and answers.gold(shaped["solution"]) is None:
            raise data.DefectiveError("a solution that is no single short answer")
        if not self.seen.add(shaped):
            raise data.DefectiveError("duplicate")
        return shaped

    def refuse_defective(self) -> None:
        """Raise InputError where more than the stated share of the source's rows is defective."""
        # A built-in task repeats itself by nature.
        if self.part.source in sources.BUILTIN or self.dropped.total() <= self.settings.max_defective * self.read:
            return
        reasons = (f"{count} {reason} (first: {self.examples[reason]})" for reason, count in self.dropped.most_common())
        raise InputError(
            f"data/{self.name}: {self.dropped.total()} of {self.read} rows are defective, more than "
            f"data.max_defective in params.yaml allows ({self.settings.max_defective:g}): {'; '.join(reasons)}."
        )

    def report(self) -> dict[str, Any]:
        """What the source is, what was read of it, and what became of that."""
        named = {"source": self.part.source, "revision": self.part.revision, "subset": self.part.subset}
        counts = {"read": self.read, "kept": self.kept, "dropped": dict(sorted(self.dropped.items()))}
        return named | {"files": self.origin.hashes(), "rows": counts}


def rename(row: data.Row, columns: dict[str, str], name: str) -> data.Row:
    """A row with our names beside the source's own. Raises InputError where it lacks one of these."""
    for theirs in columns.values():
        if theirs not in row:
            raise InputError(
                f"data.{name}.columns in params.yaml names {theirs!r}, which the row does not have; "
                f"it has {', '.join(row)}."
            )
    return row | {ours: row[theirs] for ours, theirs in columns.items()}


class Side:
    """One of the two files of a data set, with at most `limit` rows, written in chunks."""

    def __init__(self, path: Path, schema: pa.Schema, limit: int | None) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.schema, self.limit = schema, limit
        self.rows = 0
        self.waiting: list[data.Row] = []

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.flush()
        self.writer.close()

    @property
    def full(self) -> bool:
        return self.limit is not None and self.rows >= self.limit

    def add(self, row: data.Row) -> None:
        self.waiting.append(row)
        self.rows += 1
        if len(self.waiting) == CHUNK:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_pylist(self.waiting, schema=self.schema))
            self.waiting.clear()


def prepare(name: str, out: Path) -> str:
    """Write the data set into the folder `out`, and say in a sentence what it is. Raises InputError where the source is
    not what it must be.
    """
    settings, source = params.source(name)
    with ExitStack() as files:
        progress = files.enter_context(Progress(f"data/{name}"))
        seen = Seen()
        parts = [Rows(name, settings, part, seen, progress) for part in source.parts]
        train = files.enter_context(Side(out / "train.parquet", data.SCHEMAS[name], source.rows))
        held_out = files.enter_context(Side(out / "eval.parquet", data.SCHEMAS[name], source.eval_rows))
        unused = split(parts, train, held_out)
    for part in parts:
        part.refuse_defective()
    read = sum(part.read for part in parts)
    for side, file in ((train, "train"), (held_out, "eval")):
        if not side.rows:
            raise InputError(
                f"data/{name}/{file}.parquet would have no rows, of {read} read; it needs more rows, "
                f"or another data.eval_share in params.yaml (now {settings.eval_share:g})."
            )
    counts = {"read": read, "train": train.rows, "eval": held_out.rows, **unused}
    report = {"sources": [part.report() for part in parts], "rows": counts}
    (out / "source.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    dropped = sum((part.dropped for part in parts), Counter())
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(dropped.items())) or "none"
    return f"{train.rows:,} rows to train on, {held_out.rows:,} held out, of {read:,} read; dropped: {reasons}"


def split(parts: list[Rows], train: Side, held_out: Side) -> dict[str, int]:
    """Put each row on its side until both are full; the numbers of rows that were not used.

    Rows of a source's own tests may be held out, and are never trained on.
    """
    settings, weights = parts[0].settings, [part.part.weight for part in parts]
    surplus = tests = 0

    def on_held_out(row: data.Row) -> bool:
        return data.held_out(row, settings.salt, settings.eval_share)

    streams = [part.usable(part.origin.training()) for part in parts]
    for row in sources.interleaved(streams, weights, whole=False):
        side = held_out if on_held_out(row) else train
        if side.full:
            surplus += 1
        else:
            side.add(row)
        if train.full and held_out.full:
            break
    streams = [part.usable(part.origin.tests()) for part in parts]
    for row in sources.interleaved(streams, weights, whole=True) if not held_out.full else ():
        if on_held_out(row):
            held_out.add(row)
        else:
            tests += 1
        if held_out.full:
            break
    return {"over the limits": surplus, "of test splits, not to be trained on": tests}


def main(name: str) -> None:
    """Prepare data/<name>, whole or not at all."""
    unfinished, out = Path(f"data/.{name}"), Path(f"data/{name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        said = prepare(name, unfinished)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
        print(f"{out}: {said}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m llmrl.prepare", description="Prepare one data set, data/<name>.")
    parser.add_argument("name", choices=sections.DATA_SETS)
    with reported():
        main(parser.parse_args().name)
