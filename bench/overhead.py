"""What the pipeline costs over plain TRL: `python -m bench.overhead [--pairs 5]`.

    our stage, plain script, our stage, plain script, … for each of the four, on the same data, seeds and steps

Asserts equal figures at every step, and prints the median over pairs of the ratios of wall time: of the training loop,
and of the whole process less its evaluations. Run it in a repository whose `dvc repro` is up to date, on a quiet
machine; it works on a copy. Evaluation within training is off on both sides, that before training on for both. From
its second run on the plain script finds its tokens in the cache of `datasets`; ours makes them anew each time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from bench.clone import cloned
from llmrl import params
from llmrl.graph import STAGES

# What differs between two equal runs, or is of the process rather than of the training.
PASSING = ("runtime", "per_second", "step_time", "train_loss", "total_flos")


def plain_arguments(stage: str, folder: Path) -> dict:
    """What the stage script resolves from params.yaml, for the plain one."""
    settings = params.experiment(folder / "params.yaml").stages[stage]
    config = {
        "output_dir": str(folder / "plain"),
        "learning_rate": settings.lr,
        "seed": settings.own.seed,
        "per_device_train_batch_size": settings.own.micro_batch,
        "gradient_accumulation_steps": settings.own.batch // settings.own.micro_batch,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "dataloader_pin_memory": False,
        **settings.trl,
    }
    own = settings.own
    return {
        "config": config,
        "threads": own.threads,
        "init": own.init,
        "data": STAGES[stage].folder,
        "eval_rows": own.eval_rows,
        "reward_model": getattr(own, "reward_model", None),
        "rewards": getattr(own, "rewards", None),
    }


def timed(folder: Path, *command: str) -> tuple[float, str]:
    """Wall seconds of a process, and what it printed."""
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache")}  # gone with the copy
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - begun, done.stdout


class Measured(NamedTuple):
    """Seconds of a training loop, of its process less evaluation, and the logs."""

    loop: float
    process: float
    logs: list[dict]


def ours(stage: str, folder: Path) -> Measured:
    """Our stage, whose product is put back as it was."""
    kept = folder / "models" / f"{stage}.kept"
    shutil.copytree(folder / "models" / stage, kept)
    for former in ("runs", ".llmrl"):  # where its trained model lies until DVC has recorded it
        shutil.rmtree(folder / former, ignore_errors=True)
    seconds, _ = timed(folder, "-m", f"stages.{stage}")
    shutil.rmtree(folder / "models" / stage)
    kept.rename(folder / "models" / stage)
    (run,) = (folder / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluation = record["phases"]["measuring before"] + record["phases"]["measuring after"]
    return Measured(runtime(logs), seconds - evaluation, logs)


def plain(stage: str, folder: Path) -> Measured:
    """The plain script."""
    (folder / "arguments.json").write_text(json.dumps(plain_arguments(stage, folder)))
    seconds, output = timed(folder, "-m", "bench.plain", stage, "arguments.json")
    report = json.loads(output.splitlines()[-1])
    return Measured(runtime(report["logs"]), seconds - report["evaluation"], report["logs"])


def runtime(logs: list[dict]) -> float:
    return next(log["train_runtime"] for log in logs if "train_runtime" in log)


def steps(logs: list[dict]) -> list[dict]:
    """The figures of each logged step, without what differs between equal runs."""
    kept = []
    for log in logs:
        if "learning_rate" in log:
            kept.append({k: v for k, v in log.items() if not any(word in k for word in PASSING) and k != "seconds"})
            kept[-1].pop("peak_gib", None)
    return kept


def same(one: list[dict], other: list[dict]) -> bool:
    """Whether both have the same figures at every step, to the last bit; a name may be of the judge's folder."""
    return len(one) == len(other) and all(
        sorted(v for v in a.values() if isinstance(v, float) and not math.isnan(v))
        == sorted(v for v in b.values() if isinstance(v, float) and not math.isnan(v))
        for a, b in zip(one, other, strict=True)
    )


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--stages", nargs="+", default=[*STAGES], choices=STAGES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = cloned(Path(temporary) / "clone", products=True)
        yaml = YAML()
        tree = yaml.load(folder / "params.yaml")
        tree["train"]["eval_strategy"] = "no"
        yaml.dump(tree, folder / "params.yaml")
        print("stage    training loop: ours, plain, ratio   process less evaluation: ours, plain, ratio")
        for stage in arguments.stages:
            measured = [(ours(stage, folder), plain(stage, folder)) for _ in range(arguments.pairs)]
            assert all(same(steps(a.logs), steps(b.logs)) for a, b in measured), f"{stage}: the steps' figures differ"
            loops = [(a.loop, b.loop) for a, b in measured]
            processes = [(a.process, b.process) for a, b in measured]
            print(f"{stage:8} {summary(loops)}   {summary(processes)}", flush=True)


def summary(pairs: list[tuple[float, float]]) -> str:
    """Median seconds of both sides, and the median of the ratios."""
    mine, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return f"{mine:.2f} s, {theirs:.2f} s, {statistics.median(one / other for one, other in pairs):.3f}"


if __name__ == "__main__":
    main()
