"""Which of a policy's answers become pairs: a right one is chosen, a wrong one rejected, their lengths alike.

A reward model that is shown longer answers as the better ones learns their length before anything else
(https://arxiv.org/abs/2310.03716). So those answers to a prompt are paired whose lengths differ least and, over all
pairs, the chosen one is as often the longer as the shorter, as far as the answers allow.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Said(NamedTuple):
    """An answer that is right, or that is wrong."""

    text: str
    tokens: int


class Candidates(NamedTuple):
    """The answers to one prompt that a pair may be made of."""

    right: list[Said]
    wrong: list[Said]


class Pair(NamedTuple):
    """A pair, and to which of the prompts."""

    prompt: int
    chosen: Said
    rejected: Said

    @property
    def longer(self) -> int:
        """By how many tokens the chosen answer is longer."""
        return self.chosen.tokens - self.rejected.tokens

    @property
    def side(self) -> int:
        """1 where the chosen answer is the longer one, -1 where it is the shorter, else 0."""
        return (self.longer > 0) - (self.longer < 0)


def distinct(answers: Iterable[Said]) -> list[Said]:
    """Each text once, however it is spaced around; of equal ones the first."""
    found: dict[str, Said] = {}
    for one in answers:
        found.setdefault(one.text.strip(), one)
    return [*found.values()]


def possible(answers: Candidates, each: int) -> int:
    """How many pairs there are of a prompt, at most `each`, as no text is in two of them."""
    return min(each, len(answers.right), len(answers.wrong))


def choose_pairs(answers: Sequence[Candidates], each: int, most: int | None = None) -> list[Pair]:
    """Pairs of the answers to each prompt, at most `each`, in all at most so many; in the order of the prompts. No text
    is in two pairs of a prompt.
    """
    found: list[Pair] = []
    longer = 0
    for prompt, one in enumerate(answers):
        for pair in nearest(prompt, one, each, longer):
            found.append(pair)
            longer += pair.longer
    found = balanced(found, answers)
    return found if most is None or len(found) <= most else fewer(found, most)


def nearest(prompt: int, answers: Candidates, each: int, longer: int) -> list[Pair]:
    """Pairs of a prompt, those first whose lengths differ least; of equal ones that which brings nearer to 0 by how
    many tokens the chosen are longer in all, so far `longer`.
    """
    right, wrong, found = [*answers.right], [*answers.wrong], list[Pair]()
    for _ in range(possible(answers, each)):
        pairs = (Pair(prompt, one, other) for one in right for other in wrong)
        best = min(pairs, key=lambda pair: (abs(pair.longer), abs(longer + pair.longer)))
        right.remove(best.chosen)
        wrong.remove(best.rejected)
        longer += best.longer
        found.append(best)
    return found


def balanced(pairs: list[Pair], answers: Sequence[Candidates]) -> list[Pair]:
    """As many pairs of each prompt, some made of other answers to it: where the chosen is more often the longer one,
    pairs in which it is not take the place of others, those first that cost the least likeness in length; and the other
    way round. Until there are as many of both, or no such pair is left that does not take the mean difference away
    from 0.
    """
    found, used = [*pairs], dict[int, set[Said]]()
    for pair in pairs:
        used.setdefault(pair.prompt, set()).update((pair.chosen, pair.rejected))
    excess, longer = sum(pair.side for pair in pairs), sum(pair.longer for pair in pairs)

    many = 1 if excess > 0 else -1

    def other(pair: Pair) -> Pair | None:
        """Of answers that are in no other pair the nearest in length that is less of the kind there are too many of."""
        taken = used[pair.prompt] - {pair.chosen, pair.rejected}
        right, wrong = ([said for said in some if said not in taken] for some in answers[pair.prompt])
        pairs = (Pair(pair.prompt, chosen, rejected) for chosen in right for rejected in wrong)
        less = (one for one in pairs if many * one.side < many * pair.side)
        return min(less, key=lambda one: abs(one.longer), default=None)

    places = enumerate(pairs) if excess else ()
    costs = [(abs(new.longer) - abs(pair.longer), place) for place, pair in places if (new := other(pair))]
    for _, place in sorted(costs):
        pair = found[place]
        if (new := other(pair)) is None:  # its answers are in another pair by now
            continue
        excess_then, longer_then = excess + new.side - pair.side, longer + new.longer - pair.longer
        if abs(excess_then) < abs(excess) and abs(longer_then) <= abs(longer):
            used[pair.prompt] = used[pair.prompt] - {pair.chosen, pair.rejected} | {new.chosen, new.rejected}
            found[place], excess, longer = new, excess_then, longer_then
    return found


def fewer(pairs: list[Pair], most: int) -> list[Pair]:
    """So many of the pairs, in their order: of those kinds that there are more of, those go that differ most."""
    kinds: dict[int, list[int]] = {-1: [], 0: [], 1: []}
    for place in sorted(range(len(pairs)), key=lambda place: (abs(pairs[place].longer), place)):
        kinds[pairs[place].side].append(place)  # the last one goes first
    for _ in range(len(pairs) - most):
        excess = len(kinds[1]) - len(kinds[-1])
        kind = (1 if excess > 0 else -1) if excess else max((-1, 1, 0), key=lambda kind: last(pairs, kinds[kind]))
        kinds[kind].pop()
    return [pairs[place] for place in sorted(place for places in kinds.values() for place in places)]


def last(pairs: list[Pair], places: list[int]) -> int:
    """By how many tokens the last of these differs; -1 where there is none."""
    return abs(pairs[places[-1]].longer) if places else -1


def told_by_length(pairs: Sequence[Pair]) -> dict[str, float]:
    """The mean lengths of both sides, in tokens, and how often the shorter and the longer answer of a pair is the
    chosen one, of answers of one length half of the time: what a judge would get right who saw nothing else.

    >>> told_by_length([Pair(0, Said("4", 1), Said("five", 3)), Pair(1, Said("6", 1), Said("7", 1))])
    {'chosen_tokens': 1, 'rejected_tokens': 2, 'shorter_right': 0.75, 'longer_right': 0.25}
    """
    longer = statistics.fmean((1 + pair.side) / 2 for pair in pairs)
    return {
        "chosen_tokens": statistics.mean(pair.chosen.tokens for pair in pairs),
        "rejected_tokens": statistics.mean(pair.rejected.tokens for pair in pairs),
        "shorter_right": 1 - longer,
        "longer_right": longer,
    }
