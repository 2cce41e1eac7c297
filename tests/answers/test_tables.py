"""Attacks and honest rewritings, which others than the judge's authors drew up: none of the first is right, each of the
second is.
"""

from __future__ import annotations

import pytest
from attacks import ATTACKS
from rewritings import rewritings

from llmrl.answers.judging import right

# Of what honest people write, what is not understood, and why. Nothing, as far as is known.
NOT_UNDERSTOOD: dict[str, str] = {}


def test_there_are_enough() -> None:
    """The tables are as large as they are said to be."""
    assert sum(map(len, ATTACKS.values())) >= 150
    assert len(list(rewritings(1))) >= 300


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks_are_wrong(kind: str) -> None:
    """Whatever is tried, a wrong answer is wrong."""
    assert [] == [(text, gold) for text, gold in ATTACKS[kind] if right(text, gold)]


def misjudged(seed: int) -> list[tuple[str, str, str]]:
    return [(kind, text, gold) for kind, text, gold in rewritings(seed) if not right(text, gold)]


@pytest.mark.parametrize("seed", range(3))
def test_rewritings_are_right(seed: int) -> None:
    """However an answer is written, it is right."""
    assert [] == [one for one in misjudged(seed) if one[0] not in NOT_UNDERSTOOD]


@pytest.mark.slow
def test_many_rewritings() -> None:
    """Of some fifty thousand at most one in a hundred is judged wrongly, each of a kind that is listed."""
    wrong = [one for seed in range(100, 150) for one in misjudged(seed)]
    assert {one[0] for one in wrong} <= NOT_UNDERSTOOD.keys(), wrong[:20]
    assert len(wrong) <= 500
