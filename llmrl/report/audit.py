"""Whether the reward model is to be trusted: by the held-out pairs, and by the judge of the policies' own answers.

A reward model gives the odds that one answer to a prompt is better than another (Bradley-Terry): its scores compare
answers to one prompt, and those to different prompts say little. So all here is within prompts. It is asked

- how often it scores a right answer above a wrong one, of each policy, whose answers are not those of its pairs, and
  where both are as long;
- how many held-out pairs it ranks right, by how much longer the better answer is;
- what a token is worth to it: answers are compared with those of the same policy to the same prompt that are as right.
  Reward models pay for length (Singhal et al. 2023, https://arxiv.org/abs/2310.03716);
- whether it is right as often as it says: reliability and expected calibration error of the sigmoid of the difference
  of two scores (Guo et al. 2017, https://arxiv.org/abs/1706.04599), in ten bins of equal width from 0.5 to 1.

Intervals are of 95 %: of pairs over pairs, of answers over prompts, as the answers to a prompt go together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from llmrl.measuring.intervals import wilson
from llmrl.report.curves import COLOURS
from llmrl.report.document import Block, Chart, Grid, Quote, Quotes, Section, Words
from llmrl.report.measures import difference, number, so_many, with_ends
from llmrl.report.outcome import as_outdated, outdated_stages
from llmrl.report.samples import Array, Samples, not_there, sampled
from llmrl.report.statistics import Interval, slope

if TYPE_CHECKING:
    from llmrl.report.recorded import Recorded

TITLE = "Is the reward model to be trusted?"
CHANCE = 0.5
WEAK = 0.6  # an interval from chance or below up to less than this: no better than chance, or hardly
LEAST = 20  # prompts or pairs: of fewer it is not said what length is worth
LENGTHS = 5  # bins of pairs by difference of length, of about as many pairs each
CONFIDENCES = 10  # bins of what it says, of equal width from 0.5 to 1
MEDIUM = 0.3  # a correlation from here on counts (Cohen 1988: "medium")
MORE = 10  # tokens: what so many more are worth is said
EXAMPLES = 5
NEAR = 0.05  # of the tokens of the longer of two answers: such a difference is about none
SHORTER, AS_LONG, LONGER = "the shorter", "about as long", "the longer"
AS_MANY = "of as many tokens"  # of pairs, whose prompt is counted with them, none but these is about as long
ALL = "all"
ANSWERS, PAIRS = "the policies' answers", "held-out pairs"


@dataclass(frozen=True)
class Contests:
    """A better answer and a worse one to the same prompt, many times: all fields (contests,)."""

    score: Array  # of the better less that of the worse
    tokens: Array  # of the better less those of the worse
    longer: Array  # tokens of the longer; 0 where only of as many are the two about as long
    prompt: Array | None = None  # its row; None where each contest stands for itself
    policy: Array | None = None  # whose answers they are

    def __len__(self) -> int:
        return len(self.score)

    def where(self, chosen: Array) -> Contests:
        """Those of a mask."""
        prompt, policy = (None if one is None else one[chosen] for one in (self.prompt, self.policy))
        return Contests(self.score[chosen], self.tokens[chosen], self.longer[chosen], prompt, policy)

    def of(self, policy: str) -> Contests:
        """Those of a policy, or of all."""
        return self if policy == ALL else self.where(np.asarray(self.policy) == policy)

    def prompts(self) -> int:
        """How many different ones."""
        return len(self) if self.prompt is None else len(np.unique(self.prompt))

    def by_length(self) -> dict[str, Contests]:
        """Those of which the better answer is the shorter, about as long, the longer."""
        near = np.abs(self.tokens) <= NEAR * self.longer
        kinds = {SHORTER: ~near & (self.tokens < 0), AS_LONG: near, LONGER: ~near & (self.tokens > 0)}
        return {kind: self.where(chosen) for kind, chosen in kinds.items()}


@dataclass(frozen=True)
class Reliability:
    """What it says of contests against how often it is right."""

    said: float  # mean
    right: Interval
    error: float  # expected calibration error
    bins: list[tuple[float, Interval, int]]  # what it says, how often it is right, of how many
    n: str  # in words


@dataclass(frozen=True)
class Worth:
    """What a token more is worth: the score with its interval, and the correlation of the two."""

    score: Interval
    correlation: float
    n: int
    prompts: int

    @property
    def side(self) -> int:
        """1 where longer ones score higher, −1 where shorter ones do, by more than a little; else, or of few, 0."""
        _, low, high = self.score
        if self.prompts < LEAST or abs(self.correlation) < MEDIUM:
            return 0
        return int(low > 0) - int(high < 0)


def reward_model_audited(experiment: Recorded) -> Section:
    """The section of the report."""
    samples, notes = sampled(experiment)
    samples = samples.scored
    judged, pairs = samples.judged, held_out_pairs(experiment)
    between = contests(judged)
    worths = {policy: (worth(one), worth(one, True)) for policy, one in each_policy(samples).items()}
    of_pairs = Worth(slope(pairs.tokens, pairs.score), correlation(pairs.tokens, pairs.score), len(pairs), len(pairs))
    verdicts: list[Block] = []
    figures: list[Block] = [Words(note, "note") for note in notes]
    if len(judged):
        verdicts.append(trusted(judged, between, pairs))
        figures.append(by_policy(judged, between))
    elif len(samples):
        figures.append(Words("No held-out prompt has a solution: nothing tells whether its scores are right.", "note"))
    else:
        figures += not_there(experiment, "grpo", "Its scores of the policies' own answers")
    if len(pairs):
        verdicts.append(ranks(pairs))
        figures.append(by_length(pairs, of_pairs))
    else:
        figures += not_there(experiment, "reward", "Its scores of the held-out pairs")
    if worths or len(pairs):
        verdicts.append(pays_for_length(worths, of_pairs, between))
    if worths:
        figures.append(worth_of_tokens(worths))
    told = {what: reliability(some) for what, some in ((ANSWERS, between), (PAIRS, pairs)) if len(some)}
    if told:
        verdicts.append(calibrated(told))
        figures += calibration(told)
    if {"reward", "grpo"} & outdated_stages(experiment).keys():  # the scores of pairs, and of answers, are theirs
        verdicts = [as_outdated(block) for block in verdicts]
    return Section("audit", TITLE, [*verdicts, *figures, *disagreements(judged)])


# --- figures ---------------------------------------------------------------------------------------------------------


def held_out_pairs(experiment: Recorded) -> Contests:
    """The held-out pairs with their scores, none where these were not kept; tokens are counted with the prompt's."""
    table = experiment.tables.get("reward", {}).get("pairs")
    if table is None:
        return Contests(np.array([]), np.array([]), np.array([]))
    (better, worse), (tokens, others) = (
        [table[f"{side}_{what}"].to_numpy().astype(float) for side in ("chosen", "rejected")]
        for what in ("score", "tokens")
    )
    return Contests(better - worse, tokens - others, np.zeros(len(table))).where(np.isfinite(better - worse))


def contests(judged: Samples) -> Contests:
    """Each right answer against each wrong one of the same policy to the same prompt."""
    group = beside_each_other(judged)
    judged = judged.where(order := np.argsort(group, kind="stable"))
    ends_of = np.append(np.flatnonzero(np.diff(group[order])) + 1, len(judged))
    found: list[tuple[Array, ...]] = [(*[np.array([])] * 4, np.array([], str))]
    for start, end in pairwise([0, *ends_of.tolist()]):
        good = judged.right[start:end] == 1
        if 0 < good.sum() < len(good):
            (score, others), (tokens, more) = (
                (one[start:end][good], one[start:end][~good]) for one in (judged.score, judged.tokens)
            )
            pairs = [np.subtract.outer(score, others), np.subtract.outer(tokens, more), np.maximum.outer(tokens, more)]
            of = [np.full(pairs[0].size, one[start]) for one in (judged.row, judged.policy)]
            found.append((*(one.ravel() for one in pairs), *of))
    return Contests(*(np.concatenate(one) for one in zip(*found, strict=True)))


def beside_each_other(samples: Samples, *also: Array) -> Array:
    """(answers,) int: which go together, being of one policy to one prompt, and alike in what `also` has of them."""
    group = np.zeros(len(samples), int)
    for column in (samples.policy, samples.row, *also):
        _, of = np.unique(column, return_inverse=True)
        group = group * (int(of.max(initial=0)) + 1) + of
    return np.unique(group, return_inverse=True)[1]


def each_policy(samples: Samples) -> dict[str, Samples]:
    """Each policy's, and where there are several, those of all."""
    policies = samples.by_policy()
    return policies | ({ALL: samples} if len(policies) > 1 else {})


def won(some: Contests) -> Interval:
    """The share in which the better answer has the higher score, equal scores counted as half, with its interval:
    Wilson's, of answers with as many independent contests as would vary as much (Kish's effective sample size).
    """
    hits = np.where(some.score == 0, 0.5, some.score > 0)
    if not (n := len(hits)):
        return math.nan, math.nan, math.nan
    share = float(hits.mean())
    if some.prompt is None:
        return share, *wilson(share, n)
    _, of = np.unique(some.prompt, return_inverse=True)
    by_prompt = np.bincount(of, hits - share) / n
    prompts = len(by_prompt)
    variance = float(by_prompt @ by_prompt) * prompts / (prompts - 1) if prompts > 1 else math.inf
    as_many = share * (1 - share) / variance if 0 < share < 1 and variance else prompts  # independent ones
    return share, *wilson(share, max(1, min(n, as_many)))


def worth(samples: Samples, as_right: bool = False) -> Worth:
    """What a token more is worth among answers of one policy to one prompt, those alone that are as right or not, over
    prompts.
    """
    if as_right:
        samples = samples.judged
    group = beside_each_other(samples, *([samples.right] if as_right else []))
    score, tokens = (
        one - (np.bincount(group, one) / np.bincount(group))[group] for one in (samples.score, samples.tokens)
    )
    varies = np.bincount(group, np.abs(tokens))[group] > 0
    score, tokens, rows = score[varies], tokens[varies], samples.row[varies]
    return Worth(slope(tokens, score, rows), correlation(tokens, score), len(score), len(np.unique(rows)))


def correlation(x: Array, y: Array) -> float:
    """Pearson's; NaN where one of them does not vary."""
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def reliability(some: Contests) -> Reliability:
    """By bins of what it says: the sigmoid of the difference, of the answer that it prefers, 0.5 to 1."""
    said = 1 / (1 + np.exp(-np.abs(some.score)))
    of_bin = np.minimum(((said - 0.5) * 2 * CONFIDENCES).astype(int), CONFIDENCES - 1)
    bins = []
    for one in np.unique(of_bin):
        inside = of_bin == one
        bins.append((float(said[inside].mean()), won(some.where(inside)), int(inside.sum())))
    error = sum(n * abs(right[0] - mean) for mean, right, n in bins) / len(said)
    return Reliability(float(said.mean()), won(some), error, bins, counted(some))


# --- verdicts --------------------------------------------------------------------------------------------------------


def trusted(judged: Samples, between: Contests, pairs: Contests) -> Words:
    """Whether right answers score above wrong ones to the same prompt, and of which policy least."""
    if not len(between):
        text = "No policy gave a right and a wrong answer to one prompt: its scores cannot be set against them."
        return Words(text, "note")
    _, low, high = found = won(between)
    seen = (
        f"of a right and a wrong answer to one prompt, the right one has the higher score in {ends(found)} of "
        f"{counted(between)}"
    )
    if high < CHANCE:
        text = f"It is not to be trusted, it prefers wrong answers: {seen}. "
        if len(pairs) and won(pairs)[1] > CHANCE:
            why = "As it ranks the held-out pairs the way they are, chosen and rejected may be exchanged in these, too"
        else:
            why = "Chosen and rejected may be exchanged in the pairs it was trained on"
        return Words(f"{text}{why}, or the pairs prefer something else than right answers.", "bad")
    if low <= CHANCE < WEAK <= high:
        return Words(f"Whether it is to be trusted cannot be told: {seen}, which may be chance.", "note")
    if low <= CHANCE:
        return Words(f"It is not to be trusted, its scores are no better than chance, or hardly: {seen}.", "bad")
    areas = {policy: won(some) for policy in judged.by_policy() if len(some := between.of(policy))}
    least = min(areas, key=lambda policy: areas[policy][2])
    text, wrong = f"It is to be trusted as far as this: {seen}", False
    if len(areas) > 1:
        text += f"; least surely of {least}'s, in {ends(areas[least])}"
    if areas[least][1] <= CHANCE:
        text, wrong = f"{text}, which may be chance" if areas[least][2] >= CHANCE else f"{text}, less than chance", True
    level = between.by_length()[AS_LONG]
    _, low, high = found = won(level)
    if len(level) and low <= CHANCE and high < WEAK:
        text += (
            f". But where the two are about as long, in {ends(found)} of {counted(level)}, no better than chance: it "
            "goes by length, or by what goes with it"
        )
        wrong = True
    return Words(f"{text}.", "bad" if wrong else "good")


def ranks(pairs: Contests) -> Words:
    """Whether it has learnt its pairs, those also of which the better answer is the shorter one, or the longer."""
    _, low, high = found = won(pairs)
    called = {SHORTER: SHORTER, AS_LONG: AS_MANY, LONGER: LONGER}
    kinds = sorted((won(some), called[kind], len(some)) for kind, some in pairs.by_length().items() if len(some))
    worst, best = kinds[0], kinds[-1]
    apart = worst[0][2] < best[0][1]
    told = [f"{ends(share)} of the {n:,} whose better answer is {kind}" for share, kind, n in (worst, best)]
    seen, split = f"{ends(found)} of {counted(pairs)}", f"; {' and '.join(told)}" if apart else ""
    if high < CHANCE:
        return Words(
            f"It ranks the held-out pairs the wrong way round: as they are, {seen}{split}. Chosen and rejected may be "
            "exchanged in those it was trained on, or in these.",
            "bad",
        )
    if low <= CHANCE < WEAK <= high:
        return Words(f"Whether it ranks the held-out pairs better than chance cannot be told: {seen}{split}.", "note")
    if low <= CHANCE:
        return Words(f"It ranks the held-out pairs no better than chance, or hardly: {seen}{split}.", "bad")
    return Words(f"It ranks {seen} as they are{split}.", "bad" if apart and worst[0][1] <= CHANCE else "plain")


def pays_for_length(worths: dict[str, tuple[Worth, Worth]], of_pairs: Worth, between: Contests) -> Words:
    """Whether it pays for length by itself."""
    within, as_right = worths.get(ALL) or next(iter(worths.values()), (of_pairs, of_pairs))
    found, equal = (as_right, " and just as right") if math.isfinite(as_right.score[0]) and worths else (within, "")
    if not math.isfinite(found.score[0]):
        return Words(
            "All answers it can be compared on are as long as each other: nothing tells what length is worth.", "note"
        )
    whose = f"to the same prompt{equal}" if worths else "in the held-out pairs, be it the better or not,"
    _, low, high = found.score
    seen = f"an answer {whose} that has {MORE} tokens more scores {of_more(found)}"
    seen += f", correlation {number('score', found.correlation)}"
    if equal and len(between):
        seen += f"; a right one, compared with a wrong one, {number('score', float(between.score.mean()), sign=True)}"
    if found.side:
        return Words(f"It ranks {'longer' if found.side > 0 else 'shorter'} answers higher: {seen}.", "bad")
    if low > 0 or high < 0:
        return Words(f"It likes {'longer' if low > 0 else 'shorter'} answers a little better: {seen}.")
    return Words(f"It cannot be told that length by itself is worth anything to it: {seen}.")


def calibrated(told: dict[str, Reliability]) -> Words:
    """Whether it is as often right as it says."""
    texts = []
    for what, found in told.items():
        _, low, high = found.right
        how = "over-confident" if found.said > high else "under-confident" if found.said < low else "rightly so"
        sure = f"it is {number('said', found.said)} sure which of two is better, and right in {ends(found.right)}"
        texts.append(f"on {what} {sure}: {how}")
    return Words(f"O{'; '.join(texts)[1:]}.")


# --- tables and charts -----------------------------------------------------------------------------------------------


def by_policy(judged: Samples, between: Contests) -> Grid:
    """How it tells right answers from wrong ones: a column a policy."""
    columns = []
    for policy in each_policy(judged):
        some = between.of(policy)
        within = [ends(won(which)) for which in (some, *some.by_length().values())]
        columns.append([policy, *within, f"{len(some):,}", f"{some.prompts():,}"])
    names = ["", "right above wrong, within prompts", *(f"where it is {kind}" for kind in (SHORTER, AS_LONG, LONGER))]
    names += ["pairs of a right and a wrong one", "prompts that have both"]
    return across(
        [names, *columns],
        "How often a right sampled answer has a higher score than a wrong one (area under the ROC curve, .5 is "
        "chance), with 95 % intervals over prompts: of one policy to one prompt, where the right one is shorter, about "
        f"as long (to {100 * NEAR:g} % of the longer) or longer.",
    )


def across(columns: list[list[str]], caption: str) -> Grid:
    """A table of columns: the first one names the rows, and the first cell of each the column."""
    head, *rows = (list(row) for row in zip(*columns, strict=True))
    return Grid(head, rows, caption)


def by_length(pairs: Contests, of_pairs: Worth) -> Grid:
    """How many pairs it ranks right, by how much longer the better answer is."""
    edges = np.unique(np.quantile(pairs.tokens, np.linspace(0, 1, LENGTHS + 1)[1:-1], method="lower"))
    of_bin = np.searchsorted(edges, pairs.tokens)
    bins = [pairs.where(of_bin == one) for one in np.unique(of_bin)]
    names = [ALL, *(from_to(one.tokens) for one in bins)]
    rows = [[name, f"{len(one):,}", ends(won(one))] for name, one in zip(names, [pairs, *bins], strict=True)]
    caption = (
        "Held-out pairs ranked right, with 95 % Wilson intervals over pairs, by how many tokens more the better answer "
        f"has, in {len(bins)} bins of about as many pairs."
    )
    if math.isfinite(of_pairs.score[0]):
        caption += (
            f" With {MORE} tokens more in the better answer the difference of the scores is {of_more(of_pairs)}, "
            f"correlation {number('score', of_pairs.correlation)}."
        )
    return Grid(["tokens more in the better answer", "pairs", "ranked right"], rows, caption)


def worth_of_tokens(worths: dict[str, tuple[Worth, Worth]]) -> Grid:
    """What more tokens are worth: a column a policy."""

    def cells(found: Worth) -> list[str]:
        known = math.isfinite(found.score[0])
        return [of_more(found), number("score", found.correlation), f"{found.n:,}"] if known else ["–", "–", "–"]

    columns = [[policy, *cells(within), *cells(as_right)] for policy, (within, as_right) in worths.items()]
    more = f"{MORE} tokens more"
    return across(
        [["", more, "correlation", "answers", f"{more}, as right", "correlation", "answers"], *columns],
        f"By how much the score is higher with {more} (least squares), with 95 % intervals over prompts: of sampled "
        "answers of a policy to one prompt that differ in length, and of those alone that are as right, or as wrong.",
    )


def calibration(told: dict[str, Reliability]) -> list[Block]:
    """Whether it is right as often as it says, in a table and against the diagonal."""
    rows = [
        [what, found.n, number("said", found.said), ends(found.right), number("error", found.error)]
        for what, found in told.items()
    ]
    caption = (
        "Of two answers, how sure it is on average that the one with the higher score is better (sigmoid of the "
        "difference of the scores), and how often that is so; the expected calibration error is the mean distance of "
        f"the two over {CONFIDENCES} bins of equal width from 0.5 to 1, by how many each has. Intervals of 95 %, of "
        "held-out answers over pairs, of the policies' over prompts."
    )
    grid = Grid(["", "of", "says", "is right", "expected calibration error"], rows, caption)
    values = [
        {"of": what, "said": said, "right": share, "low": low, "high": high, "n": n}
        for what, found in told.items()
        for said, (share, low, high), n in found.bins
    ]
    x = {"field": "said", "type": "quantitative", "title": "says", "scale": {"domain": [0.5, 1]}}
    y = {"field": "right", "type": "quantitative", "title": "is right", "scale": {"domain": [0, 1]}}
    colour = {"field": "of", "type": "nominal", "scale": {"domain": [*told], "range": COLOURS[: len(told)]}}
    diagonal = [{"said": 0.5, "right": 0.5}, {"said": 1, "right": 1}]
    drawing = {
        "layer": [
            {
                "data": {"values": diagonal},
                "mark": {"type": "line", "strokeDash": [4, 3], "color": "#888"},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": values},
                "layer": [
                    {
                        "mark": "rule",
                        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour},
                    },
                    {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": y, "color": colour}},
                ],
            },
        ]
    }
    words = (
        "How often the answer with the higher score is better, by how sure it says it is; dashed: as often as it says."
    )
    return [grid, Chart("Says against is right", drawing, words)]


# --- examples --------------------------------------------------------------------------------------------------------


def disagreements(judged: Samples) -> list[Block]:
    """The wrong answers that it scores highest above the right ones to the same prompt, and the right ones that it
    scores lowest below the wrong ones; a prompt once.
    """
    if not 0 < judged.right.sum() < len(judged):
        return []
    _, of = np.unique(judged.row, return_inverse=True)
    right = judged.right == 1
    blocks: list[Block] = []
    for title, these, others, sign in (
        ("Wrong answers that it scores highest", ~right, right, 1),
        ("Right answers that it scores lowest", right, ~right, -1),
    ):
        with np.errstate(invalid="ignore"):  # of prompts without others
            mean = (np.bincount(of, judged.score * others) / np.bincount(of, others))[of]
        gap = np.where(these, sign * (judged.score - mean), np.nan)
        order = np.argsort(-gap, kind="stable")  # NaN last
        order = order[gap[order] > 0]
        first = order[np.sort(np.unique(of[order], return_index=True)[1])][:EXAMPLES]
        kind, other = ("wrong", "right") if sign > 0 else ("right", "wrong")
        quotes = [
            Quote(
                judged.text[place],
                judged.prompt[place],
                f"{judged.policy[place]}, {kind}, score {number('score', judged.score[place])}; {other} answers to "
                f"this prompt {number('score', mean[place])} on average; right is {judged.solution[place]}",
            )
            for place in first
        ]
        side = "above" if sign > 0 else "below"
        blocks.append(
            Quotes(f"{title}, compared with {other} ones to the same prompt", quotes)
            if quotes
            else Words(f"No {kind} answer has a score {side} the mean of the {other} ones to its prompt.", "note")
        )
    return blocks


# --- in words --------------------------------------------------------------------------------------------------------


def ends(found: Interval) -> str:
    """A share with the ends of its interval.

    >>> ends((0.875, 0.8, 0.925))
    '.875 (.800 to .925)'
    """
    return with_ends("share", found)


def of_more(found: Worth) -> str:
    """What so many tokens more are worth."""
    score, low, high = (MORE * one for one in found.score)
    return difference("score", (score, low, high))


def counted(some: Contests) -> str:
    """How many contests, and of how many prompts."""
    if some.prompt is None:
        return so_many(len(some), "held-out pair")
    return f"{so_many(len(some), 'pair')} of {so_many(some.prompts(), 'prompt')}"


def from_to(tokens: Array) -> str:
    """From the least to the most.

    >>> from_to(np.array([-3, 4])), from_to(np.array([0, 0]))
    ('−3 to +4', '0')
    """
    least, most = (f"{end:+.0f}".replace("-", "−").replace("+0", "0") for end in (tokens.min(), tokens.max()))
    return least if least == most else f"{least} to {most}"
