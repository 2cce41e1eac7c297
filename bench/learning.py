"""What the default experiment learns: `python -m bench.learning [--seeds 1 2 3]`.

For each seed (of data and training) the whole pipeline in a copy of this repository, and for the first a control: SFT
continued on its own data for the wall time of DPO's and GRPO's training loops, without loading and measuring, and
without the reward model. Differences between two stages are over the same held-out prompts, with 95 % intervals over
prompts, as the report has them.
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

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from bench.clone import cloned
from llmrl.report.measures import Measured, by_prompt, gain_in


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


def answers(folder: Path, stage: str, when: str = "after") -> Measured:
    """What a stage has kept of a policy's answers to the held-out prompts."""
    return by_prompt(pq.read_table(folder / f"metrics/{stage}/held_out/{when}.parquet"))


def gain(before: Measured, after: Measured, way: str) -> str:
    """Mean paired difference over prompts, and the ends of its 95 % interval."""
    return "{:+.3f}, {:+.3f} to {:+.3f}".format(*gain_in(before, after, way)[:3])


def figures(folder: Path, stage: str) -> dict:
    """The closing figures of a stage."""
    return json.loads((folder / f"metrics/{stage}/metrics.json").read_text())[stage]


def training_seconds(folder: Path, stage: str) -> float:
    """Wall time of the training loop of a stage's only run."""
    (run,) = folder.glob(f"runs/*_{stage}*")
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return next(log["train_runtime"] for log in logs if "train_runtime" in log)


def report(folder: Path, seed: int) -> dict[str, Measured]:
    """Print what one seed learned."""
    found = {"base": answers(folder, "sft", "before")}
    found |= {stage: answers(folder, stage) for stage in ("sft", "dpo", "grpo")}
    dpo = figures(folder, "dpo")
    print(
        f"seed {seed}: reward accuracy {figures(folder, 'reward')['accuracy']:.3f}, dpo accuracy {dpo['accuracy']:.3f}"
    )
    print(f"  log-probability of the chosen answers: sft {dpo['chosen_logp_before']:.2f}, dpo {dpo['chosen_logp']:.2f}")
    previous = None
    for stage, one in found.items():
        line = f"  {stage:5}"
        for way in ("sampled", "greedy"):
            line += f" {way} {one.figure(way)[0]:.3f}"
            if previous:
                line += f" ({gain(previous, one, way)})"
        print(line)
        previous = one
    print(f"  sft to grpo, sampled: {gain(found['sft'], found['grpo'], 'sampled')}", flush=True)
    return found


def control(folder: Path, found: dict[str, Measured]) -> None:
    """Continue SFT from models/sft for the wall time of DPO's and GRPO's loops, and print what that gained."""
    seconds = {stage: training_seconds(folder, stage) for stage in ("sft", "dpo", "grpo")}
    yaml = YAML()
    steps = yaml.load(folder / "params.yaml")["sft"]["max_steps"]
    more = round(steps * (seconds["dpo"] + seconds["grpo"]) / seconds["sft"])
    shutil.copytree(folder / "models/sft", folder / "models/start")
    change(folder, sft={"init": "models/start", "max_steps": more})
    run(folder, sys.executable, "-m", "stages.sft")
    continued = answers(folder, "sft")
    for way in ("sampled", "greedy"):
        print(
            f"  control, {more} more steps of SFT ({seconds['dpo'] + seconds['grpo']:.0f} s), {way}: "
            + gain(found["sft"], continued, way)
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
            found = report(folder, seed)
            if number == 0:
                control(folder, found)


if __name__ == "__main__":
    main()
