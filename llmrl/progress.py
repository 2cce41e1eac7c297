"""What the terminal shows while data and models are fetched and read: a bar; in a log file a line now and then."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress
from rich.console import Console
from rich.filesize import decimal

LINE_EVERY = 30.0  # seconds between two lines in a log file


class Progress:
    """Shows what is being done and how far it is, under the name of what is made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.console = Console(highlight=False)
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[done]}"),
            progress.TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=None, done="")
        self.said = time.monotonic()

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.bar.stop()

    def rows(self, source: str, number: int) -> None:
        """So many rows of a source have been read."""
        self.show(source, number, None, f"{number:,} rows read")

    def received(self, file: str, size: int, whole: int | None) -> None:
        """So much of a file has been downloaded."""
        self.show(file, size, whole, decimal(size) + (f" of {decimal(whole)}" if whole else ""))

    def show(self, what: str, number: int, whole: int | None, done: str) -> None:
        self.bar.update(self.task, description=f"{self.name}: {what}", completed=number, total=whole, done=done)
        if not self.console.is_terminal and time.monotonic() - self.said >= LINE_EVERY:
            self.said = time.monotonic()
            self.console.print(f"{self.name}: {what}: {done}")
