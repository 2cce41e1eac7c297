"""The rewards of GRPO, called as TRL calls them."""

import pytest

from llmrl import rewards

RIGHT = [{"role": "assistant", "content": r"2+2=4. \boxed{4}"}]
WRONG = [{"role": "assistant", "content": r"I guess \boxed{5}"}]
OPEN = [{"role": "assistant", "content": "2+2=4."}]
EMPTY = [{"role": "assistant", "content": ""}]
OTHERS = {"prompts": [], "completion_ids": [], "trainer_state": None}


def test_accuracy_compares_with_the_solution():
    """A completion with the right final answer gets 1, any other 0."""
    completions = [RIGHT, WRONG, OPEN, EMPTY]
    assert [1.0, 0.0, 0.0, 0.0] == rewards.accuracy(completions=completions, solution=["4"] * 4, **OTHERS)


def test_accuracy_judges_nothing_without_a_solution():
    """Where the data has no solution there is no judgement."""
    assert [None, 1.0] == rewards.accuracy(completions=[RIGHT, RIGHT], solution=[None, "4"], **OTHERS)


def test_accuracy_refuses_columns_of_another_length():
    """A solution too few is an error and not a shifted judgement."""
    with pytest.raises(ValueError, match="shorter"):
        rewards.accuracy(completions=[RIGHT, WRONG], solution=["4"], **OTHERS)


def test_ends_boxed_judges_the_format():
    """A completion that ends with its boxed answer gets 1, right or wrong, and any other 0."""
    assert [1.0, 1.0, 0.0, 0.0] == rewards.ends_boxed(completions=[RIGHT, WRONG, OPEN, EMPTY], **OTHERS)
