"""What figures are worth: intervals against what is known of them, and how often each covers what it is of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmrl.measuring.intervals import of_clusters
from llmrl.report.statistics import (
    Interval,
    of_numbers,
    of_shares,
    paired,
    prompts_needed,
    seeds_needed,
    slope,
    student,
    together,
)

RUNS = 150


def covers(interval: Interval, truth: float) -> bool:
    return interval[1] <= truth <= interval[2]


# --- paired ----------------------------------------------------------------------------------------------------------


def test_no_difference_and_every_difference() -> None:
    """At the edges an interval still has a width, and stays within what a difference can be."""
    nothing, everything = paired([0.0] * 40, [0.0] * 40), paired([0.0] * 40, [1.0] * 40)

    assert nothing.difference == 0
    assert -0.1 < nothing.low < 0 < nothing.high < 0.1
    assert everything.difference == 1
    assert 0.8 < everything.low < 1
    assert everything.high <= 1
    assert everything.told
    assert not nothing.told


def test_a_few_that_changed() -> None:
    """Four gained and none lost of a hundred is no proof, seven are: as McNemar's exact test has it, .125 and .016."""
    four, seven = (paired([0.0] * 100, [1.0] * some + [0.0] * (100 - some)) for some in (4, 7))

    assert not four.told
    assert seven.told


def test_one_prompt_and_none() -> None:
    """Of one nothing is known, of none not even that."""
    assert paired([0.0], [1.0])[1:] == (-1.0, 1.0, 1)
    assert paired([3.0], [5.0], shares=False) == (2.0, -math.inf, math.inf, 1)
    assert math.isnan(paired([], []).low)
    assert not paired([], []).told


def test_the_same_twice() -> None:
    """The draws are seeded."""
    random = np.random.default_rng(1)
    before, after = random.random(2000), random.random(2000)

    assert paired(before, after) == paired(before, after)


def test_the_paired_interval_is_that_of_the_normal_approximation() -> None:
    """Where this holds: many prompts, differences that are not rare."""
    random = np.random.default_rng(1)
    before, after = random.random(1000), random.random(1000)
    error = (after - before).std() / math.sqrt(1000)
    gain = paired(before, after)

    assert gain.low == pytest.approx(gain.difference - 1.96 * error, abs=0.1 * error)
    assert gain.high == pytest.approx(gain.difference + 1.96 * error, abs=0.1 * error)


@pytest.mark.parametrize(("prompts", "low", "up"), [(40, 0.0, 0.02), (40, 0.2, 0.3), (100, 0.02, 0.1), (300, 0.4, 0.4)])
def test_paired_coverage(prompts: int, low: float, up: float) -> None:
    """Of greedy answers: a share `up` of prompts is gained, `low` lost. 95 of 100 intervals have the truth, or more."""
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(RUNS):
        kind = random.choice(3, prompts, p=(low, up, 1 - low - up))
        hits += covers(paired(kind == 0, kind == 1)[:3], up - low)

    assert hits / RUNS > 0.9


@pytest.mark.parametrize("prompts", [2, 3, 5, 10, 40])
def test_paired_coverage_of_numbers(prompts: int) -> None:
    """Of tokens, or scores, however few: a bootstrap of 2 has the truth in half of the cases."""
    random = np.random.default_rng(1)
    drawn = random.normal(1.0, 2.0, (1000, prompts))
    hits = [covers(paired(np.zeros(prompts), one, shares=False)[:3], 1.0) for one in drawn]

    assert 0.93 < np.mean(hits) < 0.97


@pytest.mark.parametrize("gain", [0.1, 0.2])
def test_the_prompts_needed_do_tell(gain: float) -> None:
    """With as many prompts as it says, four of five samples tell the difference."""
    random = np.random.default_rng(1)

    def drawn(prompts: int) -> tuple[np.ndarray, np.ndarray]:
        kind = random.choice(3, prompts, p=(0.1, 0.1 + gain, 0.8 - gain))
        return kind == 0, kind == 1

    needed = prompts_needed(*drawn(200_000))

    assert needed
    assert 0.7 < np.mean([paired(*drawn(needed)).told for _ in range(RUNS)]) < 0.92


def test_no_number_of_prompts_tells_nothing() -> None:
    """Of no difference, of one prompt, and of one in a million."""
    assert prompts_needed([0.0, 1.0], [1.0, 0.0]) is None
    assert prompts_needed([0.0], [1.0]) is None
    assert prompts_needed([0.0] * 1000 + [0.5] * 999 + [0.5], [1.0] * 1000 + [-0.5] * 999 + [-0.499]) is None


# --- of one policy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompts", [1, 2, 5, 40, 300])
@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5, 1.0])
def test_shares_are_as_in_metrics(prompts: int, samples: int, rate: float) -> None:
    """The intervals that stages record."""
    answers = np.random.default_rng(1).random((prompts, samples)) < rate

    assert of_shares(answers.mean(axis=1), samples) == pytest.approx(of_clusters(answers.tolist()))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shares_that_do_not_vary_are_as_in_metrics(share: float) -> None:
    """Ten prompts, each half right."""
    answers = [[at < 2 * share for at in range(2)] for _ in range(10)]

    assert of_shares([share] * 10, 2) == of_clusters(answers)


def test_numbers() -> None:
    """Student's interval; of one, of none."""
    assert of_numbers([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
    assert of_numbers([3.0]) == (3.0, -math.inf, math.inf)
    assert all(map(math.isnan, of_numbers([])))
    assert all(map(math.isnan, of_shares([])))


@pytest.mark.parametrize(
    ("level", "freedom", "t"),
    [(0.95, 1, 12.7062), (0.95, 2, 4.3027), (0.99, 4, 4.6041), (0.95, 30, 2.0423), (0.9, 5000, 1.6449)],
)
def test_student(level: float, freedom: int, t: float) -> None:
    """Against the table in any textbook."""
    assert student(level, freedom) == pytest.approx(t, abs=1e-3)


# --- slopes ----------------------------------------------------------------------------------------------------------


def test_slope_of_a_line_and_of_nothing() -> None:
    """Known values, and where there is none."""
    x = np.arange(10.0)

    assert slope(x, 3 * x + 1) == pytest.approx((3, 3, 3))
    assert slope(x, np.zeros(10)) == pytest.approx((0, 0, 0))
    assert all(map(math.isnan, slope([1.0, 1.0], [1.0, 2.0])))
    assert all(map(math.isnan, slope([], [])))
    assert slope([1.0, 2.0], [1.0, 3.0])[1:] == (-math.inf, math.inf)
    assert slope([1.0, 1.0, 5.0], [1.0, 3.0, 4.0])[1:] == (-math.inf, math.inf)  # without the last x does not vary


@pytest.mark.parametrize("clusters", [20, 100])
def test_slope_coverage(clusters: int) -> None:
    """Of scores that go together by prompt, and whose spread grows with x."""
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(RUNS):
        of = np.repeat(np.arange(clusters), 4)
        x = 5 + random.normal(size=clusters)[of] + random.normal(size=len(of))
        y = 0.3 * x + random.normal(size=clusters)[of] + 0.2 * np.abs(x) * random.normal(size=len(of))
        hits += covers(slope(x, y, of), 0.3)

    assert hits / RUNS > 0.91


# --- over seeds ------------------------------------------------------------------------------------------------------


def drawn(random: np.random.Generator, seeds: int, prompts: int, samples: int, spread: float) -> np.ndarray:
    """(runs, seeds, prompts) differences of two settings in the share of right answers: prompts are hard or easy for
    both, each training is a better or a worse one (`spread`, of its log-odds), and knows some prompts better.
    """
    logits = 1.5 * random.normal(size=(1, RUNS, 1, prompts)) + spread * random.normal(size=(2, RUNS, seeds, 1))
    logits = logits + 0.7 * random.normal(size=(2, RUNS, seeds, prompts)) + np.array([0, 0.2]).reshape(2, 1, 1, 1)
    right = random.binomial(samples, 1 / (1 + np.exp(-logits))) / samples
    return right[1] - right[0]


TRUE = 0.033  # the mean difference of that, by two million prompts; whatever the spread


def both(differences: np.ndarray) -> tuple[Interval, Interval]:
    """The interval of (seeds, prompts) differences over prompts alone, and over prompts and seeds."""
    prompts = of_numbers(differences.mean(axis=0))
    mean, low, high = of_numbers(differences.mean(axis=1))
    return prompts, together(prompts, (0.0, low - mean, high - mean))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3])
def test_coverage_over_prompts_and_seeds(seeds: int, spread: float) -> None:
    """However much a seed makes, the interval over both has the truth in 19 of 20 cases; that over prompts does not."""
    random = np.random.default_rng(1)
    found = [both(one) for one in drawn(random, seeds, 200, 4, spread)]
    over_prompts, over_both = (np.mean([covers(pair[at], TRUE) for pair in found]) for at in (0, 1))

    assert over_both > 0.93
    assert spread < 0.3 or over_prompts < 0.7


def test_two_parts_together() -> None:
    """An interval is as wide as the wider part, at least, and keeps what is not symmetric."""
    assert together((0.5, 0.4, 0.7), (0.0, 0.0, 0.0)) == pytest.approx((0.5, 0.4, 0.7))
    assert together((0.5, 0.2, 0.8), (0.0, -0.4, 0.4)) == pytest.approx((0.5, 0.0, 1.0))
    assert together((0.5, 0.2, 0.8), (0.0, -math.inf, math.inf))[1:] == (-math.inf, math.inf)


def test_the_seeds_needed() -> None:
    """More where they spread more, none where prompts alone hide the difference."""
    assert seeds_needed([0.1, 0.1, 0.1], 0.0) == 2
    few, many = seeds_needed([0.08, 0.1, 0.12], 0.02), seeds_needed([0.0, 0.1, 0.2], 0.02)
    assert few
    assert many
    assert few < many
    assert seeds_needed([0.08, 0.1, 0.12], 0.2) is None
