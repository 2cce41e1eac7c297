"""What the terminal shows while data and models are fetched and read: a bar; in a log file a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

LINE_EVERY = 30.0  # seconds between two lines in a log file


class Progress:
    """Shows what is being done and how far it is, under the name of what is made."""

    def __init__(self, name: str) -> None:
        self.name, self.said = name, time.monotonic()
        self.bar = None
        if sys.stdout.isatty():
            from rich import progress

            self.bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[done]}"),
                progress.TimeElapsedColumn(),
                transient=True,
            )
            self.task = self.bar.add_task(name, total=None, done="")

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def rows(self, source: str, number: int) -> None:
        """So many rows of a source have been read."""
        self.show(source, number, None, f"{number:,} rows read")

    def received(self, file: str, size: int, whole: int | None) -> None:
        """So much of a file has been downloaded."""
        done = f"{size / 1e6:,.1f} MB" + (f" of {whole / 1e6:,.1f} MB" if whole else "")
        self.show(file, size, whole, done)

    def show(self, what: str, number: int, whole: int | None, done: str) -> None:
        if self.bar:
            self.bar.update(self.task, description=f"{self.name}: {what}", completed=number, total=whole, done=done)
        elif time.monotonic() - self.said >= LINE_EVERY:
            self.said = time.monotonic()
            print(f"{self.name}: {what}: {done}", flush=True)
