"""What checkpoints cost: `python -m bench.checkpoints [--steps 40]`.

SFT of a model with the architecture of SmolLM2-135M and random weights, in float32 on the CPU: once without
checkpoints, once with one every few steps; a checkpoint is 1.6 GB. Prints the wall times of the training loops, the
seconds that one checkpoint took, what that is at the default interval and, for a run that was killed, the seconds from
its new start to its first new step. Needs some 10 minutes, a quiet machine, and a repository in which `dvc repro` has
run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import transformers
from ruamel.yaml import YAML

from bench import inputs
from bench.clone import cloned

NEVER = 10**9  # steps


def large(folder: Path) -> None:
    """Put a large model, with the tiny one's tokenizer, where sft looks for the base model."""
    base = folder / "models/base"
    tokens = {name: json.loads((base / "config.json").read_text())[name] for name in ("pad_token_id", "eos_token_id")}
    config = transformers.AutoConfig.for_model(**inputs.MODELS["smollm2-135m"], **tokens)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(base)
    for lock in ("dvc.lock", "data/dvc.lock", "models/dvc.lock"):
        (folder / lock).unlink()  # they have recorded the tiny one


def settings(folder: Path, steps: int, save_steps: int | str) -> None:
    """A run of so many steps, with little evaluation."""
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    tree["train"].update(eval_strategy="no", batch=8, micro_batch=8, logging_steps=1)
    tree["sft"].update(max_steps=steps, eval_rows=8)
    tree["answers"].update(samples=1, max_new_tokens=2, batch=8)
    tree["run"]["save_steps"] = save_steps
    yaml.dump(tree, folder / "params.yaml")
    shutil.rmtree(folder / ".llmrl", ignore_errors=True)
    shutil.rmtree(folder / "runs", ignore_errors=True)


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen((sys.executable, "-m", "stages.sft"), cwd=folder, env=os.environ, stdout=subprocess.DEVNULL)


def logged(folder: Path) -> list[dict[str, Any]]:
    """The logs of the newest run."""
    files = sorted(folder.glob("runs/*/metrics.jsonl"))
    return [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []


def loop(folder: Path, steps: int, save_steps: int | str) -> float:
    """Seconds of a training loop."""
    settings(folder, steps, save_steps)
    if start(folder).wait():
        raise SystemExit("the stage failed")
    return next(line["train_runtime"] for line in logged(folder) if "train_runtime" in line)


def cost(folder: Path, every: int) -> float:
    """The seconds a checkpoint took: how much longer than the median step those before one were, on average."""
    times = {line["step"]: line["seconds"] for line in logged(folder) if "loss" in line}
    gaps = {step: times[step] - times[step - 1] for step in times if step - 1 in times}
    written = [gaps[step + 1] for step in gaps if step % every == 0 and step + 1 in gaps]
    return statistics.mean(written) - statistics.median(gaps.values())


def restart(folder: Path) -> float:
    """Seconds from the start of a run that continues to the first step it logs."""
    settings(folder, 8, 3)
    first = start(folder)
    while not list(folder.glob(".llmrl/checkpoints/sft/*/*/step-3")):
        time.sleep(0.1)
    first.kill()
    first.wait()
    shutil.rmtree(folder / "runs")
    begun = time.monotonic()
    second = start(folder)
    while not any(line["step"] > 3 for line in logged(folder)):
        time.sleep(0.05)
    seconds = time.monotonic() - begun
    second.kill()
    second.wait()
    return seconds


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=8, help="steps between two checkpoints")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = cloned(Path(temporary) / "clone", products=True)
        large(folder)
        interval = YAML(typ="safe").load(folder / "params.yaml")["run"]["save_steps"]
        print(f"restart to the first new step: {restart(folder):.1f} s", flush=True)
        without = loop(folder, arguments.steps, NEVER)
        print(f"{arguments.steps} steps without checkpoints: {without:.1f} s", flush=True)
        kept = loop(folder, arguments.steps, arguments.every)
        one = cost(folder, arguments.every)
        seconds = 60 * float(interval.removesuffix("min"))
        print(f"with one every {arguments.every} steps: {kept:.1f} s, ratio {kept / without:.3f}", flush=True)
        print(f"one takes {one:.1f} s: with one every {interval}, {1 + one / seconds:.3f} times")


if __name__ == "__main__":
    main()
