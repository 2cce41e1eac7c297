"""What a larger data set costs to prepare: `python -m bench.prepare [--rows 40000] [--pairs 3]`.

    so many rows of conversations in one Parquet file, ten times as many in ten such files, so many, …
    200,000 rows of 350 bytes in one file of JSON Lines, plain and compressed

Each is prepared by a process of its own, `python -m llmrl.data.prepare sft`, with no limit of rows. Prints the medians
over pairs of the ratios of wall time and of peak resident memory, and rows a second. It works on a copy.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from bench.clone import cloned
from llmrl.data.spool import SCHEMAS

TIMES = 10
WORDS = 40  # a turn
LINES, WORDS_OF_LINE = 200_000, 21  # which make 350 bytes


class Cost(NamedTuple):
    """Seconds, and MiB of resident memory at the most, of a process."""

    seconds: float
    memory: float


def conversations(rows: int, length: int, seed: int) -> list[list[dict[str, str]]]:
    """Conversations of one question and one answer, of so many words each, no two alike."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("aeiounrstl", k=chance.randint(2, 9))) for _ in range(5000)]
    return [
        [{"role": role, "content": " ".join(chance.choices(words, k=length))} for role in ("user", "assistant")]
        for _ in range(rows)
    ]


def shard(path: Path, rows: int, seed: int) -> None:
    """Write a Parquet file of so many rows."""
    pq.write_table(pa.table({"messages": conversations(rows, WORDS, seed)}, SCHEMAS["sft"]), path)


def lines(plain: Path, compressed: Path) -> None:
    """Write a file of JSON Lines, plain and compressed."""
    rows = conversations(LINES, WORDS_OF_LINE, seed=0)
    text = "".join(json.dumps({"messages": turns}) + "\n" for turns in rows).encode()
    plain.write_bytes(text)
    compressed.write_bytes(gzip.compress(text))


def settings(folder: Path) -> None:
    """The user's own files, all rows of them."""
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    tree["data"]["sft"].update(source="raw", rows=None, eval_rows=None)
    yaml.dump(tree, folder / "params.yaml")


def prepared(folder: Path, shards: list[Path]) -> Cost:
    """What it costs to prepare these files."""
    raw = folder / "data/raw/sft"
    shutil.rmtree(raw)
    raw.mkdir()
    for shard in shards:
        (raw / shard.name).hardlink_to(shard)
    begun = time.monotonic()
    process = subprocess.Popen(
        (sys.executable, "-m", "llmrl.data.prepare", "sft"), cwd=folder, stdout=subprocess.DEVNULL, env=os.environ
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("preparing failed")
    unit = 1 if sys.platform == "darwin" else 1024  # of bytes
    return Cost(seconds, usage.ru_maxrss * unit / 2**20)


def main() -> None:
    """Make the files, prepare them in pairs, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = cloned(Path(temporary) / "clone", products=False)
        settings(folder)
        shards = [Path(temporary) / f"train-{number:05}-of-{TIMES:05}.parquet" for number in range(TIMES)]
        kinds = [Path(temporary) / name for name in ("train.jsonl", "train.jsonl.gz")]
        # By another process: what a process has taken counts as what those that it starts have taken, too.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            made = [
                other.submit(shard, path, arguments.rows, seed) for path, seed in zip(shards, count(), strict=False)
            ]
            for one in [*made, other.submit(lines, *kinds)]:
                one.result()
        pairs = [(prepared(folder, shards[:1]), prepared(folder, shards)) for _ in range(arguments.pairs)]
        seconds_of = {path.name: [prepared(folder, [path]).seconds for _ in range(arguments.pairs)] for path in kinds}
    for rows, costs in zip((arguments.rows, TIMES * arguments.rows), zip(*pairs, strict=True), strict=True):
        seconds, memory = (statistics.median(figure) for figure in zip(*costs, strict=True))
        print(f"{rows:9,} rows: {seconds:6.1f} s, {memory:5.0f} MiB")
    time_ratio, memory_ratio = (
        statistics.median(many[figure] / few[figure] for few, many in pairs) for figure in (0, 1)
    )
    print(f"{TIMES} times the rows: {time_ratio:.1f} times the time, {memory_ratio:.2f} times the memory")
    for name, taken in seconds_of.items():
        print(f"{name}: {LINES / statistics.median(taken):,.0f} rows a second")


if __name__ == "__main__":
    main()
