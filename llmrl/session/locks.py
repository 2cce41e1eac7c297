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

from llmrl import devices, repository, started
from llmrl.errors import InputError
from llmrl.session import interruption
from llmrl.training import processes


class TakenError(Exception):
    """Another process holds the lock; `holder` is what it said of itself, the message that in words."""

    def __init__(self, holder: dict[str, Any]) -> None:
        self.holder = holder
        of_experiment = f" of experiment {holder['experiment']}" if holder.get("experiment") else ""
        who = f"{holder.get('stage')}{of_experiment}, process {holder.get('pid')}, since {holder.get('since')}"
        super().__init__(who)


def of(place: Path) -> str:
    """The lock that the process holds which works in a folder of checkpoints."""
    return f"{place.parent.name}-{place.name}"


@contextmanager
def held(name: str, stage: str | None) -> Iterator[None]:
    """Hold a lock, saying who does for which stage, if any. Raises TakenError where another process has it."""
    holder = {
        "stage": stage,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "pid": os.getpid(),
        "machine": platform.node(),
        "dvc": started.dvc(),
        "since": datetime.now().isoformat(" ", "minutes"),
    }
    path = repository.root() / ".llmrl" / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise TakenError(json.loads(file.read() or "{}")) from None
        file.truncate(0)
        file.write(json.dumps(holder if stage else {}))
        file.flush()
        yield


@contextmanager
def alone_in(place: Path, stage: str) -> Iterator[None]:
    """Have the first process hold the lock of an experiment's stage. Raises InputError where another runs the same."""
    with ExitStack() as stack:
        while processes.first():
            try:
                stack.enter_context(held(of(place), stage))
                break
            except TakenError as taken:
                dvc, machine = taken.holder.get("dvc"), taken.holder.get("machine")
                orphan = dvc is not None and machine == platform.node() and not psutil.pid_exists(dvc)
                # An orphan is about to end; nobody's name is there while its checkpoints are removed (checkpoints.py).
                if taken.holder and not orphan:
                    refusal = f"This very experiment is being run: {taken}. Wait for it, or end that process."
                    raise InputError(refusal) from None
                time.sleep(interruption.POLL)
        yield


@contextmanager
def device(stage: str) -> Iterator[None]:
    """Hold the first device that is free; wait for one where there is none, saying for whom.

    Of several processes on a machine the first holds a device for each.
    """
    names, needed = devices.visible() or ["cpu"], processes.devices()
    # One after the other, in one order, whatever CUDA_VISIBLE_DEVICES has: else each of two experiments could wait for
    # what the other holds.
    choices = [names] if needed == 1 else [[name] for name in sorted(names[:needed])] if needed else []
    with ExitStack() as stack:
        for choice in choices:
            waiting = False
            while not (name := first_free(choice, stage, stack, quiet=waiting)):
                waiting = True
                time.sleep(interruption.POLL)
            if len(choice) > 1:
                os.environ["CUDA_VISIBLE_DEVICES"] = name
        yield


def first_free(names: list[str], stage: str, stack: ExitStack, quiet: bool) -> str | None:
    """The first device of which nobody holds the lock, now held."""
    # What Slurm has given to a job is no other job's, though both may call it cpu, or 0.
    job = f"job-{os.environ['SLURM_JOB_ID']}-" if "SLURM_JOB_ID" in os.environ else ""
    for name in names:
        try:
            stack.enter_context(held(f"{platform.node()}-{job}{name}", stage))
            return name
        except TakenError as taken:
            if not quiet:
                print(f"waiting for {name}: {taken}", flush=True)
    return None
