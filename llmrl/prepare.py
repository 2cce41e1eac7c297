"""Makes one data set: `python -m llmrl.prepare sft`.

    a source (built in, or the user's files) -> data/<name>/{train,eval}.parquet and source.json

A defective row is dropped and counted by reason, up to a stated share; a defective file stops the run. The folder
appears whole, by rename, once everything is written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl import arithmetic, data, params, raw
from llmrl.errors import InputError, reported

BUILTIN = {
    "builtin:arithmetic": {
        "sft": arithmetic.conversations,
        "preference": arithmetic.preferences,
        "prompts": arithmetic.prompts,
    }
}
CHUNK = 1000  # rows a write: what is held in memory


def read(name: str, settings: params.Data, source: params.Source) -> Iterator[tuple[str, data.Row]]:
    """The source's rows, each with where it stands. Raises InputError where there is no such source."""
    if source.source in BUILTIN:
        rows = BUILTIN[source.source][name](settings.seed)
        return ((f"{source.source}:{number}", row) for number, row in enumerate(rows, 1))
    if source.source == "raw":
        return raw.rows(Path("data/raw") / name)
    raise InputError(
        f"params.yaml: data.{name}.source: {source.source!r} is not a source. "
        f"Use {', '.join(BUILTIN)}, or raw for the files in data/raw/{name}/."
    )


class Side:
    """One of the two files of a data set, with at most `limit` rows."""

    def __init__(self, path: Path, schema: pa.Schema, limit: int | None) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.schema, self.limit = schema, limit
        self.rows = 0
        self.waiting: list[data.Row] = []

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

    def close(self) -> None:
        self.flush()
        self.writer.close()


def prepare(name: str, out: Path) -> None:
    """Write the data set into the folder `out`. Raises InputError where the source is not what it must be."""
    settings, source = params.source(name)
    sides = {
        held_out: Side(out / f"{side}.parquet", data.SCHEMAS[name], limit)
        for held_out, side, limit in ((False, "train", source.rows), (True, "eval", source.eval_rows))
    }
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    seen: set[bytes] = set()
    read_rows = surplus = 0
    for where, row in read(name, settings, source):
        if all(side.full for side in sides.values()):
            break
        read_rows += 1
        try:
            shaped = shape(name, row, source.columns, where)
            digest = hashlib.blake2b(json.dumps(shaped).encode(), digest_size=16).digest()
            if digest in seen:
                raise data.DefectiveError("duplicate")
            seen.add(digest)
        except data.DefectiveError as reason:
            dropped[str(reason)] += 1
            examples.setdefault(str(reason), where)
            continue
        side = sides[data.held_out(shaped, settings.salt, settings.eval_share)]
        if side.full:
            surplus += 1
        else:
            side.add(shaped)
    for side in sides.values():
        side.close()
    refuse_defective(name, settings, source, read_rows, dropped, examples)
    for side, file in zip(sides.values(), ("train", "eval"), strict=True):
        if not side.rows:
            raise InputError(
                f"data/{name}/{file}.parquet would have no rows, of {read_rows} read; it needs more rows, "
                f"or another data.eval_share (now {settings.eval_share:g})."
            )
    report = {
        "source": source.source,
        "revision": source.revision,
        "files": hashes(Path("data/raw") / name) if source.source == "raw" else {},
        "rows": {
            "read": read_rows,
            "train": sides[False].rows,
            "eval": sides[True].rows,
            "over the limits": surplus,
            "dropped": dict(sorted(dropped.items())),
        },
    }
    (out / "source.json").write_text(json.dumps(report, indent=2) + "\n")


def shape(name: str, row: data.Row, columns: dict[str, str], where: str) -> data.Row:
    """A source's row in the data set's one shape; `columns` maps our names to the source's."""
    if missing := [theirs for theirs in columns.values() if theirs not in row]:
        raise InputError(
            f"{where}: data.{name}.columns in params.yaml names {missing[0]!r}, which the row does not have. "
            f"It has {', '.join(row)}."
        )
    renamed = row | {ours: row[theirs] for ours, theirs in columns.items()}
    try:
        return data.SHAPES[name](renamed)
    except KeyError:
        raise InputError(
            f"{where}: the row has the columns {', '.join(row)}. data/{name} needs "
            f"{' or '.join(data.COLUMNS[name])}; data.{name}.columns in params.yaml maps other names."
        ) from None


def refuse_defective(
    name: str,
    settings: params.Data,
    source: params.Source,
    read_rows: int,
    dropped: Counter[str],
    examples: dict[str, str],
) -> None:
    """Stop where more than the stated share of a user's rows is defective. A built-in task repeats itself by nature."""
    if source.source in BUILTIN or dropped.total() <= settings.max_defective * read_rows:
        return
    reasons = "; ".join(f"{count} {reason} (first: {examples[reason]})" for reason, count in dropped.most_common())
    raise InputError(
        f"data/{name}: {dropped.total()} of {read_rows} rows are defective, more than data.max_defective in "
        f"params.yaml allows ({settings.max_defective:g}): {reasons}."
    )


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file of the source."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in raw.READERS)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
    with reported():
        main(*itertools.islice(sys.argv[1:], 1))
