"""What a larger data set costs to prepare: `python -m bench.prepare [--rows 40000] [--pairs 3]`.

    so many rows of conversations in one Parquet file, ten times as many in ten such files, so many, …

Each is prepared by a process of its own, `python -m llmrl.data.prepare sft`, with no limit of rows. Prints the medians
over pairs of the ratios of wall time and of peak resident memory. It works on a copy.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from bench.clone import cloned
from llmrl.data.spool import SCHEMAS

TIMES = 10
WORDS = 40  # a turn


class Cost(NamedTuple):
    """Seconds, and MiB of resident memory at the most, of a process."""

    seconds: float
    memory: float


def conversations(path: Path, rows: int, seed: int) -> None:
    """Write conversations of one question and one answer, no two alike."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("aeiounrstl", k=chance.randint(2, 9))) for _ in range(5000)]
    turns = [
        [{"role": role, "content": " ".join(chance.choices(words, k=WORDS))} for role in ("user", "assistant")]
        for _ in range(rows)
    ]
    pq.write_table(pa.table({"messages": turns}, SCHEMAS["sft"]), path)


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
        for number, shard in enumerate(shards):
            conversations(shard, arguments.rows, seed=number)
        pairs = [(prepared(folder, shards[:1]), prepared(folder, shards)) for _ in range(arguments.pairs)]
    for rows, costs in zip((arguments.rows, TIMES * arguments.rows), zip(*pairs, strict=True), strict=True):
        seconds, memory = (statistics.median(figure) for figure in zip(*costs, strict=True))
        print(f"{rows:9,} rows: {seconds:6.1f} s, {memory:5.0f} MiB")
    time_ratio, memory_ratio = (
        statistics.median(many[figure] / few[figure] for few, many in pairs) for figure in (0, 1)
    )
    print(f"{TIMES} times the rows: {time_ratio:.1f} times the time, {memory_ratio:.2f} times the memory")


if __name__ == "__main__":
    main()
