"""Locks between processes, in .llmrl/locks/ of the main repository: one for each experiment's stage, one a device.

A lock is held until its process lets go of it, or ends, however that ends; the file tells who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from llmrl import hardware, interruption, launch, repository
from llmrl.errors import InputError

POLL = 0.5  # seconds between two tries


class TakenError(Exception):
    """Another process holds the lock; `holder` is what it said of itself."""

    def __init__(self, holder: dict[str, Any]) -> None:
        self.holder = holder
        super().__init__(f"taken by {holder}")


def folder() -> Path:
    return repository.root() / ".llmrl" / "locks"


def of(place: Path) -> Path:
    """The lock that the process holds which works in a folder of checkpoints."""
    return folder() / f"{place.parent.name}-{place.name}"


@contextmanager
def held(path: Path, holder: dict[str, Any]) -> Iterator[None]:
    """Hold the lock, saying who does. Raises TakenError where another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise TakenError(json.loads(file.read() or "{}")) from None
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield


def myself(stage: str) -> dict[str, Any]:
    """What a process says of itself."""
    return {
        "stage": stage,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "pid": os.getpid(),
        "machine": platform.node(),
        "dvc": interruption.dvc(),
        "since": datetime.now().isoformat(" ", "minutes"),
    }


def shown(holder: dict[str, Any]) -> str:
    """A holder in words."""
    of_experiment = f" of experiment {holder['experiment']}" if holder.get("experiment") else ""
    return f"{holder.get('stage')}{of_experiment}, process {holder.get('pid')}, since {holder.get('since')}"


@contextmanager
def experiment(place: Path, stage: str) -> Iterator[None]:
    """Hold the lock of a stage of an experiment; of several processes the first does.

    Raises InputError where another process runs the same.
    """
    with ExitStack() as stack:
        while launch.first():
            try:
                stack.enter_context(held(of(place), myself(stage)))
                break
            except TakenError as taken:
                dvc, machine = taken.holder.get("dvc"), taken.holder.get("machine")
                orphan = dvc is not None and machine == platform.node() and not psutil.pid_exists(dvc)
                # An orphan is about to end; nobody's name is there while its checkpoints are removed (checkpoints.py).
                if taken.holder and not orphan:
                    raise InputError(
                        f"This very experiment is being run: {shown(taken.holder)}. Wait for it, or end that process."
                    ) from None
                time.sleep(POLL)
        yield


@contextmanager
def device(stage: str) -> Iterator[None]:
    """Hold the first device that is free; wait for one where there is none, saying for whom.

    Of several processes on a machine the first holds a device for each, taken one after the other, in one order: two
    experiments never wait for each other.
    """
    names, needed = hardware.devices() or ["cpu"], launch.devices()
    # Taken in one order, whatever CUDA_VISIBLE_DEVICES has: else each could wait for what the other holds.
    choices = [names] if needed == 1 else [[name] for name in sorted(names[:needed])] if needed else []
    with ExitStack() as stack:
        for choice in choices:
            waiting = False
            while not (name := first_free(choice, stage, stack, quiet=waiting)):
                waiting = True
                time.sleep(POLL)
            if len(choice) > 1:
                os.environ["CUDA_VISIBLE_DEVICES"] = name
        yield


def first_free(names: list[str], stage: str, stack: ExitStack, quiet: bool) -> str | None:
    """The first device of which nobody holds the lock, now held.

    What Slurm has given to a job is no other job's, though both may call it cpu, or 0.
    """
    job = f"job-{os.environ['SLURM_JOB_ID']}-" if "SLURM_JOB_ID" in os.environ else ""
    for name in names:
        try:
            stack.enter_context(held(folder() / f"{platform.node()}-{job}{name}", myself(stage)))
            return name
        except TakenError as taken:
            if not quiet:
                print(f"waiting for {name}: {shown(taken.holder)}", flush=True)
    return None
