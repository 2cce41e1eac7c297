"""The rewards of GRPO, called as TRL calls them."""

import pytest

from llmrl import rewards

RIGHT = [{"role": "assistant", "content": r"2+2=4. \boxed{4}"}]
WRONG = [{"role": "assistant", "content": r"I guess \boxed{5}"}]
OPEN = [{"role": "assistant", "content": "2+2=4."}]
HASH = [{"role": "assistant", "content": "2+2=4.\n#### 4"}]
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


def test_ends_marked_judges_the_format():
    """A completion that ends with its answer, marked as asked, gets 1, right or wrong, and any other 0."""
    completions = [RIGHT, WRONG, OPEN, EMPTY, HASH]
    assert [1.0, 1.0, 0.0, 0.0, 1.0] == rewards.ends_marked(completions=completions, **OTHERS)
    assert [1.0, 1.0, 0.0, 0.0, 0.0] == rewards.ends_marked(completions=completions, marks=["boxed"], **OTHERS)


def test_rewards_follow_the_marks():
    """What is no mark by the setting is no answer."""
    both = {"completions": [RIGHT, HASH], "solution": ["4", "4"]}
    assert [1.0, 1.0] == rewards.accuracy(**both, **OTHERS)
    assert [0.0, 1.0] == rewards.accuracy(**both, marks=["hash"], **OTHERS)


def test_overlong_completions_are_punished():
    """DAPO's soft penalty: none up to four fifths of the tokens there may be, then falling to -1 at all of them."""
    ids = [[1] * length for length in (0, 80, 90, 100, 101)]
    given = OTHERS | {"completion_ids": ids}
    assert [0.0, 0.0, -0.5, -1.0, -1.0] == rewards.soft_overlong_punishment(max_completion_length=100, **given)
    assert [0.0, -1.0] == rewards.soft_overlong_punishment(
        max_completion_length=2, **OTHERS | {"completion_ids": [[1], [1, 1]]}
    )
