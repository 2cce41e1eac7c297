"""Which answers become pairs."""

from __future__ import annotations

from random import Random

import pytest

from llmrl.pairs.choosing import Candidates, Pair, Said, choose_pairs, distinct, possible, told_by_length

SEEDS = range(40)


def drawn(random: Random, prompts: int, longer: int) -> list[Candidates]:
    """Answers to some prompts, of which right ones are longer by so many tokens in the mean."""

    def some(kind: str, more: int) -> list[Said]:
        return [Said(f"{kind} {number}", random.randint(1, 20) + more) for number in range(random.randint(0, 6))]

    return [Candidates(some("right", longer), some("wrong", 0)) for _ in range(prompts)]


@pytest.mark.parametrize("seed", SEEDS)
def test_pairs_are_of_right_and_wrong_answers_each_once(seed: int) -> None:
    """As many as there can be of each prompt, at most so many, and no text in two of its pairs."""
    random = Random(seed)
    each, answers = random.randint(1, 4), drawn(random, 30, random.choice((-5, 0, 5)))
    pairs = choose_pairs(answers, each)

    assert pairs == choose_pairs(answers, each)
    for prompt, one in enumerate(answers):
        own = [pair for pair in pairs if pair.prompt == prompt]
        assert possible(one, each) == len(own)
        for side, said in (("chosen", one.right), ("rejected", one.wrong)):
            texts = [getattr(pair, side) for pair in own]
            assert len(texts) == len({*texts})
            assert {*texts} <= {*said}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_than_are_asked_for(seed: int) -> None:
    """Of the pairs that there are, in the order of the prompts."""
    random = Random(seed)
    answers = drawn(random, 30, 5)
    every = choose_pairs(answers, 2)
    most = random.randint(1, len(every))
    some = choose_pairs(answers, 2, most)

    assert most == len(some)
    assert {*some} <= {*every}
    assert [pair.prompt for pair in some] == sorted(pair.prompt for pair in some)
    excess = [abs(sum(pair.side for pair in pairs)) for pairs in (some, every)]
    assert excess[0] <= max(1, excess[1])


def test_those_whose_lengths_differ_least() -> None:
    """And of several that differ alike, those by which the chosen are longer as often as shorter."""
    one = Candidates([Said("a", 5), Said("b", 30)], [Said("c", 9), Said("d", 29), Said("e", 60)])

    assert [Pair(0, Said("b", 30), Said("d", 29))] == choose_pairs([one], 1)
    between = Candidates([Said("a", 10)], [Said("c", 8), Said("d", 12)])
    assert [2, -2, 2, -2] == [pair.longer for pair in choose_pairs([between] * 4, 1)]


def test_no_longer_in_the_mean() -> None:
    """Where answers allow it, though pairs that are nearer would all have the longer one chosen."""
    answers = [Candidates([Said("a", 10)], [Said("c", 9), Said("d", 12)])] * 100
    found = told_by_length(choose_pairs(answers, 1))

    assert abs(found["chosen_tokens"] - found["rejected_tokens"]) < 0.02
    assert found["longer_right"] < 0.7
    assert 1 == found["longer_right"] + found["shorter_right"]


def test_balance_never_takes_the_means_apart() -> None:
    """One very long answer does not pay for many short ones."""
    answers = [Candidates([Said("a", 10)], [Said("c", 9), Said("d", 500)])] * 3
    found = choose_pairs(answers, 1)

    assert [1, 1, 1] == [pair.longer for pair in found]


@pytest.mark.parametrize("longer", [-6, 0, 6])
def test_lengths_tell_less_than_by_chance(longer: int) -> None:
    """Than in as many pairs of any answers: both how often and by how much the chosen one is longer."""
    random = Random(1)
    answers = drawn(random, 400, longer)
    pairs = choose_pairs(answers, 2)
    by_chance = [
        Pair(number, right, wrong)
        for number, one in enumerate(answers)
        for right, wrong in list(zip(one.right, one.wrong, strict=False))[:2]
    ]
    told = [abs(told_by_length(some)["longer_right"] - 0.5) for some in (pairs, by_chance)]
    apart = [abs(sum(pair.longer for pair in some)) for some in (pairs, by_chance)]

    assert len(by_chance) == len(pairs)
    assert told[0] < 0.6 * told[1] + 0.02
    assert apart[0] <= apart[1]


def test_equal_texts_are_one() -> None:
    """However they are spaced around; the first stays."""
    assert [Said(" a", 2), Said("b", 1)] == distinct([Said(" a", 2), Said("a\n", 3), Said("b", 1), Said("b", 1)])
