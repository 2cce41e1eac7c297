"""What a reward may return: anything else stops the training, with step, reward and row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llmrl.errors import InputError
from llmrl.training.reward_functions import checked

GIVEN = {
    "prompts": [[{"role": "user", "content": f"{number}?"}] for number in range(3)],
    "completions": [[{"role": "assistant", "content": text}] for text in ("one", "two", "three")],
    "solution": ["1", "2", None],
    "trainer_state": SimpleNamespace(global_step=6),
}


def mine(scores):
    """A reward that gives these scores."""

    def reward(**_):
        return scores

    return reward


@pytest.mark.parametrize("scores", [[1, 0.5, None], [True, False, 1], (1.0, 2.0, 3.0)])
def test_good_scores_pass(scores):
    """Numbers and None, as they are."""
    assert list(scores) == checked(mine(scores))(**GIVEN)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0, 2.0], "returned 2 scores for 3 completions"),
        (1.0, "returned no list for 3 completions"),
        (None, "returned no list"),
        ([1.0, float("nan"), 0.0], "returned nan, in row 1 (prompt '1?', completion 'two'); a finite number is needed"),
        ([float("inf"), 0.0, 0.0], "returned inf, in row 0"),
        ([1.0, 1.0, "good"], "returned 'good', in row 2 (prompt '2?', completion 'three')"),
    ],
)
def test_bad_scores_are_named(scores, said):
    """With the step, the reward, the row and the value."""
    with pytest.raises(InputError) as caught:
        checked(mine(scores))(**GIVEN)
    assert str(caught.value).startswith("grpo: step 7: the reward reward ")
    assert said in str(caught.value)


def test_a_reward_that_raises_is_named():
    """With its file and line, and the first row that raises."""

    def length(solution, **_):
        return [len(gold) for gold in solution]

    with pytest.raises(InputError) as caught:
        checked(length)(**GIVEN)
    assert "grpo: step 7: the reward length raised TypeError: " in str(caught.value)
    assert "(test_reward_functions.py:" in str(caught.value)
    assert "in row 2 (prompt '2?', completion 'three')" in str(caught.value)
