"""Intervals of shares: known values, the edges, and how often they hold what they are to hold."""

from __future__ import annotations

import numpy as np
import pytest

from llmrl.measuring.intervals import effective, of_clusters, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # As tables of Wilson's interval have them.
    [
        (0, 40, 0.0, 0.0876),
        (40, 40, 0.9124, 1.0),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 1, 0.2065, 1),
    ],
)
def test_known_intervals(right: int, n: int, low: float, high: float) -> None:
    """None of 40 right may be 9 in a hundred, and is not 0 ± 0."""
    assert (low, high) == pytest.approx(wilson(right / n, n), abs=1e-4)


def test_of_nothing_nothing_is_known() -> None:
    """0 of 0 may be any share."""
    assert (0.0, 1.0) == wilson(0.0, 0)


def test_answers_that_go_together_count_once() -> None:
    """Where the samples of a prompt are all alike, there are as many as prompts; where they are independent, as many as
    samples, never more; where nothing is ever right, as many as prompts.
    """
    alike = [[True] * 4, [False] * 4] * 50
    even = [[True, False, True, False]] * 100

    assert 100 == pytest.approx(effective(alike), rel=0.02)
    assert 400 == effective(even)
    assert 100 == effective([[False] * 4] * 100) == effective([[True] * 4] * 100)


def test_of_one_answer_a_prompt_it_is_wilson_s() -> None:
    """Greedy answers are clusters of one."""
    values = [[True]] * 30 + [[False]] * 70

    assert (0.3, *wilson(0.3, 100)) == pytest.approx(of_clusters(values))


@pytest.mark.parametrize(
    "alpha", [0.02, 0.3, 5.0]
)  # prompts that are always or never answered rightly; in between; alike
@pytest.mark.parametrize("share", [0.02, 0.4])
@pytest.mark.parametrize("prompts", [20, 200])
def test_nineteen_of_twenty_hold_the_truth(prompts: int, share: float, alpha: float) -> None:
    """Of so many prompts with four samples each, drawn by a beta distribution."""
    random, held = np.random.default_rng(0), 0
    for _ in range(400):
        rates = random.beta(alpha * share, alpha * (1 - share), prompts)
        _, low, high = of_clusters((random.random((prompts, 4)) < rates[:, None]).tolist())
        held += low <= share <= high

    assert 0.92 <= held / 400 <= 1.0
