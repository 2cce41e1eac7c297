"""The one display of how far something is: a bar on a terminal; in a log file a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY = 30.0  # seconds between two lines in a log file


class Progress(AbstractContextManager["Progress"]):
    """A bar on `screen` or else stdout, where that is a terminal, under the name of what is made, until it is stopped;
    on stdout it is gone then.
    """

    def __init__(self, name: str, screen: Console | None = None) -> None:
        self.name = name
        self.began = self.said = time.monotonic()
        self.drawn = None
        if screen.is_terminal if screen else sys.stdout.isatty():
            from rich import progress

            columns = ("{task.description}", progress.BarColumn(), "{task.fields[text]}")
            self.drawn = progress.Progress(*columns, console=screen, transient=screen is None)
            self.task = self.drawn.add_task(name, total=None, text="")
            self.drawn.start()

    def stop(self, *_: object) -> None:
        if self.drawn:
            self.drawn.stop()

    __exit__ = stop

    def show(self, what: str, done: float, whole: float | None, text: str) -> None:
        """Draw how far `what` is, of a `whole` that may not be known, and in words."""
        if self.drawn:
            self.drawn.update(self.task, description=what, completed=done, total=whole, text=text)

    def due(self) -> bool:
        """Whether it is time for a line in a log file; if so, the caller writes one."""
        now = time.monotonic()
        if now - self.said < LINE_EVERY:
            return False
        self.said = now
        return True

    def received(self, file: str, size: int, whole: int | None) -> None:
        """So much of a file has been downloaded."""
        self.report(file, size, whole, f"{size / 1e6:,.1f} MB" + (f" of {whole / 1e6:,.1f} MB" if whole else ""))

    def report(self, what: str, done: int, whole: int | None, text: str) -> None:
        elapsed = timedelta(seconds=int(time.monotonic() - self.began))
        self.show(f"{self.name}: {what}", done, whole, f"{text} {elapsed}")
        if not self.drawn and self.due():
            print(f"{self.name}: {what}: {text}", flush=True)
