"""The one display of how far something is: a bar on a terminal; in a log file a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FIRST_LINE, LINE_EVERY = 10.0, 30.0  # seconds to the first line in a log file, and between two
POLL = 1.0  # seconds between two looks at whether one is due, where nothing else looks


class Progress(AbstractContextManager["Progress"]):
    """How far something that has a name is, while one is within: what it was told of that last, else for how long it
    has gone on.

    On `screen` or else stdout, where that is a terminal, it is a bar, which is gone at the end unless it `stays`. In a
    log file it is a line after FIRST_LINE seconds, so that what takes less has none, and then every LINE_EVERY. `say`
    writes such a line, also where there is a bar; without it one is printed where there is no bar.
    """

    def __init__(
        self, name: str, screen: Console | None = None, say: Callable[[str], None] | None = None, stays: bool = False
    ) -> None:
        self.name = self.doing = name
        self.began = self.said = time.monotonic()
        self.text = self.line = self.last = ""  # how far it is, for a bar and for a log file; the last line there
        self.counted: tuple[object, int, float] = (None, 0, 0.0)  # what is counted, with the first number and its time
        self.over, self.one_line = threading.Event(), threading.Lock()
        self.drawn = None
        if (screen.is_terminal and not screen.quiet) if screen else sys.stdout.isatty():
            from rich import progress

            columns = (
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[shown].words}", markup=False),  # of the moment it is drawn
            )
            self.drawn = progress.Progress(*columns, console=screen, transient=not stays)
            self.drawn.add_task(name, total=None, shown=self)
        self.say = say or (None if self.drawn else partial(print_line, screen))
        self.teller = threading.Thread(target=self.tell_on, daemon=True) if self.say else None

    def __enter__(self) -> Progress:
        if self.drawn:
            self.drawn.start()
        if self.teller:
            self.teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        if self.teller:
            self.teller.join()
        if self.drawn:
            self.drawn.stop()

    @property
    def words(self) -> str:
        return self.text or f"{time.monotonic() - self.began:.0f} s so far"

    def show(self, doing: str, done: float, whole: float | None, text: str, line: str = "") -> None:
        """How far what is being done is, of a `whole` that may not be known, and in words; for a log file in a line of
        its own, or these.
        """
        self.doing, self.text, self.line = doing, text, line
        if self.drawn:
            (task,) = self.drawn.tasks
            task.total = whole  # `update` takes no None for it
            self.drawn.update(task.id, description=doing, completed=done)

    def count(self, done: int, whole: int, what: str = "", doing: str = "") -> None:
        """So many of a whole are done, and how long the others will take, by those since the first call. What follows
        when all are is not counted.
        """
        if done >= whole:
            self.counted = (None, 0, 0.0)
            self.show(self.name, 0, None, "")
            return
        now = time.monotonic()
        if self.counted[0] != (counted := (doing, what, whole)):
            self.counted = (counted, done, now)
        _, first, since = self.counted
        left = f", {(now - since) / (done - first) * (whole - done):.0f} s left" if done > first else ""
        self.show(doing or self.name, done, whole, f"{done:,} of {whole:,} {what}".rstrip() + left)
        self.tell()

    def counting(self, whole: int, what: str) -> Callable[[int], None]:
        """Counts to a whole: what it gives is to be called with how many more are done."""
        done = 0

        def counted(more: int) -> None:
            nonlocal done
            done += more
            self.count(done, whole, what)

        counted(0)
        return counted

    def tell(self, now: bool = False) -> None:
        """Write a line into a log file where it is time for one, and it differs from the last."""
        with self.one_line:
            line = self.line or f"{self.doing}: {self.words}"
            wait = LINE_EVERY if self.last else min(FIRST_LINE, LINE_EVERY)
            if self.say and line != self.last and (now or time.monotonic() - self.said >= wait):
                self.said, self.last = time.monotonic(), line
                self.say(line)

    def tell_on(self) -> None:
        """Do so until the end, as what is being done may say nothing for long."""
        with suppress(OSError):  # a full disk is said where it stops the run
            while not self.over.wait(POLL):
                self.tell()

    def received(self, file: str, size: int, whole: int | None) -> None:
        """So much of a file has been downloaded."""
        self.report(file, size, whole, f"{size / 1e6:,.1f} MB" + (f" of {whole / 1e6:,.1f} MB" if whole else ""))

    def report(self, what: str, done: int, whole: int | None, text: str) -> None:
        elapsed = timedelta(seconds=int(time.monotonic() - self.began))
        doing = f"{self.name}: {what}"
        self.show(doing, done, whole, f"{text} {elapsed}", f"{doing}: {text}")
        self.tell()


def print_line(screen: Console | None, line: str) -> None:
    """Print a line as it stands."""
    if screen:
        screen.print(line, soft_wrap=True, markup=False)
    else:
        print(line, flush=True)
