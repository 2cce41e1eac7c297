"""What the default experiment learns: `python -m bench.learning [--seeds 1 2 3]`.

For each seed (of data and training) the whole pipeline in a copy of this repository, and for the first a control: SFT
continued on its own data for the wall time of DPO's and GRPO's training loops, without loading and measuring, and
without the reward model. Differences between two stages are over the same held-out prompts, with 95 % intervals by a
bootstrap over prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from bench.clone import cloned

DRAWS = 10_000


def change(folder: Path, **sections: dict[str, Any]) -> None:
    """Change params.yaml."""
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    for section, values in sections.items():
        tree[section].update(values)
    yaml.dump(tree, folder / "params.yaml")


def run(folder: Path, *command: str) -> None:
    """Run a command, which must succeed."""
    environment = os.environ | {"GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@example.org"}
    environment |= {"GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@example.org"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def records(folder: Path) -> dict[str, tuple[dict, Path]]:
    """run.json of the latest run of each stage, and its folder."""
    found = [(json.loads((run / "run.json").read_text()), run) for run in sorted((folder / "runs").iterdir())]
    return {record["stage"]: (record, run) for record, run in found}


def accuracies(run: Path, when: str = "after") -> dict[str, np.ndarray]:
    """The share of right answers to each held-out prompt, greedy and sampled."""
    table = pq.read_table(run / f"answers_{when}.parquet")
    return {way: table[f"{way}_right"].to_numpy() for way in ("greedy", "sampled")}


def gain(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Mean paired difference over prompts, and the ends of its 95 % bootstrap interval."""
    difference = after - before
    random = np.random.default_rng(0)
    means = difference[random.integers(len(difference), size=(DRAWS, len(difference)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def figures(folder: Path, stage: str) -> dict:
    """The closing figures of a stage."""
    return json.loads((folder / f"metrics/{stage}/metrics.json").read_text())[stage]


def training_seconds(run: Path) -> float:
    """Wall time of a run's training loop."""
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return next(log["train_runtime"] for log in logs if "train_runtime" in log)


def report(folder: Path, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Print what one seed learned."""
    runs = records(folder)
    answers = {"base": accuracies(runs["sft"][1], "before")}
    answers |= {stage: accuracies(runs[stage][1]) for stage in ("sft", "dpo", "grpo")}
    dpo = figures(folder, "dpo")
    print(
        f"seed {seed}: reward accuracy {figures(folder, 'reward')['accuracy']:.3f}, dpo accuracy {dpo['accuracy']:.3f}"
    )
    print(f"  log-probability of the chosen answers: sft {dpo['chosen_logp_before']:.2f}, dpo {dpo['chosen_logp']:.2f}")
    previous = None
    for stage, found in answers.items():
        line = f"  {stage:5}"
        for way in ("sampled", "greedy"):
            line += f" {way} {found[way].mean():.3f}"
            if previous:
                line += " ({:+.3f}, {:+.3f} to {:+.3f})".format(*gain(answers[previous][way], found[way]))
        print(line)
        previous = stage
    print(
        "  sft to grpo, sampled: {:+.3f}, {:+.3f} to {:+.3f}".format(
            *gain(answers["sft"]["sampled"], answers["grpo"]["sampled"])
        )
    )
    sys.stdout.flush()
    return answers


def control(folder: Path, answers: dict[str, dict[str, np.ndarray]]) -> None:
    """Continue SFT from models/sft for the wall time of DPO's and GRPO's loops, and print what that gained."""
    runs = records(folder)
    seconds = {stage: training_seconds(run) for stage, (_, run) in runs.items()}
    yaml = YAML()
    steps = yaml.load(folder / "params.yaml")["sft"]["max_steps"]
    more = round(steps * (seconds["dpo"] + seconds["grpo"]) / seconds["sft"])
    shutil.copytree(folder / "models/sft", folder / "models/start")
    change(folder, sft={"init": "models/start", "max_steps": more})
    run(folder, sys.executable, "-m", "stages.sft")
    continued = accuracies(records(folder)["sft"][1])
    for way in ("sampled", "greedy"):
        print(
            f"  control, {more} more steps of SFT ({seconds['dpo'] + seconds['grpo']:.0f} s), {way}: "
            "{:+.3f}, {:+.3f} to {:+.3f}".format(*gain(answers["sft"][way], continued[way]))
        )


def main() -> None:
    """Run the seeds and print what each learned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    for number, seed in enumerate(parser.parse_args().seeds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = cloned(Path(temporary) / "clone", products=False)
            change(folder, data={"seed": seed}, train={"seed": seed}, answers={"seed": seed})
            run(folder, "git", "init", "-q")
            run(folder, "git", "add", "-A")
            run(folder, "git", "commit", "-qm", "seed")
            begun = time.monotonic()
            run(folder, "dvc", "repro")
            print(f"seed {seed}: cold `dvc repro` {time.monotonic() - begun:.0f} s")
            answers = report(folder, seed)
            if number == 0:
                control(folder, answers)


if __name__ == "__main__":
    main()
