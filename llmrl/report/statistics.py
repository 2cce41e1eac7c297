"""What figures are worth: their intervals, over prompts or over prompts and seeds, and what could tell a difference.

Prompts are taken as drawn from all that might be asked (Miller 2024, arXiv 2411.00640). Answers to one prompt are not
independent: each prompt counts once, with the mean of its answers. Intervals are of 95 % where not told otherwise, and
all of it gives the same twice. How often each covers is in tests/report/test_statistics.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import mpmath
import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmrl.measuring.intervals import of_clusters

LEVEL = 0.95
POWER = 0.8  # of telling a difference that is as large as the one seen
DRAWS = 10_000
CHUNK = 4_000_000  # numbers drawn at once: 32 MB
FEW = 100  # different values, up to which they are counted rather than drawn
MOST = 1_000_000  # prompts or seeds, more than which nobody has

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]  # a figure, and the ends of its interval


class Gain(NamedTuple):
    """A difference, the ends of its interval, and over how many prompts."""

    difference: float
    low: float
    high: float
    n: int

    @property
    def told(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def of_shares(values: ArrayLike, answers: int = 1) -> Interval:
    """The mean of (prompts,) shares, each of so many answers, with its interval over prompts, which is that of
    metrics/; NaN of none.
    """
    share = np.asarray(values, float)
    if not len(share):
        return math.nan, math.nan, math.nan
    return of_clusters(np.repeat(share[:, None], answers, axis=1).tolist())


def of_numbers(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean of (prompts,) numbers, or of (seeds,) means, with Student's interval over these: endless of one, NaN of
    none. A bootstrap of so few as seeds are cannot vary as much as the next might, and covers too seldom.
    """
    found = np.asarray(values, float)
    if len(found) < 2:
        return (float(found[0]), -math.inf, math.inf) if len(found) else (math.nan, math.nan, math.nan)
    mean = float(found.mean())
    slack = student(level, len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return mean, mean - slack, mean + slack


def paired(before: ArrayLike, after: ArrayLike, level: float = LEVEL, shares: bool = True) -> Gain:
    """What the mean has gained over the same prompts, with its interval over prompts. Both (prompts,); NaN of none.

    Of `shares`, all of 0 to 1, it is a paired bootstrap by percentiles (Efron & Tibshirani 1993, chapter 13; of systems
    that answer the same, Koehn 2004). Half a prompt that gained all, half a one that lost all and one that did neither
    are added, as Agresti & Min do for pairs (2005): a bootstrap of 40 prompts of which none changed would else be sure
    that none ever does. Other numbers have no such bounds to be added, and a bootstrap of a few of them covers too
    seldom: theirs is Student's.
    """
    difference = np.asarray(after, float) - np.asarray(before, float)
    if not shares or not len(difference):
        return Gain(*of_numbers(difference, level), len(difference))
    n = len(difference)
    pool = np.append(np.repeat(difference, 2), (-1, 0, 0, 1))  # each value twice: so the pseudo-prompts are whole
    low, high = np.quantile(resampled(pool, n), ((1 - level) / 2, (1 + level) / 2))
    return Gain(float(difference.mean()), float(low), float(high), n)


def resampled(pool: Floats, n: int) -> Floats:
    """(draws,) means of n values that are drawn from a pool with replacement."""
    random = np.random.default_rng(0)
    different, counts = np.unique(pool, return_counts=True)
    if len(different) <= FEW:  # of greedy answers three: how often each is drawn says all
        return random.multinomial(n, counts / len(pool), size=DRAWS) @ different / n
    kind = np.uint16 if len(pool) <= 2**16 else np.uint32
    rows = max(1, CHUNK // n)
    drawn = (random.integers(len(pool), size=(min(rows, DRAWS - at), n), dtype=kind) for at in range(0, DRAWS, rows))
    return np.concatenate([pool[one].mean(axis=1) for one in drawn])


def prompts_needed(before: ArrayLike, after: ArrayLike, level: float = LEVEL) -> int | None:
    """Of how many prompts a difference as large as that of these, (prompts,) both, would be told from none, in 4 of 5
    cases (Miller 2024, section 5); None of more than a million.
    """
    difference = np.asarray(after, float) - np.asarray(before, float)
    if len(difference) < 2 or not difference.mean():
        return None
    times = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(POWER)
    least = (times * difference.std(ddof=1) / difference.mean()) ** 2
    return max(2, math.ceil(least)) if least <= MOST else None


def rounded(number: int) -> int:
    """Up to a number of two digits and zeros, which is as sure as such an estimate may seem.

    >>> rounded(36066), rounded(7)
    (37000, 7)
    """
    zeros = 10 ** max(0, len(str(number)) - 2)
    return -(-number // zeros) * zeros


def slope(x: ArrayLike, y: ArrayLike, cluster: ArrayLike | None = None) -> Interval:
    """By how much y grows with each 1 of x, by least squares, with its interval over clusters, each a row by itself
    where none are given: the jackknife over clusters, whatever the spread of y does (CV3 of MacKinnon, Nielsen & Webb
    2023, https://doi.org/10.1016/j.jeconom.2022.04.001; of single rows HC3), with Student's t. All (rows,).

    NaN where x does not vary, without ends where it does within one cluster alone.
    """
    across, up = np.asarray(x, float), np.asarray(y, float)
    if not len(across) or np.ptp(across) == 0:
        return math.nan, math.nan, math.nan
    across, up = across - across.mean(), up - up.mean()
    _, of = np.unique(np.arange(len(across)) if cluster is None else np.asarray(cluster), return_inverse=True)
    clusters = int(of.max()) + 1
    sums = [np.bincount(of, weights) for weights in (np.ones(len(of)), across, up, across * across, across * up)]
    n, sx, sy, sxx, sxy = (one.sum() - np.append(one, 0) for one in sums)  # without each, and of all
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = sxx - sx * sx / n
        slopes = (sxy - sx * sy / n) / spread
    steepness = float(slopes[-1])
    if clusters < 3 or not np.all(spread > 1e-12 * sxx[-1]):
        return steepness, -math.inf, math.inf
    error = math.sqrt((clusters - 1) / clusters * float(((slopes[:-1] - slopes[-1]) ** 2).sum()))
    slack = student(LEVEL, clusters - 1) * error
    return steepness, steepness - slack, steepness + slack


# --- over seeds ------------------------------------------------------------------------------------------------------


def together(*intervals: Interval) -> Interval:
    """The sum of independent parts, each with its interval, with its own: the method of variance estimates recovery
    (Zou & Donner 2008, https://doi.org/10.1002/sim.3095).

    >>> together((0.5, 0.2, 0.8), (0.0, -0.4, 0.4))
    (0.5, 0.0, 1.0)
    """
    total = sum(figure for figure, _, _ in intervals)
    below, above = (math.hypot(*(one[0] - one[side] for one in intervals)) for side in (1, 2))
    return total, total - below, total + above


def seeds_needed(means: ArrayLike, over_prompts: float, level: float = LEVEL) -> int | None:
    """Of how many seeds a difference as large as the mean of these, (seeds,), would be told from none in 4 of 5 cases,
    beside the slack that there is over prompts; None where no number of seeds could.
    """
    found = np.asarray(means, float)
    difference, spread = abs(float(found.mean())), float(found.std(ddof=1))

    def told(seeds: int) -> bool:
        error = spread / math.sqrt(seeds)
        return (
            math.hypot(student(level, seeds - 1) * error, over_prompts) + NormalDist().inv_cdf(POWER) * error
            < difference
        )

    return next((seeds for seeds in range(2, 101) if told(seeds)), None)


@lru_cache
def student(level: float, freedom: float) -> float:
    """The t within which Student's distribution of so many degrees of freedom has a share of `level`.

    >>> [round(student(0.95, freedom), 3) for freedom in (1, 2, 4, 1e6)]
    [12.706, 4.303, 2.776, 1.96]
    """
    if freedom > 1000:
        return NormalDist().inv_cdf((1 + level) / 2)

    def outside(t: float) -> float:
        return float(mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True))

    low, high = 0.0, 2.0
    while outside(high) > 1 - level:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) > 1 - level else (low, middle)
    return high
