"""Attacks and honest rewritings, which others than the judge's authors drew up: none of the first is right, each of the
second is.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attacks import ATTACKS
from rewritings import rewritings

from llmrl.answers.judging import right

PAGE = (Path(__file__).parents[2] / "docs/answers.md").read_text(encoding="utf-8")


def test_they_are_as_large_as_they_are_said_to_be() -> None:
    """By docs/answers.md."""
    attacks, honest = (int(found.replace(",", "")) for found in re.findall(r"of ([\d,]+) (?:attacks|honest)", PAGE)[:2])
    assert attacks == sum(map(len, ATTACKS.values())) >= 150
    assert honest == len(list(rewritings(1))) >= 300


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks_are_wrong(kind: str) -> None:
    """Whatever is tried, a wrong answer is wrong."""
    assert [] == [(text, gold) for text, gold in ATTACKS[kind] if right(text, gold)]


def misjudged(seeds: range) -> list[tuple[str, str, str]]:
    return [one for seed in seeds for one in rewritings(seed) if not right(*one[1:])]


def test_rewritings_are_right() -> None:
    """However an answer is written, it is right."""
    assert [] == misjudged(range(3))


@pytest.mark.slow
def test_many_rewritings_are_right() -> None:
    """Some fifty thousand, of other values."""
    assert [] == misjudged(range(100, 150))
