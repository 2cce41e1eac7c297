"""The built-in task: its rows are what their descriptions say, and its sums are right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random

import pytest

from llmrl.toy import arithmetic
from llmrl.toy.arithmetic import Problem, Row

STREAMS = [arithmetic.conversations, arithmetic.preferences, arithmetic.prompts]
WORKED = re.compile(r"ones (\d+)([-+*])(\d+)=(\d+), tens (\d+)([-+*])(\d+)(?:([-+])(\d+))?=(\d+)\. \\boxed\{(\d+)\}")


def answers(kind: str) -> Iterator[tuple[Problem, int, str]]:
    """Two thousand sums, the right result of each, and an answer of a kind."""
    random = Random(0)
    for _ in range(2000):
        problem = arithmetic.draw_problem(random)
        result = arithmetic.OPERATIONS[problem.sign](problem.left, problem.right)
        yield problem, result, arithmetic.answer(random, problem, kind)


def boxed(text: str) -> int:
    (result,) = re.findall(r"\\boxed\{(\d+)\}", text)
    return int(result)


def steps_are_right(text: str) -> bool:
    """Whether both written steps hold and lead to the boxed result."""
    match = WORKED.fullmatch(text)
    assert match is not None, text
    ones_left, ones_sign, ones_right, ones, tens_left, tens_sign, tens_right, carry_sign, carry, tens, result = (
        match.groups()
    )
    signed_carry = int(f"{carry_sign}{carry}") if carry else 0
    return (
        arithmetic.OPERATIONS[ones_sign](int(ones_left), int(ones_right)) == int(ones)
        and arithmetic.OPERATIONS[tens_sign](int(tens_left), int(tens_right)) + signed_carry == int(tens)
        and 10 * int(tens) + int(ones) % 10 == int(result)
    )


@pytest.mark.parametrize("stream", STREAMS)
def test_rows_depend_on_seed_and_index_alone(stream: Callable[[int], Iterator[Row]]) -> None:
    """More rows keep the earlier ones, and another seed gives other rows."""
    assert list(islice(stream(1), 20)) == list(islice(stream(1), 60))[:20]
    assert list(islice(stream(1), 20)) != list(islice(stream(2), 20))


def test_answers_to_imitate_are_mixed() -> None:
    """A third of the answers in conversations are worked and right; of the hasty ones a small share is right."""
    worked, hasty = [], []
    for row in islice(arithmetic.conversations(0), 3000):
        messages = row["messages"]
        assert ["user", "assistant"] * (len(messages) // 2) == [message["role"] for message in messages]
        for message in messages[1::2]:
            (worked if "ones" in message["content"] else hasty).append(message["content"])
    assert pytest.approx(arithmetic.WORKED_SHARE, abs=0.03) == len(worked) / (len(worked) + len(hasty))
    assert all(steps_are_right(text) for text in worked)


def test_later_turns_are_never_held_out_questions() -> None:
    """No second turn is, word for word, a question that a first turn or a prompt could ask."""
    later = [
        row["messages"][2]["content"] for row in islice(arithmetic.conversations(0), 500) if len(row["messages"]) > 2
    ]
    assert later
    assert all(question.startswith("Next: ") for question in later)


def test_prompts_are_checkable() -> None:
    """The numbers of a prompt give its solution by one of the three operations."""
    for row in islice(arithmetic.prompts(0), 1000):
        (message,) = row["prompt"]
        numbers = sorted(map(int, re.findall(r"\d+", message["content"])), reverse=True)
        results = {str(calculate(*numbers)) for calculate in arithmetic.OPERATIONS.values()}
        assert row["solution"] in results


def test_prompts_are_many() -> None:
    """Most of ten thousand prompts are distinct."""
    assert len({row["prompt"][0]["content"] for row in islice(arithmetic.prompts(0), 10_000)}) > 8000


def test_chosen_is_right_and_rejected_differs() -> None:
    """A chosen answer is worked and right, and never equal to the rejected one."""
    for row in islice(arithmetic.preferences(0), 2000):
        assert steps_are_right(row["chosen"][0]["content"])
        assert row["chosen"] != row["rejected"]


def test_worked_answers_are_right() -> None:
    """Each step of a worked answer holds, and the boxed result is that of the sum."""
    for _, result, text in answers("worked"):
        assert steps_are_right(text), text
        assert result == boxed(text)


def test_haste_is_mostly_wrong() -> None:
    """A hasty answer is right as seldom as its share says, and shows no steps."""
    found = list(answers("hasty"))
    assert not any("ones" in text for _, _, text in found)
    lucky = sum(boxed(text) == result for _, result, text in found) / len(found)
    assert pytest.approx(arithmetic.LUCKY_SHARE, abs=0.03) == lucky


def test_a_guess_has_no_steps_and_is_wrong() -> None:
    """A guess has no steps and a wrong result."""
    for _, result, text in answers("guess"):
        assert "ones" not in text
        assert result != boxed(text)


def test_a_slipped_carry_is_consistent_and_wrong() -> None:
    """After a slipped carry the written steps hold, and the result is wrong by a multiple of ten, never negative."""
    for _, result, text in answers("slipped_carry"):
        assert steps_are_right(text), text
        assert result != boxed(text)
        assert 0 == (result - boxed(text)) % 10


def test_a_wrong_operation_is_another_sum_done_right() -> None:
    """A wrong operation is worked without a fault and uses a sign that was not asked for."""
    for problem, _, text in answers("wrong_operation"):
        assert steps_are_right(text), text
        assert problem.sign not in text.split(",")[0]


def test_unfinished_has_the_steps_alone() -> None:
    """An unfinished answer is the worked one without its box."""
    for (_, result, text), (_, _, worked) in zip(answers("unfinished"), answers("worked"), strict=True):
        assert worked == f"{text} {arithmetic.boxed(result)}"


def test_a_wrong_step_ends_in_the_right_result() -> None:
    """An answer with a wrong step has the right result and a step that does not hold."""
    for _, result, text in answers("wrong_step"):
        assert result == boxed(text)
        assert not steps_are_right(text), text


def test_rambling_ends_in_the_worked_answer() -> None:
    """A rambling answer is the worked one after two or three fillers."""
    for problem, _, text in answers("rambling"):
        worked = arithmetic.answer(Random(0), problem, "worked")
        assert text.endswith(worked)
        assert 2 <= text.removesuffix(worked).count(". ") <= 3 + 1  # "So, hmm. " and the like


def test_mistakes_come_as_often_as_their_shares() -> None:
    """The shares of the mistakes add up to one."""
    assert pytest.approx(1.0) == sum(arithmetic.MISTAKES.values())
