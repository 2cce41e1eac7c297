"""What a report says, before it is a web page (page.py) or Markdown (markdown.py): sections of blocks.

All of them are plain text but for a chart, so that whatever models and data have in it is shown, and never run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["plain", "good", "bad", "note"]  # as it is, got better, looks wrong, by the way
Drawing = dict[str, Any]  # Vega-Lite
# What has no glyph of its own (Unicode's categories Cc and Cs), but for tab and newline.
UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
NUMBER = re.compile(r"[\s(]*[-−+±<>≤≥~]?\s*\.?\d|[-–—]?$")  # how a cell begins that is aligned as a number


def with_signs(text: str) -> str:
    r"""A text with its control characters, and halves of surrogate pairs, as signs for them.

    >>> with_signs("a\0b\x1b[1m\tc\x85")
    'a␀b␛[1m\tc⟨U+0085⟩'
    """

    def sign(found: re.Match[str]) -> str:
        code = ord(found[0])
        return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"

    return UNSEEN.sub(sign, text)


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Heading:
    """Of a part of a section."""

    text: str


@dataclass(frozen=True)
class Command:
    """A command that brings something back, to copy; `what` says what it does."""

    line: str
    what: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: the first column names the row, the others are aligned as numbers are, where they are numbers."""

    columns: list[str]
    rows: list[list[str]]
    caption: str = ""  # what the numbers are: of how many, which interval
    folded: bool = False  # on the page shown when it is asked for

    def numeric(self) -> list[bool]:
        """Of each column whether it is aligned as numbers are: half of its cells or more begin as one."""
        cells = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return [at > 0 and 2 * sum(map(bool, map(NUMBER.match, of))) >= len(of) for at, of in enumerate(cells)]


@dataclass(frozen=True)
class Chart:
    """A drawing, with what it shows in words for those who cannot see it, and for Markdown."""

    title: str
    drawing: Drawing
    words: str


@dataclass(frozen=True)
class Quote:
    """A text of a model or of the data, with what it is said of: its prompt, who gave it, what it was judged."""

    text: str
    heading: str = ""
    facts: str = ""


@dataclass(frozen=True)
class Quotes:
    """Examples to read, under a title."""

    title: str
    quotes: list[Quote]


@dataclass(frozen=True)
class Given:
    """One answer, as the reader shows it: by which policy, whether right (None: nothing to judge by) and its score."""

    policy: str
    text: str
    right: bool | None
    greedy: bool
    tokens: int
    ended: bool
    score: float | None = None


@dataclass(frozen=True)
class Asked:
    """One held-out prompt with all answers of all policies."""

    prompt: str
    solution: str | None
    answers: list[Given]


@dataclass(frozen=True)
class Reader:
    """The answers to read, searched and filtered on the page; in Markdown their number alone. `policies` in the order
    of training stand side by side. Of more than a browser reads well some are left out.
    """

    policies: list[str]
    prompts: list[Asked]
    left_out: str = ""  # how many, and where all are
    before: dict[str, str] = field(default_factory=dict)  # by policy the one that it is compared with, if any


Block = Words | Heading | Command | Grid | Chart | Quotes | Reader


@dataclass(frozen=True)
class Section:
    """One question and its answer."""

    name: str  # its place on the page: outcome, reading, audit, gaming, inputs, making, comparison, curves
    title: str
    blocks: list[Block] = field(default_factory=list)
    of: str = ""  # the experiment, where a report has several


@dataclass(frozen=True)
class Report:
    """All of it."""

    title: str
    subtitle: str  # commit, experiment, when
    sections: list[Section]
