"""The four stages on a GPU, in as little memory as a card of 6 GB has: `python -m bench.gpu [--minutes 9]`.

Measures, for each Hub profile, each stage as it stands, TRL by its documented settings on the same rows, and the stage
with each setting that saves memory off, one at a time: what is allocated and reserved at most. Torch may reserve
5.0 GiB; what needs more is measured again without that limit, and TRL also under the least whole number of GiB in which
it runs. bench.speed has the speed.

Weights are random, of the real shapes, and every row is as long as the profile admits. Each measurement is a process of
its own and goes at once into bench/results/gpu-<date>.json, from which gpu-<date>.md is written; a call measures what
is still missing there, for at most so many minutes. `--at-once 8` measures so many side by side. `--smoke` proves the
same code on a CPU, with narrow models.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import gpu_table
from bench.gpu_jobs import CAP, KINDS, PROFILE, PROFILES, ROOT, TRL, Job, jobs, settings_of
from llmrl import devices
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "triton", "liger-kernel", "bitsandbytes")
# What decides how long the rows are.
LENGTHS = (("sft", "max_length"), ("reward", "max_length"), ("dpo", "max_length"), ("grpo", "max_prompt_length"))

Attempt = dict[str, Any]


def following(attempts: list[Attempt], cap: float | None, least: bool) -> list[float | None]:
    """The cap to try next, or none: the asked one, where that is too little none at all and, for the `least` that is
    enough, whole GiB upwards from what was allocated without one.
    """
    if not attempts:
        return [cap]
    if "failed" in attempts[-1]:
        return []
    if attempts[-1]["cap"] is None and attempts[-1]["fits"] and least and cap is not None:
        return [max(math.ceil(attempts[-1]["peaks"]["training"]["allocated"]), math.floor(cap) + 1)]
    if attempts[-1]["fits"] or attempts[-1]["cap"] is None:
        return []
    return [None] if len(attempts) == 1 else [attempts[-1]["cap"] + 1]


class Report:
    """The results so far, as JSON and as a table."""

    def __init__(self, path: Path, about: dict[str, Any], call: str) -> None:
        self.path = path
        old = json.loads(path.read_text()) if path.exists() else about | {"calls": [], "measured": []}
        for name in ("device", "cap", "versions"):
            if old[name] != about[name]:
                raise InputError(f"{path} is of another {name}, {old[name]}: --out begins anew elsewhere.")
        whole = [one for one in old["measured"] if "failed" not in one]  # what failed is tried again
        self.content = about | {"calls": [*old["calls"], call], "measured": whole}

    def attempts(self, job: Job) -> list[Attempt]:
        return [one for one in self.content["measured"] if job.key == (one["profile"], one["stage"], one["name"])]

    def add(self, job: Job, attempt: Attempt) -> None:
        named = {"profile": job.profile, "stage": job.stage, "name": job.name}
        self.content["measured"].append(named | attempt)
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")
        self.path.with_suffix(".md").write_text(gpu_table.markdown(self.content))


class Workplace:
    """Where the measurements run: a folder a profile and its lengths, with models and data; 5 GB of them."""

    def __init__(self, folder: Path, smoke: bool) -> None:
        self.folder, self.smoke = folder / ("smoke" if smoke else "whole"), smoke
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": ",".join(devices.visible()[:1]),  # of several, TRL wants a process each
        }

    def beside(self, job: Job) -> Workplace:
        """A workplace for one job while others are measured: the same files, which nobody changes, but params.yaml."""
        made, own = self.filled(job), Workplace(self.folder / "beside" / "-".join(job.key), self.smoke)
        shutil.rmtree(own.folder, ignore_errors=True)
        shutil.copytree(made, own.folder / made.name, copy_function=os.link)
        (own.folder / made.name / "params.yaml").unlink()
        return own

    def run(self, folder: Path, limit: float | None, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", *command),
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def filled(self, job: Job) -> Path:
        """The folder of a job's profile, with the job's params.yaml."""
        settings = settings_of(job, self.smoke)
        tree = json.dumps(settings, indent=1)  # JSON is YAML
        lengths = "-".join(str(settings[section][name]) for section, name in LENGTHS)
        folder, unfinished = (self.folder / f"{dot}{job.profile}-{lengths}" for dot in ("", "."))
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            (unfinished / "params.yaml").write_text(tree)
            options = ("--smoke",) if self.smoke else ()
            done = self.run(unfinished, 600, "bench.inputs", job.profile, *options)
            if done.returncode:
                raise InputError(f"the model and data of {job.profile} could not be made:\n{done.stderr}")
            unfinished.rename(folder)
        (folder / "params.yaml").write_text(tree)
        return folder

    def attempt(self, job: Job, cap: float | None, seconds: float | None = None) -> Attempt:
        """One measurement. Raises TimeoutExpired."""
        folder = self.filled(job)
        task = {"stage": job.stage, "plain": job.kind == TRL, "around": job.kind == PROFILE, "cap": cap}
        done = self.run(folder, seconds, "bench.gpu_one", json.dumps(task))
        shutil.rmtree(folder / "runs", ignore_errors=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return {"cap": cap, "failed": said[-1], "stderr": said[-20:]}
        return {"cap": cap, **json.loads(done.stdout.splitlines()[-1])}


def tried(place: Workplace, job: Job, attempts: list[Attempt], cap: float | None, end: float) -> Iterator[Attempt]:
    """The attempts that a job still lacks, until it is time to end."""
    while caps := following(attempts, cap, least=job.kind == TRL):
        try:
            attempt = place.attempt(job, caps[0], max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return
        attempts = [*attempts, attempt]
        yield attempt


def measure(
    report: Report, place: Workplace, todo: list[Job], cap: float | None, minutes: float, number: int = 1
) -> int:
    """Measure so many jobs side by side, and count those that are not done when it is time to end."""
    end = time.monotonic() + 60 * minutes
    places = {job: place.beside(job) for job in todo}  # models and data are made once a profile
    with ThreadPoolExecutor(number) as pool:
        running = {pool.submit(list, tried(places[job], job, report.attempts(job), cap, end)): job for job in todo}
        for done in as_completed(running):
            for attempt in done.result():
                report.add(running[done], attempt)
                print(f"{' '.join(running[done].key)}: {gpu_table.short(attempt)}", flush=True)
    return sum(bool(following(report.attempts(job), cap, least=job.kind == TRL)) for job in todo)


def versions() -> dict[str, str]:
    """Those of the libraries that are here."""
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", choices=PROFILES, default=PROFILES, metavar="PROFILE")
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=[*STAGES])
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS, help="what is measured of each")
    parser.add_argument("--cap", type=float, default=CAP, help="GiB that torch may reserve")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no measurement goes on")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="measure N side by side")
    parser.add_argument("--date", default=date.today().isoformat(), help="of the results that are gone on with")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results", help="the folder of the results")
    parser.add_argument("--work", type=Path, default=ROOT / ".llmrl/bench", help="where models and data are made")
    parser.add_argument("--smoke", action="store_true", help="narrow models, on a CPU too, with no cap")
    arguments = parser.parse_args()
    device = devices.machine()
    with reported():
        if device.kind != "cuda" and not arguments.smoke:
            raise InputError("bench.gpu: nvidia-smi shows no GPU here; --smoke tries the same code with narrow models.")
        cap = None if arguments.smoke else arguments.cap
        about = {
            "date": arguments.date,
            "device": device.name,
            "cap": cap,
            "smoke": arguments.smoke,
            "versions": versions(),
        }
        call = shlex.join(("python", "-m", "bench.gpu", *sys.argv[1:]))
        report = Report(arguments.out / f"{'smoke' if arguments.smoke else 'gpu'}-{arguments.date}.json", about, call)
        todo = jobs(arguments.arch, arguments.stage, arguments.kind)
        place = Workplace(arguments.work, arguments.smoke)
        missing = measure(report, place, todo, cap, arguments.minutes, arguments.at_once)
        print(f"{report.path.with_suffix('.md')}: {len(todo) - missing} of {len(todo)} measured")
        if missing:
            print("the same command goes on with the rest")
        if any("failed" in one for one in report.content["measured"]):
            raise InputError("some failed: see `failed` and `stderr` in the JSON")


if __name__ == "__main__":
    main()
