"""What the held-out prompts say of a policy, each by itself: right answers, pass@k, format, length, the reward model's
score. Figures over them are those of metrics/, and what two policies differ in is told prompt by prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrl.measuring.answers import pass_at, powers_of_two
from llmrl.report.samples import sampled
from llmrl.report.statistics import Floats, Gain, Interval, of_numbers, of_shares, paired

if TYPE_CHECKING:
    from llmrl.report.recorded import Recorded

# By the names of metrics/; what is not of the greedy answer is the mean of the sampled ones.
TITLES = {
    "greedy": "right, greedy",
    "sampled": "right, sampled",
    **{f"pass_at_{k}": f"pass@{k}" for k in powers_of_two(2**16)},
    "ended": "ended",
    "marked": "in the asked format",
    "tokens": "tokens",
    "repetition": "repetition",
    "score": "reward model's score",
}
NUMBERS = {"tokens": 1, "score": 2, "repetition": 3}  # which are no shares, with their decimals


@dataclass(frozen=True)
class Measured:
    """A policy's answers by prompt."""

    asked: list[tuple[str, str | None]]  # (prompts,) text and solution
    values: dict[str, Floats]  # by name: (prompts,); NaN where nothing is to be judged by, or not scored
    samples: int  # a prompt

    def known(self, name: str) -> Floats:
        """Those of the prompts that have one."""
        found = self.values.get(name, np.array([]))
        return found[np.isfinite(found)]

    def figure(self, name: str) -> Interval:
        """The mean over prompts, with its interval over prompts; NaN where no prompt has one."""
        if name in NUMBERS:
            return of_numbers(self.known(name))
        return of_shares(self.known(name), self.answers_of(name))

    def answers_of(self, name: str) -> int:
        """To each prompt, of which a share tells."""
        return 1 if name == "greedy" or name.startswith("pass_at") else self.samples


def measured(experiment: Recorded) -> tuple[dict[str, Measured], list[str]]:
    """Of each policy whose answers are recorded, in the order of training; and which scores were left out, a sentence
    each.
    """
    samples, notes = sampled(experiment)
    found = {}
    for policy, table in experiment.policies().items():
        one = by_prompt(table)
        mine = samples.where(samples.policy == policy).scored
        if len(mine):
            place = np.searchsorted(table["row"].to_numpy(), mine.row)
            with np.errstate(invalid="ignore"):
                one.values["score"] = totals(place, mine.score, len(table)) / np.bincount(place, minlength=len(table))
        found[policy] = one
    return found, notes


def by_prompt(table: pa.Table) -> Measured:
    """A table of answers, a row a prompt, without scores."""
    values = {
        "greedy": pc.cast(table["greedy_right"], pa.float64()).to_numpy(),
        "sampled": row_means(table["sampled_right"]),
    }
    counts = pc.list_value_length(table["sampled"]).to_numpy()
    samples = int(counts.max()) if len(counts) else 0
    right = values["sampled"] * counts
    for k in powers_of_two(samples):
        chances = [pass_at(k, [[one < many for one in range(samples)]]) for many in range(samples + 1)]
        values[f"pass_at_{k}"] = np.interp(right, range(samples + 1), chances)  # at whole numbers
    values |= {name: row_means(table[f"sampled_{name}"]) for name in ("ended", "marked", "tokens", "repetition")}
    asked = list(zip(table["prompt"].to_pylist(), table["solution"].to_pylist(), strict=True))
    return Measured(asked, values, samples)


def row_means(lists: pa.ChunkedArray) -> Floats:
    """(rows,) mean of each row's list; NaN where there is none, or a null in it."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    flat = pc.cast(pc.list_flatten(lists), pa.float64()).to_numpy()
    with np.errstate(invalid="ignore"):
        return totals(np.repeat(np.arange(len(lists)), lengths), flat, len(lists)) / lengths


def totals(place: NDArray[Any], values: Floats, rows: int) -> Floats:
    return np.bincount(place, values, rows).astype(float)


def gain_in(before: Measured, after: Measured, name: str) -> Gain:
    """What one has over the other, over the prompts that both were asked and that have a value for both."""
    old, new = in_common(before, after, name)
    return paired(old, new, shares=name not in NUMBERS)


def in_common(before: Measured, after: Measured, name: str) -> tuple[Floats, Floats]:
    """The values of both, of the same prompts."""
    if not {name} <= before.values.keys() & after.values.keys():
        return np.array([]), np.array([])
    old, new = before.values[name], after.values[name]
    if before.asked != after.asked:
        places = {asked: place for place, asked in enumerate(before.asked)}
        both = [(places[asked], place) for place, asked in enumerate(after.asked) if asked in places]
        old, new = old[[one for one, _ in both]], new[[other for _, other in both]]
    known = np.isfinite(old) & np.isfinite(new)
    return old[known], new[known]


# --- in words --------------------------------------------------------------------------------------------------------


def number(name: str, value: float, sign: bool = False) -> str:
    """A figure as it is printed: shares with three decimals and no zero before the point.

    >>> number("sampled", 0.26), number("greedy", 1.0), number("sampled", -0.0314, sign=True), number("tokens", 12.12)
    ('.260', '1.000', '−.031', '12.1')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    value = round(value, NUMBERS.get(name, 3)) or 0.0  # no −0
    text = f"{value:{'+' if sign and value else ''}.{NUMBERS.get(name, 3)}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if name not in ("tokens", "score") and abs(value) < 1 else text


def so_many(n: int, what: str) -> str:
    """How many of something.

    >>> so_many(1, "prompt"), so_many(2000, "prompt")
    ('1 prompt', '2,000 prompts')
    """
    return f"{n:,} {what}{'s' * (n != 1)}"


def with_ends(name: str, figure: Interval) -> str:
    """A figure and the ends of its interval, where it has one; a dash where there is none."""
    mean, low, high = (number(name, one) for one in figure)
    return mean if math.isnan(figure[1]) else f"{mean} ({low} to {high})"


def difference(name: str, gain: Gain | Interval) -> str:
    """A difference and the ends of its interval, with signs; a dash where it has none."""
    mean, low, high = (number(name, one, sign=True) for one in gain[:3])
    return "–" if math.isnan(gain[1]) else f"{mean} ({low} to {high})"
