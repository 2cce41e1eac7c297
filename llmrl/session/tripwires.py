"""What looks wrong in what a stage recorded of itself: signs that a reward was gamed, or that what it was made from was
not what it should be, each with the threshold beyond which it is said.

A tripwire refuses nothing. None of them is a proof: each names where to look. Wherever noise could do it, the 95 %
interval over prompts must leave it out as well, and fewer prompts than `LEAST` say nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
# Standard errors by which the last third of a curve must differ from its first. Two curves of six points of noise do so
# in opposite directions in one of 2,000 trainings (simulated).
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
Curves = Mapping[str, Sequence[tuple[int, float]]]
Tables = Mapping[str, "pa.Table"]


@dataclass(frozen=True)
class Tripwire:
    """Something that looks wrong: its name, what was seen, beyond which threshold, and what that suggests."""

    name: str
    seen: str
    threshold: str
    suggests: str

    @property
    def line(self) -> str:
        """All of it in a line."""
        return f"{self.name}: {self.seen} (said of {self.threshold}). {self.suggests}"


@dataclass(frozen=True)
class Evidence:
    """What a stage recorded: closing figures, curves and tables, by their names in metrics/<stage>/; among the tables
    also those of other policies' answers, by the name of the policy; and the policy it started from.
    """

    stage: str
    figures: Mapping[str, Any]
    curves: Curves
    tables: Tables
    init: str = ""

    def answers(self, policy: str) -> pa.Table | None:
        """A policy's answers to the held-out prompts, where they are known."""
        if policy == self.stage:
            return self.tables.get("after")
        return self.tables.get(policy) or (self.tables.get("before") if policy == self.init else None)


def tripped(stage: str, figures: Mapping[str, Any], curves: Curves, tables: Tables, init: str = "") -> list[Tripwire]:
    """What looks wrong of a stage.

    `figures` are those of the stage in its metrics.json, `curves` the points of each of its curves, by step, and
    `tables` those of its held_out folder: after, before, pairs, scores. The answers of other policies may stand beside
    them under their names (base, sft, dpo), which GRPO's scores are set against, and those of `init`, the policy that
    the stage started from, which is what its own are compared with.
    """
    evidence = Evidence(stage, figures, curves, tables, init)
    return [found for look in LOOKS[STAGES[stage].trainer] for found in look(evidence)]


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
    before, after = both(evidence)
    if not before or not after or gained(before, after, "sampled_right"):
        return
    if "sampled_right" not in after and evidence.stage == "sft":
        return  # it teaches a length, and nothing judges the answers
    judged = (
        "right answers did not become more" if "sampled_right" in after else "nothing judges whether they are right"
    )
    tokens, cut_off = ([one[name] for one in (before, after)] for name in ("sampled_tokens", "sampled_ended"))
    first, last = (float(one.mean()) for one in tokens)
    if last > LONGER * first and clear(tokens[1] - LONGER * tokens[0]):
        yield Tripwire(
            "longer, and no better",
            f"sampled answers have {last:.1f} tokens where they had {first:.1f}, and {judged} (n = {len(tokens[1])})",
            f"more than {LONGER:g} times the tokens without more right answers",
            "A reward may pay for length: read the longest answers, and what each reward gives them.",
        )
    first, last = (1 - float(one.mean()) for one in cut_off)
    if last - first > CUT_OFF and clear(cut_off[0] - cut_off[1]):
        yield Tripwire(
            "cut off",
            f"{last:.0%} of the sampled answers do not end where {first:.0%} did not, and {judged} "
            f"(n = {len(cut_off[1])})",
            f"{CUT_OFF:.0%} more of them without more right answers",
            "A reward may pay for length, or the training text may not end: read those that are cut off.",
        )


def repetitive(evidence: Evidence) -> Iterator[Tripwire]:
    """A policy that repeats itself, and more than the one it started from."""
    before, after = both(evidence)
    if not after or len(now := after["sampled_repetition"]) < LEAST:
        return
    last, first = float(now.mean()), None
    grown = now - REPETITION
    if before:
        first = float(before["sampled_repetition"].mean())
        grown = now - before["sampled_repetition"]
    if last > REPETITION and (first is None or last - first > REPETITION_MORE) and clear(grown):
        yield Tripwire(
            "repeats itself",
            f"{last:.0%} of the 4-grams of tokens of a sampled answer stood in it before"
            + ("" if first is None else f", where {first:.0%} did")
            + f" (n = {len(now)})",
            f"more than {REPETITION:.0%}, and {REPETITION_MORE:.0%} more than before",
            "The training text may repeat itself, or a reward may be paid by the token: read the answers.",
        )


# --- each stage ------------------------------------------------------------------------------------------------------


def unlearnt(evidence: Evidence) -> Iterator[Tripwire]:
    """SFT after which held-out answers are predicted worse."""
    first, last = (evidence.figures.get(name) for name in ("token_accuracy_before", "token_accuracy"))
    if first is not None and last is not None and first - last > TOKEN_ACCURACY:
        yield Tripwire(
            "token accuracy fell",
            f"{last:.3f} of the held-out tokens are predicted, where {first:.3f} were",
            f"a loss of more than {TOKEN_ACCURACY:g}",
            "The learning rate may be too high (train.lr, sft.lr_scale), or the training rows of another kind than the "
            "held-out ones.",
        )


def ranking(evidence: Evidence) -> Iterator[Tripwire]:
    """Held-out pairs that are not ranked better than by chance, or worse."""
    accuracy, low, high, n = (evidence.figures.get(name) for name in ("accuracy", "accuracy_low", "accuracy_high", "n"))
    if low is None or high is None or not n or n < LEAST or low > CHANCE:
        return
    seen = f"{accuracy:.2f} of the held-out pairs are ranked right, 95 % interval {low:.2f} to {high:.2f} (n = {n})"
    if high < CHANCE:
        yield Tripwire(
            "ranks pairs the wrong way round",
            seen,
            f"an interval below {CHANCE:g}",
            "The chosen and the rejected answers of the training pairs, or of the held-out ones, may be swapped.",
        )
    else:
        yield Tripwire(
            "ranks pairs as chance does",
            seen,
            f"an interval with {CHANCE:g} in it",
            f"There is nothing to learn in the pairs, or too few steps or too low a rate ({evidence.stage}.lr_scale).",
        )


def prefers_length(evidence: Evidence) -> Iterator[Tripwire]:
    """A reward model by which the longer answer wins more often than it is preferred.

    Singhal et al. 2023, https://arxiv.org/abs/2310.03716: much of what RLHF gains by such a model is length.
    """
    if (pairs := evidence.tables.get("pairs")) is None:
        return
    score, tokens = (
        column(pairs, f"chosen_{name}") - column(pairs, f"rejected_{name}") for name in ("score", "tokens")
    )
    unlike = tokens != 0
    wins, preferred = score[unlike] * tokens[unlike] > 0, tokens[unlike] > 0
    more = wins.astype(float) - preferred
    if len(more) >= LEAST and more.mean() > LONGER_WINS and clear(more):
        slope = float((score * tokens).sum() / (tokens**2).sum())
        yield Tripwire(
            "prefers length",
            f"the longer of two answers wins in {wins.mean():.0%} of the held-out pairs and is the preferred one in "
            f"{preferred.mean():.0%} (n = {len(more)}); a token more is worth {slope:+.3f} of score",
            f"{LONGER_WINS:.0%} more",
            "What is trained by this score will grow longer: balance the lengths of the pairs, and weigh it low in "
            "grpo.rewards.",
        )


def displaced(evidence: Evidence) -> Iterator[Tripwire]:
    """DPO that makes the chosen answers unlikely, too."""
    first, last = (evidence.figures.get(name) for name in ("chosen_logp_before", "chosen_logp"))
    if first is not None and last is not None and last < DISPLACED * first:
        yield Tripwire(
            "chosen answers became unlikely",
            f"their log-probability is {last:.1f}, where it was {first:.1f}",
            f"more than {DISPLACED:g} times as far below 0",
            "What has become likely is in no pair: read the answers. A term that holds the chosen likely helps "
            "(dpo.loss_type: [sigmoid, sft]), a larger dpo.beta or a smaller dpo.lr_scale.",
        )


# --- GRPO ------------------------------------------------------------------------------------------------------------


def gamed_over_policies(evidence: Evidence) -> Iterator[Tripwire]:
    """From a policy to the next the reward model's score rises, and right answers fall: the over-optimisation of Gao et
    al. 2022, https://arxiv.org/abs/2210.10760.
    """
    scores = evidence.tables.get("scores")
    if scores is None:
        return
    policies = dict.fromkeys(scores["policy"].to_pylist())  # in the order of training
    known = {one: table for one in policies if (table := evidence.answers(one)) is not None}
    pairs = [*pairwise(known)]
    if {evidence.init, evidence.stage} <= known.keys() and (evidence.init, evidence.stage) not in pairs:
        pairs.append((evidence.init, evidence.stage))
    for first, last in pairs:
        given = [sample_means(filtered(scores, one), ("sampled",)) for one in (first, last)]
        answers = [sample_means(known[one], ("sampled_right",)) for one in (first, last)]
        paid, right = paired_changes(given, "sampled"), paired_changes(answers, "sampled_right")
        if clear(paid) and clear(-right):
            yield Tripwire(
                "reward up, right answers down",
                f"from {first} to {last} the reward model's score of sampled answers rises by {paid.mean():.2f}, and "
                f"{-right.mean():.1%} fewer of them are right (n = {len(right)})",
                "a rise and a fall that are both more than noise over prompts",
                "The reward model is being gamed: weigh it lower (grpo.rewards), train fewer steps, or hold the policy "
                "near (grpo.beta).",
            )


def gamed_over_steps(evidence: Evidence) -> Iterator[Tripwire]:
    """While GRPO trains, what it is paid rises, and fewer of its completions are right."""
    right = trend(evidence.curves.get(f"train_{JUDGED}", ()))
    if right is None or right[0] > -CHANGE:
        return
    for name, what in (("train_reward", "the weighted sum of rewards"), ("train_reward_model", "the reward model's")):
        paid = trend(evidence.curves.get(name, ()))
        if paid and paid[0] > CHANGE:
            yield Tripwire(
                "reward up, right completions down",
                f"from the first third of its steps to the last {what} rises by {paid[1]:.2f}, and "
                f"{-right[1]:.1%} fewer completions are right (n = {len(evidence.curves[name])} points)",
                f"changes of more than {CHANGE:g} standard errors",
                "The policy is paid for something else than right answers: weigh that reward lower (grpo.rewards).",
            )
            return


def collapsed(evidence: Evidence) -> Iterator[Tripwire]:
    """Entropy that is all but gone: the policy has stopped to explore."""
    points = [value for _, value in evidence.curves.get("train_entropy", ())]
    if len(points) < POINTS:
        return
    ends = max(1, len(points) // 5)
    first, last = statistics.mean(points[:ends]), statistics.mean(points[-ends:])
    if last < ENTROPY * first:
        yield Tripwire(
            "entropy collapsed",
            f"the entropy of a token is {last:.4f}, where it was {first:.4f} at the beginning",
            f"less than {ENTROPY:.0%} of it left",
            "The policy gives one answer alone, and has no more to learn from: a higher grpo.epsilon_high (0.28 in "
            "DAPO), a higher grpo.temperature, or fewer steps.",
        )


def without_signal(evidence: Evidence) -> Iterator[Tripwire]:
    """Groups of which all completions are right, or none."""
    share = evidence.figures.get(f"signal_{JUDGED}")
    if share is not None and share < SIGNAL:
        yield Tripwire(
            "most groups say nothing of right and wrong",
            f"{JUDGED} by itself differs in {share:.0%} of the groups",
            f"less than {SIGNAL:.0%}",
            "The prompts are too hard or too easy, so that other rewards decide what is learnt: grpo.pass_rate keeps "
            "those between, and a larger grpo.num_generations finds more of them.",
        )


def misjudges(evidence: Evidence) -> Iterator[Tripwire]:
    """A reward model that does not score right answers above wrong ones to the same prompt: the area under its ROC
    curve within a prompt, the mean over prompts that have both, of all policies' answers.
    """
    scores = evidence.tables.get("scores")
    if scores is None:
        return
    given: dict[int, list[tuple[float, bool]]] = {}
    for policy in scores["policy"].unique().to_pylist():
        if (answers := evidence.answers(policy)) is None:
            continue
        rated = {row["row"]: [row["greedy"], *row["sampled"]] for row in filtered(scores, policy).to_pylist()}
        for row in answers.select(["row", "greedy_right", "sampled_right"]).to_pylist():
            if row["greedy_right"] is not None and row["row"] in rated:
                right = [row["greedy_right"], *row["sampled_right"]]
                given.setdefault(row["row"], []).extend(zip(rated[row["row"]], right, strict=True))
    areas = np.array([area for one in given.values() if (area := above_wrong(one)) is not None])
    if len(areas) < LEAST or (low := areas.mean() - half_width(areas)) > CHANCE:
        return
    high = areas.mean() + half_width(areas)
    wrong = high < CHANCE
    yield Tripwire(
        "the reward model prefers wrong answers" if wrong else "the reward model does not tell right from wrong",
        f"a right answer of the policies scores above a wrong one to the same prompt in {areas.mean():.0%} of the "
        f"cases, 95 % interval {low:.0%} to {high:.0%} (n = {len(areas)} prompts with both)",
        f"an interval {'below' if wrong else 'with'} {CHANCE:.0%}{'' if wrong else ' in it'}",
        "The pairs it is trained on may be swapped, or of another kind than these prompts: it is not to be trusted as "
        "a reward (grpo.rewards).",
    )


JUDGED = "accuracy"  # the reward that judges as the answers are judged
POLICY = (longer, repetitive)
LOOKS = {
    "SFTTrainer": (unlearnt, *POLICY),
    "RewardTrainer": (ranking, prefers_length),
    "DPOTrainer": (ranking, displaced, *POLICY),
    "GRPOTrainer": (gamed_over_policies, gamed_over_steps, misjudges, without_signal, collapsed, *POLICY),
}


# --- figures of tables and curves ------------------------------------------------------------------------------------


def column(table: pa.Table, name: str) -> Floats:
    return table[name].to_numpy().astype(np.float64)


def filtered(scores: pa.Table, policy: str) -> pa.Table:
    """The scores of one policy's answers."""
    return scores.filter([name == policy for name in scores["policy"].to_pylist()])


def sample_means(table: pa.Table, names: Sequence[str]) -> dict[str, dict[int, float]]:
    """The mean of each prompt's samples, by its row; a column that has no judgement at all is left out."""
    found = {}
    for name in names:
        values = zip(table["row"].to_pylist(), table[name].to_pylist(), strict=True)
        found[name] = {row: statistics.mean(map(float, many)) for row, many in values if many and None not in many}
    return {name: values for name, values in found.items() if values}


def paired_changes(given: Sequence[dict[str, dict[int, float]]], name: str) -> Floats:
    """What each prompt that both have has more of it in the second."""
    before, after = (one.get(name, {}) for one in given)
    return np.array([after[row] - before[row] for row in sorted(before.keys() & after.keys())])


def both(evidence: Evidence) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The means of each prompt's samples before and after, of the prompts that both have; none of what is not known."""
    names = ("sampled_right", "sampled_tokens", "sampled_ended", "sampled_repetition")
    tables = [evidence.tables.get("before") or evidence.answers(evidence.init), evidence.answers(evidence.stage)]
    found = [{} if table is None else sample_means(table, names) for table in tables]
    if not found[1]:
        return {}, {}
    if not found[0]:
        return {}, {name: np.array([*values.values()]) for name, values in found[1].items()}
    first, last = dict[str, Floats](), dict[str, Floats]()
    for name in found[0].keys() & found[1].keys():
        rows = sorted(found[0][name].keys() & found[1][name].keys())
        first[name], last[name] = (np.array([one[name][row] for row in rows]) for one in found)
    return first, last


def gained(before: dict[str, Floats], after: dict[str, Floats], name: str) -> bool:
    """Whether there is clearly more of it."""
    return name in after and clear(after[name] - before[name])


def half_width(values: Floats) -> float:
    """Of the 95 % interval of a mean over prompts."""
    return float(Z * values.std(ddof=1) / len(values) ** 0.5)


def clear(differences: Floats) -> bool:
    """Whether the mean of a difference is above 0 by more than its interval over prompts."""
    return len(differences) >= LEAST and float(differences.mean()) > half_width(differences)


def trend(points: Sequence[tuple[int, float]]) -> tuple[float, float] | None:
    """What the last third of a curve is above its first, on average: in standard errors, and as it stands; None of one
    too short to tell.

    A point's noise is told by the steps from one point to the next (von Neumann 1941). Their median is taken, as a
    curve that falls at once and stays there has few large ones: of normal noise it is 0.954 times that of a point.

    >>> trend([(1, 0.0), (2, 1.0)]), trend([(step, step % 2 + 2.0 * (step > 4)) for step in range(9)])[1]
    (None, 2.0)
    """
    if len(points) < POINTS:
        return None
    values = np.array([value for _, value in points], dtype=np.float64)
    third = len(values) // 3
    change = float(values[-third:].mean() - values[:third].mean())
    error = float(np.median(np.abs(np.diff(values)))) / 0.954 * (2 / third) ** 0.5
    return (change / error if error else float(np.sign(change)) * np.inf), change


def above_wrong(rated: Sequence[tuple[float, bool]]) -> float | None:
    """In how many of the cases a right answer scores above a wrong one, ties counted as half; None without both.

    >>> above_wrong([(0.9, True), (0.1, False), (0.9, False)])
    0.75
    """
    right, wrong = (np.array([score for score, one in rated if one == side]) for side in (True, False))
    if not len(right) or not len(wrong):
        return None
    ahead = right[:, None] - wrong[None, :]
    return float((ahead > 0).mean() + (ahead == 0).mean() / 2)
