"""What looks wrong in what a stage recorded of itself: signs that a reward was gamed, or that what it was made from was
not what it should be, each with the threshold beyond which it is said.

A tripwire refuses nothing. None of them is a proof: each names where to look. Wherever noise could do it, the 95 %
interval over prompts must leave it out as well. What is not recorded, or of fewer prompts than `LEAST`, says nothing,
and that is told from what was looked at and found to be in order.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmrl.graph import STAGES
from llmrl.measuring.intervals import Z

if TYPE_CHECKING:
    import pyarrow as pa

LEAST = 20  # prompts, pairs: of fewer the normal interval of a mean is too narrow
POINTS = 6  # of a curve: of fewer there is no trend to tell
# Standard errors by which the last third of a curve must differ from its first. Simulated, of 6 to 40 points of 32 to
# 320 completions in groups of 8, .002 to .99 of them right, be those of a group alike or not: where the score rises and
# this share does not change, at most 0.1 % of the trainings trip.
CHANGE = 3.0
LONGER = 1.5  # times the tokens; what a reward model pays for without the answers being better: Singhal et al. 2023
CUT_OFF = 0.1  # of the answers more: as many judged without their end, which is where the final answer stands
# Shares of 4-grams. People's text has less than .01, and likelihood-trained models that loop .4 and more (Welleck et
# al. 2019, https://arxiv.org/abs/1908.04319, table 2); worked sums repeat more than prose does, so half of that.
REPETITION, REPETITION_MORE = 0.2, 0.1
# Of the first entropy. It falls as a policy learns; where next to nothing is left it explores no more, and learns no
# more (Yu et al. 2025, DAPO, https://arxiv.org/abs/2503.14476, figure 2b; Cui et al. 2025,
# https://arxiv.org/abs/2505.22617, whose runs had spent 94 % of it when 93 % of all there was to gain was gained).
ENTROPY = 0.05
SIGNAL = 0.5  # of the groups: most of what is generated is for nothing (DAPO, section 3.2)
CHANCE = 0.5  # of two answers
LONGER_WINS = 0.1  # of the pairs more than people, or what made the pairs, prefer the longer in
# Times the log-probability of the chosen answers, which is negative: it is the margin that DPO raises, and often both
# fall for it; where the chosen fall far, other answers than either have become likely (Razin et al. 2024,
# https://arxiv.org/abs/2410.08847).
DISPLACED = 1.5
TOKEN_ACCURACY = 0.01  # less of the held-out tokens predicted: a deterministic measure, so more than arithmetic's noise

Floats = NDArray[np.float64]
Asked = tuple[int, str]  # a held-out prompt: its row and its text, as either may be another's elsewhere
RATED = ["row", "prompt", "sampled_right"]
Curves = Mapping[str, Sequence[tuple[int, float]]]
Tables = Mapping[str, "pa.Table"]


@dataclass(frozen=True)
class Tripwire:
    """Something that looks wrong: its name, what was seen, where to look, and beyond which threshold it is said."""

    name: str
    seen: str
    look: str
    threshold: str

    @property
    def line(self) -> str:
        """What was seen and where to look, in 180 characters."""
        return f"{self.name}: {self.seen}; {self.look}"

    def said(self, stage: str) -> list[str]:
        """The same of a stage, in lines for a terminal."""
        return textwrap.wrap(f"{stage}: looks wrong: {self.line}", 100, subsequent_indent="  ", break_on_hyphens=False)


@dataclass(frozen=True)
class Looked:
    """What one look at a stage gave: what it looks for, what it found, and why there was too little to go by."""

    at: str
    found: list[Tripwire]
    lacks: str = ""


class TooLittleError(Exception):
    """There is too little to go by: why."""


@dataclass(frozen=True)
class Evidence:
    """What a stage recorded: closing figures, curves and tables, by their names in metrics/<stage>/; among the tables
    also those of other policies' answers, by the name of the policy; the policy it started from; and how many groups of
    completions an optimizer step has, 0 where not known.

    All its methods but `known` raise TooLittleError of what is not there.
    """

    stage: str
    figures: Mapping[str, Any]
    curves: Curves
    tables: Tables
    init: str = ""
    groups: float = 0

    def known(self, policy: str) -> pa.Table | None:
        """A policy's answers to the held-out prompts, where they are recorded."""
        if policy == self.stage:
            return self.tables.get("after")
        return self.tables.get(policy) or (self.tables.get("before") if policy == self.init else None)

    def means(self, policy: str, name: str) -> dict[Asked, float]:
        """The mean of a policy's samples to each prompt; of those prompts that have a value of each sample."""
        if (table := self.known(policy)) is None:
            raise TooLittleError(f"answers of {policy or 'the policy before'} are not recorded")
        rows = zip(*(table[of].to_pylist() for of in ("row", "prompt", name)), strict=True)
        return {(row, prompt): statistics.fmean(many) for row, prompt, many in rows if many and None not in many}

    def both(self, name: str, least: int = LEAST) -> tuple[Floats, Floats]:
        """The means before and after, (prompts,), of the prompts that have both."""
        before, after = self.means(self.init, name), self.means(self.stage, name)
        prompts = sorted(before.keys() & after.keys())
        enough(len(prompts), f"prompts that both {self.init or 'the policy before'} and {self.stage} answered", least)
        return np.array([before[one] for one in prompts]), np.array([after[one] for one in prompts])

    def rated(self) -> dict[str, dict[Asked, tuple[list[float], list[float]]]]:
        """Of each policy, in the order of training, the scores of its samples to each prompt and whether they are
        right; of those prompts that have both of each sample.
        """
        rows = self.table("scores", "the reward model's scores").to_pylist()
        scores = {(row["policy"], row["row"]): row["sampled"] or [] for row in rows}
        found: dict[str, dict[Asked, tuple[list[float], list[float]]]] = {}
        stages = [*STAGES]
        for policy in sorted(
            dict.fromkeys(row["policy"] for row in rows), key=lambda one: stages.index(one) if one in stages else -1
        ):
            for row in [] if (table := self.known(policy)) is None else table.select(RATED).to_pylist():
                both = scores.get((policy, row["row"]), []), row["sampled_right"] or []
                if len(both[0]) == len(both[1]) > 0 and None not in both[1] and all(map(math.isfinite, both[0])):
                    found.setdefault(policy, {})[row["row"], row["prompt"]] = both
        return found

    def table(self, name: str, what: str) -> pa.Table:
        if (table := self.tables.get(name)) is None:
            raise TooLittleError(f"{what} are not recorded")
        return table

    def figure(self, *names: str) -> list[float]:
        if lost := [name for name in names if self.figures.get(name) is None]:
            raise TooLittleError(f"{', '.join(lost)} {'are' if len(lost) > 1 else 'is'} not recorded")
        return [self.figures[name] for name in names]

    def curve(self, name: str) -> Sequence[tuple[int, float]]:
        points = self.curves.get(name, ())
        enough(len(points), f"points of {name}", POINTS)
        return points


def enough(n: int, what: str, least: int = LEAST) -> None:
    """Raise TooLittleError of less."""
    if n < least:
        raise TooLittleError(f"there are fewer than {least} {what}: {n}")


def tripped(
    stage: str, figures: Mapping[str, Any], curves: Curves, tables: Tables, init: str = "", groups: float = 0
) -> list[Tripwire]:
    """What looks wrong of a stage.

    `figures` are those of the stage in its metrics.json, `curves` the points of each of its curves, by step, and
    `tables` those of its held_out folder: after, before, pairs, scores. The answers of other policies may stand beside
    them under their names (base, sft, dpo), which GRPO's scores are set against, and those of `init`, the policy that
    the stage started from, which is what its own are compared with. `groups` is how many groups of completions, to a
    prompt each, an optimizer step has.
    """
    evidence = Evidence(stage, figures, curves, tables, init, groups)
    return [wire for looked in looks(evidence) for wire in looked.found]


def looks(evidence: Evidence) -> list[Looked]:
    """What each look at a stage gave."""
    given = []
    for look in LOOKS[STAGES[evidence.stage].trainer]:
        at = " ".join((look.__doc__ or look.__name__).split())
        try:
            given.append(Looked(at, [*look(evidence)]))
        except TooLittleError as lacks:
            given.append(Looked(at, [], str(lacks)))
    return given


def by_figure(points: Iterable[tuple[int, Mapping[str, float]]]) -> Curves:
    """Curves by their names, of points that have several figures each."""
    found: dict[str, list[tuple[int, float]]] = {}
    for step, point in points:
        for name, value in point.items():
            found.setdefault(name, []).append((step, value))
    return found


# --- policies --------------------------------------------------------------------------------------------------------


def longer(evidence: Evidence) -> Iterator[Tripwire]:
    """Answers that grow, or are cut off, and are not right more often: length is the cheapest thing to be paid for."""
    (old, new), (ended, ends) = (evidence.both(f"sampled_{name}") for name in ("tokens", "ended"))
    before, after = evidence.both("sampled_right", 0)
    if not (judged := len(after) >= LEAST) and evidence.stage == "sft":
        raise TooLittleError("sft teaches a length, and too few answers are judged")
    if judged and clear(after - before):
        return
    right = "right ones not clearly more" if judged else f"{len(after) or 'none'} judged"
    if clear(new - LONGER * old):
        yield Tripwire(
            "longer, and no better",
            f"answers have {new.mean():.1f} tokens, where they had {old.mean():.1f}, {right} (n = {len(new)})",
            "read the longest, and what each reward gives them",
            f"more than {LONGER:g} times the tokens without more right answers",
        )
    if ended.mean() - ends.mean() > CUT_OFF and clear(ended - ends):
        yield Tripwire(
            "cut off",
            f"{1 - ends.mean():.0%} of answers do not end, where {1 - ended.mean():.0%} did not, {right} "
            f"(n = {len(ends)})",
            "a reward may pay for length, or text to train on not end",
            f"{CUT_OFF:.0%} more of them without more right answers",
        )


def repetitive(evidence: Evidence) -> Iterator[Tripwire]:
    """A policy that repeats itself, and more than the one it started from."""
    before, now = evidence.both("sampled_repetition")
    if now.mean() > REPETITION and now.mean() - before.mean() > REPETITION_MORE and clear(now - before):
        yield Tripwire(
            "repeats itself",
            f"{now.mean():.0%} of an answer's 4-grams stood in it before, where {before.mean():.0%} did "
            f"(n = {len(now)})",
            "read the answers; a reward may pay by the token, or text to train on repeat itself",
            f"more than {REPETITION:.0%}, and {REPETITION_MORE:.0%} more than before",
        )


# --- each stage ------------------------------------------------------------------------------------------------------


def unlearnt(evidence: Evidence) -> Iterator[Tripwire]:
    """SFT after which held-out answers are predicted worse."""
    first, last = evidence.figure("token_accuracy_before", "token_accuracy")
    if first - last > TOKEN_ACCURACY:
        yield Tripwire(
            "token accuracy fell",
            f"{last:.3f} of the held-out tokens are predicted, where {first:.3f} were",
            "train.lr or sft.lr_scale may be too high, or the training rows of another kind",
            f"a loss of more than {TOKEN_ACCURACY:g}",
        )


def ranking(evidence: Evidence) -> Iterator[Tripwire]:
    """Held-out pairs that are not ranked better than by chance, or worse."""
    accuracy, low, high, n = evidence.figure("accuracy", "accuracy_low", "accuracy_high", "n")
    enough(int(n), "held-out pairs")
    seen = f"{accuracy:.2f} right, 95 % interval {low:.2f} to {high:.2f} (n = {n})"
    if high < CHANCE:
        yield Tripwire(
            "ranks pairs the wrong way round",
            seen,
            "chosen and rejected may be swapped, in the pairs to train on or the held-out ones",
            f"an interval below {CHANCE:g}",
        )
    elif low <= CHANCE:
        yield Tripwire(
            "ranks pairs as chance does",
            seen,
            f"there may be nothing to learn in them, or too few steps or too low a rate ({evidence.stage}.lr_scale)",
            f"an interval with {CHANCE:g} in it",
        )


def prefers_length(evidence: Evidence) -> Iterator[Tripwire]:
    """A reward model by which the longer answer wins more often than it is preferred.

    Singhal et al. 2023, https://arxiv.org/abs/2310.03716: much of what RLHF gains by such a model is length.
    """
    pairs = evidence.table("pairs", "scores of the held-out pairs")
    score, tokens = (
        np.subtract(*(pairs[f"{side}_{name}"].to_numpy().astype(float) for side in ("chosen", "rejected")))
        for name in ("score", "tokens")
    )
    unlike = tokens != 0
    enough(int(unlike.sum()), "held-out pairs of two lengths")
    wins, preferred = score[unlike] * tokens[unlike] > 0, tokens[unlike] > 0
    more = wins.astype(float) - preferred
    if more.mean() > LONGER_WINS and clear(more):
        yield Tripwire(
            "prefers length",
            f"the longer answer wins in {wins.mean():.0%} of the held-out pairs and is preferred in "
            f"{preferred.mean():.0%} (n = {len(more)})",
            "balance the lengths of the pairs, and weigh it low in grpo.rewards",
            f"{LONGER_WINS:.0%} more",
        )


def displaced(evidence: Evidence) -> Iterator[Tripwire]:
    """DPO that makes the chosen answers unlikely, too."""
    first, last = evidence.figure("chosen_logp_before", "chosen_logp")
    if last < DISPLACED * first:
        yield Tripwire(
            "chosen answers became unlikely",
            f"log-probability {last:.1f}, where it was {first:.1f}",
            "dpo.loss_type: [sigmoid, sft] holds them likely; or a larger dpo.beta, a smaller dpo.lr_scale",
            f"more than {DISPLACED:g} times as far below 0",
        )


# --- GRPO ------------------------------------------------------------------------------------------------------------


def gamed_over_policies(evidence: Evidence) -> Iterator[Tripwire]:
    """From a policy to the next the reward model's score rises, and right answers fall: the over-optimisation of Gao et
    al. 2022, https://arxiv.org/abs/2210.10760.
    """
    rated = evidence.rated()
    pairs = dict.fromkeys([*pairwise(rated), (evidence.init, evidence.stage)])
    common = {pair: rated.get(pair[0], {}).keys() & rated.get(pair[1], {}).keys() for pair in pairs}
    enough(max(map(len, common.values())), "prompts with judged and scored answers of two policies")
    for (first, last), prompts in common.items():
        paid, right = (
            np.array([np.mean(rated[last][one][at]) - np.mean(rated[first][one][at]) for one in sorted(prompts)])
            for at in (0, 1)
        )
        if len(prompts) >= LEAST and clear(paid) and clear(-right):
            yield Tripwire(
                GAMED,
                f"from {first} to {last}: reward model's score {paid.mean():+.2f}, right answers "
                f"−{-right.mean():.1%} (n = {len(right)})",
                "weigh it lower in grpo.rewards, raise grpo.beta, or take fewer steps",
                "a rise and a fall that are both more than noise over prompts",
            )


def gamed_over_steps(evidence: Evidence) -> Iterator[Tripwire]:
    """While GRPO trains, what it is paid rises, and fewer of its completions are right."""
    points = evidence.curve(f"train_{JUDGED}")
    if not evidence.groups:
        raise TooLittleError("how many groups of completions a step has is not known")
    fall, change = trend(points, evidence.groups * points[-1][0] / len(points))
    rewards = {"train_reward": "the sum of rewards", "train_reward_model": "the reward model's score"}
    for name in [name for name in rewards if name in evidence.curves] or rewards:
        rise, paid = trend(evidence.curve(name))
        if rise > CHANGE and fall < -CHANGE:
            yield Tripwire(
                "reward up, right completions down",
                f"from first third to last {rewards[name]} {paid:+.2f}, right completions −{-change:.1%} "
                f"({len(points)} points)",
                "weigh lower what else pays in grpo.rewards",
                f"changes of more than {CHANGE:g} standard errors",
            )
            return


def collapsed(evidence: Evidence) -> Iterator[Tripwire]:
    """Entropy that is all but gone: the policy has stopped to explore."""
    points = [value for _, value in evidence.curve("train_entropy")]
    ends = max(1, len(points) // 5)
    first, last = statistics.mean(points[:ends]), statistics.mean(points[-ends:])
    if last < ENTROPY * first:
        yield Tripwire(
            "entropy collapsed",
            f"{last:.4f} a token, where it was {first:.4f} at first",
            "one answer is all it gives: a higher grpo.epsilon_high (0.28) or grpo.temperature, or fewer steps",
            f"less than {ENTROPY:.0%} of it left",
        )


def without_signal(evidence: Evidence) -> Iterator[Tripwire]:
    """Groups of which all completions are right, or none."""
    (share,) = evidence.figure(f"signal_{JUDGED}")
    if share < SIGNAL:
        yield Tripwire(
            "most groups say nothing of right and wrong",
            f"{JUDGED} differs in {share:.0%} of them",
            "prompts are too hard or too easy: grpo.pass_rate, or a larger grpo.num_generations",
            f"less than {SIGNAL:.0%}",
        )


def misjudges(evidence: Evidence) -> Iterator[Tripwire]:
    """A reward model that does not score right answers above wrong ones to the same prompt: the area under its ROC
    curve within a prompt, the mean over prompts that have both, of all policies' answers.
    """
    given: dict[Asked, list[tuple[float, float]]] = {}
    for prompts in evidence.rated().values():
        for asked, both in prompts.items():
            given.setdefault(asked, []).extend(zip(*both, strict=True))
    areas = np.array([area for one in given.values() if (area := above_wrong(one)) is not None])
    enough(len(areas), "prompts with a right and a wrong answer that have scores")
    slack = half_width(areas)
    low, high = areas.mean() - slack, areas.mean() + slack
    if low > CHANCE:
        return
    wrong = high < CHANCE
    yield Tripwire(
        "the reward model prefers wrong answers" if wrong else "the reward model does not tell right from wrong",
        f"right ones score higher in {areas.mean():.0%}, {low:.0%} to {high:.0%} (n = {len(areas)} prompts)",
        "its pairs may be swapped, or unlike these prompts: weigh it low",
        f"an interval {'below' if wrong else 'with'} {CHANCE:.0%}{'' if wrong else ' in it'}",
    )


JUDGED = "accuracy"  # the reward that judges as the answers are judged
GAMED = "reward up, right answers down"
POLICY = (longer, repetitive)
LOOKS: dict[str, tuple[Callable[[Evidence], Iterator[Tripwire]], ...]] = {
    "SFTTrainer": (unlearnt, *POLICY),
    "RewardTrainer": (ranking, prefers_length),
    "DPOTrainer": (ranking, displaced, *POLICY),
    "GRPOTrainer": (gamed_over_policies, gamed_over_steps, misjudges, without_signal, collapsed, *POLICY),
}


# --- figures of tables and curves ------------------------------------------------------------------------------------


def half_width(values: Floats) -> float:
    """Of the 95 % interval of a mean over prompts."""
    return float(Z * values.std(ddof=1) / len(values) ** 0.5)


def clear(differences: Floats) -> bool:
    """Whether the mean of a difference is above 0 by more than its interval over prompts."""
    return float(differences.mean()) > half_width(differences)


def trend(points: Sequence[tuple[int, float]], groups: float = 0) -> tuple[float, float]:
    """What the last third of a curve is above its first, on average: in standard errors, and as it stands. `groups` is
    of how many groups of completions each point is a share, if it is one.

    A point's noise is told by the steps from one point to the next (von Neumann 1941). Their median is taken, as a
    curve that falls at once and stays there has few large ones: of normal noise it is 0.954 times that of a point. Of a
    share that is 0 but at a few points it is 0, too: such noise is no less than if all of a group were alike.

    >>> trend([(step, step % 2 + 2.0 * (step > 4)) for step in range(9)])[1], trend([(1, 0.5)] * 6)
    (2.0, (0.0, 0.0))
    """
    values = np.array([value for _, value in points], dtype=np.float64)
    third, share = len(values) // 3, float(values.mean())
    change = float(values[-third:].mean() - values[:third].mean())
    noise = float(np.median(np.abs(np.diff(values)))) / 0.954
    if groups:
        noise = max(noise, (max(0.0, share * (1 - share)) / groups) ** 0.5)
    error = noise * (2 / third) ** 0.5
    return (change / error if error else math.copysign(math.inf, change) if change else 0.0), change


def above_wrong(rated: Sequence[tuple[float, float]]) -> float | None:
    """In how many of the cases a right answer scores above a wrong one, ties counted as half; None without both.

    >>> above_wrong([(0.9, True), (0.1, False), (0.9, False)])
    0.75
    """
    right, wrong = ([score for score, one in rated if one == side] for side in (True, False))
    return float(np.sign(np.subtract.outer(right, wrong)).mean() + 1) / 2 if right and wrong else None
