"""What `dvc repro` costs where there is nothing to do: `python -m bench.noop [--rounds 15] [--gib 1]`.

    our pipeline, eight empty commands in a row, the bare pipeline, our pipeline, …

Prints the median over rounds of the ratios of wall times to the empty commands. The bare pipeline has our stages, data
and models, with the parameters and the `init` that rewires the graph, and no code to depend on and no charts: what DVC
takes for that much, no such pipeline is spared. `--gib` first makes each of the five models that large. Run it
in a repository whose `dvc repro` is up to date, on a quiet machine; it works on a copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from bench.clone import cloned

MODELS = ("base", "sft", "reward", "dpo", "grpo")


def run(folder: Path, *command: str) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def empty(folder: Path) -> Path:
    """Eight stages in a row that do nothing."""
    folder.mkdir()
    stages = {"stage0": {"cmd": "touch out0", "outs": ["out0"]}}
    for number in range(1, 8):
        stages[f"stage{number}"] = {
            "cmd": f"touch out{number}",
            "deps": [f"out{number - 1}"],
            "outs": [f"out{number}"],
        }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    shutil.copy(".dvc/config", folder / ".dvc/config")
    return folder


def ours(folder: Path, gib: int) -> Path:
    """A copy of this repository, its products with it, each model `gib` GiB larger."""
    cloned(folder, products=True)
    run(folder, "git", "init", "-q")
    for model in MODELS if gib else ():
        with (folder / "models" / model / "more.safetensors").open("wb") as file:
            for _ in range(gib * 64):
                file.write(os.urandom(2**24))
    # Nothing is moved or linked: the copy's own cache takes the products as they are.
    run(folder, "dvc", "commit", "-f", "-q")
    return folder


def bare(folder: Path, pipeline: Path) -> Path:
    """A copy of a pipeline without its code dependencies and charts."""
    shutil.copytree(pipeline, folder)
    for file in ("dvc.yaml", "data/dvc.yaml", "models/dvc.yaml"):
        declared = yaml.safe_load((folder / file).read_text())
        declared.pop("plots", None)
        for stage in declared["stages"].values():
            stage = stage.get("do", stage)
            stage["deps"] = [path for path in stage["deps"] if not path.endswith(".py")]
        (folder / file).write_text(yaml.safe_dump(declared))
    run(folder, "dvc", "commit", "-f", "-q")
    return folder


def seconds(folder: Path) -> float:
    """Wall time of a `dvc repro` that finds nothing to do."""
    begun = time.monotonic()
    said = run(folder, "dvc", "repro")
    assert "up to date" in said, said
    return time.monotonic() - begun


def main() -> None:
    """Run the rounds and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--gib", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        nothing, pipeline = empty(Path(temporary) / "empty"), ours(Path(temporary) / "ours", arguments.gib)
        graphs = {"eight empty commands": nothing, "ours": pipeline, "bare": bare(Path(temporary) / "bare", pipeline)}
        run(nothing, "dvc", "repro")
        for folder in graphs.values():
            seconds(folder)  # the first look hashes what the second remembers
        rounds = [[seconds(folder) for folder in graphs.values()] for _ in range(arguments.rounds)]
    print(f"nothing to do, models {arguments.gib} GiB larger each:" if arguments.gib else "nothing to do:")
    for name, taken in zip(graphs, zip(*rounds, strict=True), strict=True):
        ratio = statistics.median(mine / theirs for mine, (theirs, *_) in zip(taken, rounds, strict=True))
        print(f"  {name:21} {statistics.median(taken):.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
