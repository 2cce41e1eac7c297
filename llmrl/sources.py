"""Where rows come from: built in, the user's own files, or a repository of the Hub.

A source gives the rows that may be trained on, then those of its tests, each with where it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from llmrl import arithmetic, raw
from llmrl.errors import InputError
from llmrl.progress import Progress
from llmrl.sections import Part, of_hub

BUILTIN = {
    "builtin:arithmetic": {
        "sft": arithmetic.conversations,
        "preference": arithmetic.preferences,
        "prompts": arithmetic.prompts,
    }
}
Rows = Iterator[tuple[str, raw.Row]]
T = TypeVar("T")


class Origin(Protocol):
    """What all sources have."""

    def training(self) -> Rows:
        """The rows that may be trained on."""

    def tests(self) -> Rows:
        """Those of the source's own test splits, which are never trained on."""

    def hashes(self) -> dict[str, str]:
        """sha256 of each file that was read."""


class Builtin:
    """A task made here, without end."""

    def __init__(self, data_set: str, task: str, seed: int) -> None:
        self.task, self.stream = task, BUILTIN[task][data_set](seed)

    def training(self) -> Rows:
        return ((f"{self.task}:{number}", row) for number, row in enumerate(self.stream, 1))

    def tests(self) -> Rows:
        return iter(())

    def hashes(self) -> dict[str, str]:
        return {}


class Raw:
    """The user's own files for a data set."""

    def __init__(self, data_set: str) -> None:
        self.folder = Path("data/raw") / data_set

    def training(self) -> Rows:
        return raw.rows(self.folder)

    def tests(self) -> Rows:
        return iter(())

    def hashes(self) -> dict[str, str]:
        found = {}
        for path in raw.files(self.folder):
            with path.open("rb") as file:
                found[str(path.relative_to(self.folder))] = hashlib.file_digest(file, "sha256").hexdigest()
        return found


class Hub:
    """A repository of the Hub at a commit. A file is downloaded when its rows are wanted."""

    def __init__(self, part: Part, progress: Progress) -> None:
        from llmrl import hub, splits

        self.repository = hub.Repository("dataset", part.source, part.revision, progress)
        paths, card = self.repository.paths(), self.repository.card()
        try:
            self.files = splits.files(paths, card, part)
        except InputError as error:
            raise InputError(f"{self.repository}: {error}") from None

    def training(self) -> Rows:
        return self.rows(self.files.training)

    def tests(self) -> Rows:
        return self.rows(self.files.tests)

    def rows(self, paths: list[str]) -> Rows:
        for path in paths:
            yield from raw.read(self.repository.file(path), f"{self.repository}/{path}")

    def hashes(self) -> dict[str, str]:
        read = (*self.files.training, *self.files.tests)
        return {path: sha256 for path, sha256 in self.repository.hashes.items() if path in read}


def opened(data_set: str, part: Part, seed: int, progress: Progress) -> Origin:
    """The source that a part of a data set names. Raises InputError where there is none."""
    if part.source in BUILTIN:
        return Builtin(data_set, part.source, seed)
    return Hub(part, progress) if of_hub(part.source) else Raw(data_set)


def interleaved(streams: list[Iterator[T]], weights: list[float], whole: bool) -> Iterator[T]:
    """Items of several streams, in proportion to their weights and the same every time.

    It ends with the first stream that ends, so that the proportions hold; with `whole` when all have ended.

    >>> "".join(interleaved([iter("aaaa"), iter("bbbb")], [2, 1], whole=False))
    'aabaab'
    """
    taken = [0] * len(streams)
    waiting = list(range(len(streams)))
    while waiting:
        turn = min(waiting, key=lambda place: (taken[place] + 1) / weights[place])
        try:
            yield next(streams[turn])
        except StopIteration:
            if not whole:
                return
            waiting.remove(turn)
        taken[turn] += 1
