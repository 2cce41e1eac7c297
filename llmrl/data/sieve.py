"""What can be used of one source: its rows in the data set's one shape, each once and on its side of the split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmrl.answers import gym
from llmrl.data import asking, extra, origins
from llmrl.data.rows import Row
from llmrl.data.settings import Data, Part
from llmrl.data.shaper import Columns, Shaper
from llmrl.data.spool import CHUNK, EVAL, TESTED, TRAIN, UNUSED, Distinct, Spool
from llmrl.errors import DefectiveError, InputError
from llmrl.progress import Progress
from llmrl.repository import sha256
from llmrl.sources import made_here, task_named

# Why a usable row is on neither side.
TESTS, BY_HASH, NEAR, OVER = UNUSED_FOR = (
    "of test splits, not to be trained on",
    "held out by the hash, where data.eval names others",
    "near-duplicates of held-out prompts",
    "more than rows and eval_rows ask for",
)
COUNTED = {TRAIN: "train", EVAL: "eval", TESTED: TESTS, UNUSED: BY_HASH}
SAMPLES = 3  # whole rows of each source, to read
IDLE = 300  # rows in succession that are made and of no use, after which a task is taken to have no others


class Sieve:
    """Takes the usable rows of one source, each once and in the data set's one shape; counts the others."""

    def __init__(self, name: str, data: Data, part: Part, seen: Distinct, progress: Progress, path: Path) -> None:
        self.name, self.data, self.part, self.seen, self.progress = name, data, part, seen, progress
        self.origin = origins.origin(part, name, data.seed, progress)
        own_format = gym.NAME if task_named(part.source) and not part.columns else None  # as its rows have its columns
        self.shaper = Shaper(name, part.columns, part.format or own_format, part.template)
        self.asking = asking.Asking(part.system, part.template)
        self.spool = Spool(path, name)
        self.made, self.task = made_here(part.source), task_named(part.source)
        self.ended = False  # before there were as many as are asked for
        self.read = 0
        self.dropped: Counter[str] = Counter()  # by reason
        self.examples: dict[str, str] = {}  # where the first row of each reason stands
        self.counts: Counter[str] = Counter()  # of usable rows: those of each side, and why others are on none
        self.found: dict[str, None] = {}  # the further columns of prompts, in order
        self.left_out: dict[str, str] = {}  # those that are not handed on, with the reason
        self.samples: list[str] = []
        self.solved = 0  # rows that have a solution, or a scorer
        self.questions: set[str] = set()  # some two

    def take(self, limits: Mapping[str, float] | None = None) -> None:
        """Take all rows; of a task whose rows are made until there are so many of each side, or no others."""
        idle = 0
        for where, row in self.origin.training:
            idle = 0 if self.one(where, row) else idle + 1
            if limits and all(self.counts[side] >= limit for side, limit in limits.items()):
                break
            if self.made and idle == IDLE:
                self.ended = True
                break
        for where, row in self.origin.tests:
            self.one(where, row, alone=TESTED)
        for where, row in self.origin.named:
            self.one(where, row, alone=EVAL)
        for ours, theirs in self.part.columns.items() if self.read else ():
            if ours not in self.shaper.found:
                named = f"data.{self.name}.columns in params.yaml names {theirs!r} as {ours}"
                raise InputError(f"{named}, which no row of {self.part.source} has.")
        self.spool.close()
        del self.seen  # once all sources are taken, its memory is free

    def one(self, where: str, given: Mapping[str, Any], alone: int | None = None) -> bool:
        """Take a row, or count why not; one of a test split (TESTED) or of the evaluation set (EVAL) is held out alone.
        Whether it is of use. Raises InputError where it lacks a column.
        """
        self.read += 1
        if self.read % CHUNK == 0:
            self.progress.report(self.part.source, self.read, None, f"{self.read:,} rows read")
        try:
            shaped, source = self.shaper.shape(given)
            opening = asking.opening(shaped)
            side = self.side(opening, alone)
            # Before it is asked: another template moves no row out of a sample.
            order = digest = asking.order_hash(shaped, self.data.salt)
            if self.asking.changes:
                self.asking.ask(shaped, source)
                digest = asking.order_hash(shaped, self.data.salt)
            if self.name == "prompts":  # after it: a row does not differ from another in these alone
                self.add_extra(shaped, source)
            # What is trained on may be a copy of what is held out alone: it is left out as its near-duplicate.
            if not self.seen.add(digest ^ 1 if side == TESTED or alone == EVAL else digest):
                raise DefectiveError("duplicate")
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except DefectiveError as reason:
            self.dropped[str(reason)] += 1
            self.examples.setdefault(str(reason), where)
            return False
        if len(self.questions) < 2:
            self.questions.add(opening.question)
        self.counts[COUNTED[side]] += 1
        self.solved += shaped.get("solution") is not None or self.task is not None
        self.spool.add(shaped, opening, side, order)
        if len(self.samples) < SAMPLES and side in (TRAIN, EVAL):
            self.samples.append(f"{where}\n{to_read(given)}\n->\n{to_read(shaped)}\n")
        return True

    def side(self, opening: asking.Opening, alone: int | None) -> int:
        """The side of the split that a row falls on: by its hash, but for what is held out alone."""
        held_out = asking.held_out(opening, self.data.salt, self.data.eval_share)
        if self.part.eval is not None:
            return alone or (UNUSED if held_out else TRAIN)
        return EVAL if held_out else alone or TRAIN

    def add_extra(self, shaped: Row, source: Columns) -> None:
        columns, left_out = extra.extra_of(source)
        self.left_out |= left_out
        # Rows before the first that cannot say a column keep it: `extra_columns` says what is handed on.
        shaped["extra"] = extra.as_map({name: columns[name] for name in columns if name not in self.left_out})
        self.found |= dict.fromkeys(columns)

    @property
    def extra_columns(self) -> list[str]:
        """The names of the further columns that rewards are given."""
        return [column for column in self.found if column not in self.left_out]

    def report(self) -> dict[str, Any]:
        """The source and what became of its rows. Raises InputError where more than the stated share is defective."""
        dropped = self.dropped.most_common()
        if not self.made and self.dropped.total() > self.data.max_defective * self.read:  # which repeats itself
            examples = "; ".join(f"{count} {reason} (first: {self.examples[reason]})" for reason, count in dropped)
            raise InputError(
                f"data/{self.name}: {self.dropped.total()} of {self.read} rows are defective, more than "
                f"data.max_defective in params.yaml allows ({self.data.max_defective:g}): {examples}."
            )
        part = self.part
        named = {key: value for key, value in asdict(part).items() if value is not None}
        kept = self.read - self.dropped.total()
        counts: dict[str, Any] = {"read": self.read, "kept": kept, "dropped": dict(sorted(self.dropped.items()))}
        first = {reason: self.examples[reason] for reason in counts["dropped"]}
        further: dict[str, Any] = {}
        if self.name == "prompts":
            further = {"extra_columns": self.extra_columns, "left_out": self.left_out}
        if self.task:
            further |= {"package": f"{gym.PACKAGE} {gym.version()}", "ended": self.ended}
        return named | {
            "files": {name: sha256(path) for name, path in self.origin.read.items()},
            "held_out_files": self.origin.tested,
            "files_not_read": self.origin.not_read,
            "recognised": dict(self.shaper.recognised),
            "rows": counts,
            "first_dropped": first,
            "not_used": dict(sorted(self.shaper.unused.items(), key=lambda pair: (-pair[1], pair[0]))),
            **further,
        }


def to_read(row: Mapping[str, Any]) -> str:
    """A row to read."""
    found = {}
    for column in row:
        try:
            found[column] = row[column]
        except DefectiveError as error:
            found[column] = f"({error})"
    said = {column: value for column, value in found.items() if value is not None}
    try:
        return json.dumps(said, indent=1, ensure_ascii=False, default=repr)
    except TypeError:  # a map by dates
        return repr(said)
