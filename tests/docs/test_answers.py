"""docs/answers.md against the judge: each row of its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmrl.answers.judging import KINDS, final, right

PAGE = (Path(__file__).parents[2] / "docs/answers.md").read_text(encoding="utf-8")


def rows(columns: int, last: str) -> list[list[str]]:
    """The rows of the page's tables of so many columns, the last of which is such."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")
    ]
    return [row for row in cells if len(row) == columns and re.fullmatch(last, row[-1]) and "`" in row[1]]


def written(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


@pytest.mark.parametrize(("kind", "text", "expected"), [row for row in rows(3, "|`[^`]+`") if " " not in row[0]])
def test_where_answers_stand(kind: str, text: str, expected: str) -> None:
    """The final answer of each text, by the kind that is named."""
    marks = KINDS if kind == "none" else [kind]
    for one in written(text):
        assert (written(expected) or [None if kind == "none" else "72"])[0] == final(one, marks)


@pytest.mark.parametrize(("answer", "solution", "verdict"), rows(3, "yes|no"))
def test_when_answers_are_the_same(answer: str, solution: str, verdict: str) -> None:
    """The verdict on each answer."""
    for one in written(answer):
        assert (verdict == "yes") == right(rf"\boxed{{{one}}}", written(solution)[0]), one


def test_there_are_rows() -> None:
    """The tables are found."""
    assert len(rows(3, "yes|no")) > 30
    assert len(rows(3, "|`[^`]+`")) > 6
