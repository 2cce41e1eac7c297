"""What `dvc repro` costs where there is nothing to do: `python -m bench.noop [--pairs 15] [--gib 1]`.

    our pipeline, eight empty commands in a row, our pipeline, …

Prints the median over pairs of the ratio of wall times. `--gib` first makes each of the five models that large. Run it
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


def seconds(folder: Path) -> float:
    """Wall time of a `dvc repro` that finds nothing to do."""
    begun = time.monotonic()
    said = run(folder, "dvc", "repro")
    assert "up to date" in said, said
    return time.monotonic() - begun


def main() -> None:
    """Run the pairs and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--gib", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pipeline, nothing = ours(Path(temporary) / "ours", arguments.gib), empty(Path(temporary) / "empty")
        run(nothing, "dvc", "repro")
        seconds(pipeline), seconds(nothing)  # the first look hashes what the second remembers
        pairs = [(seconds(pipeline), seconds(nothing)) for _ in range(arguments.pairs)]
    ratio = statistics.median(one / other for one, other in pairs)
    mine, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    size = f", models {arguments.gib} GiB larger each" if arguments.gib else ""
    print(f"nothing to do{size}: ours {mine:.2f} s, eight empty commands {theirs:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
