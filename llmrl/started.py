"""Who started this process: the DVC above it, and the command that was typed."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

import psutil


def by_dvc() -> list[psutil.Process]:
    """This process and those above it that the same DVC command started (a shell, a launcher), topmost last."""
    chain = [psutil.Process()]
    with suppress(psutil.Error):  # of a process of somebody else's
        while (above := chain[-1].parent()) and "DVC_STAGE" in above.environ():
            chain.append(above)
    return chain


def dvc() -> int | None:
    """The process of the DVC that started this one, or None."""
    return parent(by_dvc()[-1]) if "DVC_STAGE" in os.environ else None


def parent(process: psutil.Process) -> int | None:
    """The process that started this one, or whoever has adopted it; None where it has ended itself."""
    with suppress(psutil.NoSuchProcess):
        return process.ppid()
    return None


def again() -> str:
    """The command that does once more what this process is part of, as it was typed, in words.

    Of an experiment none but its own will do: `dvc repro` would go on all the same, and leave nothing of that name.
    """
    words: list[str] = []
    if pid := dvc():
        with suppress(psutil.Error):
            words = psutil.Process(pid).cmdline()
    typed = next((words[place:] for place, word in enumerate(words, 1) if Path(word).name == "dvc"), [])
    if typed[:2] == ["exp", "exec-run"]:  # as a worker of the queue starts it
        name = os.environ.get("DVC_EXP_NAME")
        return f"the same `dvc exp run --queue -n {name} …`, with `dvc queue start`,"
    return f"`{shlex.join(['dvc', *typed])}`" if typed else "the same command"
