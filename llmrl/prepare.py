"""Makes one data set: `python -m llmrl.prepare sft`.

    a source (built in, or the user's files) -> data/<name>/{train,eval}.parquet and source.json

A defective row is dropped and counted by reason, up to a stated share; a defective file stops the run. Rows pass
through one by one, and only a hash of each is kept. The folder appears whole, by rename, once everything is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl import answers, arithmetic, data, params, raw, sections
from llmrl.errors import InputError, reported

BUILTIN = {
    "builtin:arithmetic": {
        "sft": arithmetic.conversations,
        "preference": arithmetic.preferences,
        "prompts": arithmetic.prompts,
    }
}
CHUNK = 1000  # rows a write: what is held in memory


class Rows:
    """The usable rows of a source, each once and in the data set's one shape; the others are counted by reason."""

    def __init__(self, name: str, settings: params.Data, source: params.Source) -> None:
        self.name, self.settings, self.source = name, settings, source
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, str] = {}  # where the first row of each reason stands
        self.seen: set[bytes] = set()

    def __iter__(self) -> Iterator[data.Row]:
        for where, row in self.all():
            self.read += 1
            try:
                yield self.usable(where, row)
            except data.DefectiveError as reason:
                self.dropped[str(reason)] += 1
                self.examples.setdefault(str(reason), where)

    def all(self) -> Iterator[tuple[str, data.Row]]:
        """The source's rows as they are, each with where it stands."""
        if self.source.source == "raw":
            return raw.rows(folder(self.name))
        stream = BUILTIN[self.source.source][self.name](self.settings.seed)
        return ((f"{self.source.source}:{number}", row) for number, row in enumerate(stream, 1))

    def usable(self, where: str, row: data.Row) -> data.Row:
        """A row in its one shape. Raises DefectiveError where it cannot be used, InputError where columns are wrong."""
        try:
            shaped = data.shape(self.name, rename(row, self.source.columns, self.name))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if shaped.get("solution") is not None and answers.gold(shaped["solution"]) is None:
            raise data.DefectiveError("a solution that is no single short answer")
        digest = hashlib.blake2b(json.dumps(shaped).encode(), digest_size=16).digest()
        if digest in self.seen:
            raise data.DefectiveError("duplicate")
        self.seen.add(digest)
        return shaped

    def refuse_defective(self) -> None:
        """Raise InputError where more than the stated share of a user's rows is defective."""
        # A built-in task repeats itself by nature.
        if self.source.source in BUILTIN or self.dropped.total() <= self.settings.max_defective * self.read:
            return
        reasons = (f"{count} {reason} (first: {self.examples[reason]})" for reason, count in self.dropped.most_common())
        raise InputError(
            f"data/{self.name}: {self.dropped.total()} of {self.read} rows are defective, more than "
            f"data.max_defective in params.yaml allows ({self.settings.max_defective:g}): {'; '.join(reasons)}."
        )


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


def prepare(name: str, out: Path) -> None:
    """Write the data set into the folder `out`. Raises InputError where the source is not what it must be."""
    settings, source = params.source(name)
    rows = Rows(name, settings, source)
    with ExitStack() as files:
        train = files.enter_context(Side(out / "train.parquet", data.SCHEMAS[name], source.rows))
        held_out = files.enter_context(Side(out / "eval.parquet", data.SCHEMAS[name], source.eval_rows))
        surplus = split(rows, train, held_out)
    rows.refuse_defective()
    for side, file in ((train, "train"), (held_out, "eval")):
        if not side.rows:
            raise InputError(
                f"data/{name}/{file}.parquet would have no rows, of {rows.read} read; it needs more rows, "
                f"or another data.eval_share in params.yaml (now {settings.eval_share:g})."
            )
    counts = {"read": rows.read, "train": train.rows, "eval": held_out.rows, "over the limits": surplus}
    record(rows, counts, out / "source.json")


def split(rows: Rows, train: Side, held_out: Side) -> int:
    """Put each row on its side until both are full; the number of rows for which a side had no room."""
    surplus = 0
    for row in rows:
        side = held_out if data.held_out(row, rows.settings.salt, rows.settings.eval_share) else train
        if side.full:
            surplus += 1
        else:
            side.add(row)
        if train.full and held_out.full:
            break
    return surplus


def record(rows: Rows, counts: dict[str, int], path: Path) -> None:
    """Write what was read, and what became of it."""
    report: dict[str, Any] = {
        "source": rows.source.source,
        "revision": rows.source.revision,
        "files": hashes(folder(rows.name)) if rows.source.source == "raw" else {},
        "rows": {**counts, "dropped": dict(sorted(rows.dropped.items()))},
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def folder(name: str) -> Path:
    """Where the user's own files for a data set lie."""
    return Path("data/raw") / name


def hashes(source: Path) -> dict[str, str]:
    """sha256 of each file of the source."""
    found = {}
    for path in raw.files(source):
        with path.open("rb") as file:
            found[str(path.relative_to(source))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def main(name: str) -> None:
    """Prepare data/<name>, whole or not at all."""
    unfinished, out = Path(f"data/.{name}"), Path(f"data/{name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        prepare(name, unfinished)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m llmrl.prepare", description="Prepare one data set, data/<name>.")
    parser.add_argument("name", choices=sections.DATA_SETS)
    with reported():
        main(parser.parse_args().name)
