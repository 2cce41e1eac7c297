"""Makes one data set: `python -m llmrl.data.prepare sft`.

    its sources (built in, the user's files, repositories of the Hub) -> data/<name>/{train,eval}.parquet, source.json

A defective row is dropped and counted by reason, up to a stated share; a defective file stops the run. Rows pass
through one by one, and only a hash of each is kept. The folder appears whole, by rename, once everything is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.data import origins, rows
from llmrl.data.settings import DATA_SETS, Data, Part, Source
from llmrl.errors import InputError, reported
from llmrl.progress import Progress
from llmrl.repository import replaced, sha256

CHUNK = 1000  # rows a write: what is held in memory
SIDES = ("train", "eval")


class Sieve:
    """Lets the usable rows of one source pass, each once and in the data set's one shape; counts the others."""

    def __init__(self, name: str, data: Data, part: Part, seen: sqlite3.Connection, progress: Progress) -> None:
        self.name, self.data, self.part, self.seen, self.progress = name, data, part, seen, progress
        self.training, self.tests, self.files = origins.rows_from(part, name, data.seed, progress)
        self.read = 0
        self.dropped: Counter[str] = Counter()  # by reason
        self.examples: dict[str, str] = {}  # where the first row of each reason stands
        self.found: dict[str, None] = {}  # the further columns of prompts, in order
        self.left_out: dict[str, str] = {}  # those that are not handed on, with the reason

    def usable(self, tests: bool) -> Iterator[rows.Row]:
        """Those rows of the source that can be used. Raises InputError where one lacks a column."""
        for where, row in self.tests if tests else self.training:
            self.read += 1
            if self.read % CHUNK == 0:
                self.progress.report(self.part.source, self.read, None, f"{self.read:,} rows read")
            try:
                shaped = rows.shape(self.name, row, self.part.columns)
                digest = hashlib.blake2b(json.dumps(shaped).encode(), digest_size=8).digest()
                if self.name == "prompts":  # after the digest: a row does not differ from another in these alone
                    extra, left_out = rows.extra_of(row, self.part.columns)
                    self.left_out |= left_out
                    # Rows before the first that cannot say a column keep it: `extra_columns` says what is handed on.
                    shaped["extra"] = rows.as_map({name: extra[name] for name in extra if name not in self.left_out})
                    self.found |= dict.fromkeys(extra)
                number = int.from_bytes(digest, signed=True)
                if not self.seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,)).rowcount:
                    raise rows.DefectiveError("duplicate")
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            except rows.DefectiveError as reason:
                self.dropped[str(reason)] += 1
                self.examples.setdefault(str(reason), where)
            else:
                yield shaped

    @property
    def extra_columns(self) -> list[str]:
        """The names of the further columns that rewards are given."""
        return [column for column in self.found if column not in self.left_out]

    def report(self) -> dict[str, Any]:
        """The source and what became of its rows. Raises InputError where more than the stated share is defective."""
        builtin = self.part.source.startswith("builtin:")  # which repeats itself by nature
        if not builtin and self.dropped.total() > self.data.max_defective * self.read:
            examples = (f"{count} {one} (first: {self.examples[one]})" for one, count in self.dropped.most_common())
            raise InputError(
                f"data/{self.name}: {self.dropped.total()} of {self.read} rows are defective, more than "
                f"data.max_defective in params.yaml allows ({self.data.max_defective:g}): {'; '.join(examples)}."
            )
        named = {"source": self.part.source, "revision": self.part.revision, "subset": self.part.subset}
        kept = self.read - self.dropped.total()
        counts = {"read": self.read, "kept": kept, "dropped": dict(sorted(self.dropped.items()))}
        extra = {"extra_columns": self.extra_columns, "left_out": self.left_out} if self.name == "prompts" else {}
        files = {name: sha256(path) for name, path in self.files.items()}
        return named | {"files": files, "rows": counts} | extra


def interleaved(weights: dict[Iterator[Any], float], whole: bool) -> Iterator[Any]:
    """Items of several streams, in proportion to their weights and the same every time.

    It ends with the first stream that ends, so that the proportions hold; with `whole` when all have ended.

    >>> "".join(interleaved({iter("aaaa"): 2, iter("bbbb"): 1}, whole=False))
    'aabaab'
    """
    taken = dict.fromkeys(weights, 0)
    while taken:
        stream = min(taken, key=lambda one: (taken[one] + 1) / weights[one])
        if (item := next(stream, None)) is not None:
            taken[stream] += 1
            yield item
        elif whole:
            del taken[stream]
        else:
            return


def split(sieves: list[Sieve], data: Data, source: Source, counts: dict[str, int]) -> Iterator[tuple[str, rows.Row]]:
    """Each row that is used, with the side it falls on, until both sides are full; `counts` has those, and the others.

    Rows of a source's own tests may be held out, and are never trained on.
    """
    limits = {"train": source.rows, "eval": source.eval_rows}
    for tests, wanted in ((False, SIDES), (True, ("eval",))):
        mixed = interleaved({sieve.usable(tests): sieve.part.weight for sieve in sieves}, whole=tests)
        while any(counts[side] != limits[side] for side in wanted) and (row := next(mixed, None)):
            side = "eval" if rows.held_out(row, data.salt, data.eval_share) else "train"
            if side not in wanted:
                counts["of test splits, not to be trained on"] += 1
            elif counts[side] == limits[side]:
                counts["over the limits"] += 1
            else:
                counts[side] += 1
                yield side, row


def prepare(name: str, data: Data, out: Path) -> str:
    """Write the data set into `out`, and say what it is. Raises InputError where a source is not what it must be."""
    source, schema = getattr(data, name), rows.SCHEMAS[name]
    counts = dict.fromkeys(("read", *SIDES, "over the limits", "of test splits, not to be trained on"), 0)
    waiting: dict[str, list[rows.Row]] = {side: [] for side in SIDES}
    with Progress(f"data/{name}") as progress, ExitStack() as stack:
        # Any number of rows, with little in memory: "" is a temporary file that nobody sees, gone at the end.
        seen = sqlite3.connect("", isolation_level=None)
        seen.executescript("PRAGMA journal_mode = OFF; CREATE TABLE seen (digest INTEGER PRIMARY KEY); BEGIN")
        sieves = [Sieve(name, data, part, seen, progress) for part in source.parts]
        paths = {side: out / f"{side}.parquet" for side in SIDES}
        files = {side: stack.enter_context(pq.ParquetWriter(paths[side], schema, compression="zstd")) for side in paths}
        for side, row in split(sieves, data, source, counts):
            waiting[side].append(row)
            if len(waiting[side]) == CHUNK:
                files[side].write_table(pa.Table.from_pylist(waiting[side], schema=schema))
                waiting[side].clear()
        extra_columns = list(dict.fromkeys(column for sieve in sieves for column in sieve.extra_columns))
        for side, rest in waiting.items():
            if rest:
                files[side].write_table(pa.Table.from_pylist(rest, schema=schema))
            if extra_columns:
                files[side].add_key_value_metadata({"extra_columns": json.dumps(extra_columns)})
    read = counts["read"] = sum(sieve.read for sieve in sieves)
    report = {"sources": [sieve.report() for sieve in sieves], "rows": counts}
    for side in SIDES:
        if not counts[side]:
            raise InputError(
                f"data/{name}/{side}.parquet would have no rows, of {read} read; it needs more rows, "
                f"or another data.eval_share in params.yaml (now {data.eval_share:g})."
            )
    (out / "source.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    dropped = sum((sieve.dropped for sieve in sieves), Counter())
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(dropped.items())) or "none"
    kept = f"{counts['train']:,} rows to train on, {counts['eval']:,} held out"
    said = f"{kept}, of {read:,} read; dropped: {reasons}"
    if extra_columns:
        said += f"; for rewards also: {', '.join(extra_columns)}"
    if left_out := {f"{column} ({reason})": None for sieve in sieves for column, reason in sieve.left_out.items()}:
        said += f"; not handed on to them: {', '.join(left_out)}"
    return said


def main(name: str) -> None:
    """Prepare data/<name>, whole or not at all."""
    from llmrl import params

    with replaced(Path("data", name)) as unfinished:
        said = prepare(name, params.experiment().data, unfinished)
    print(f"data/{name}: {said}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m llmrl.data.prepare", description="Prepare one data set, data/<name>.")
    parser.add_argument("name", choices=DATA_SETS)
    with reported():
        main(parser.parse_args().name)
