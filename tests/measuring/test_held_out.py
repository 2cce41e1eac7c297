"""The figures of answers to the held-out prompts."""

from __future__ import annotations

import pytest

from llmrl.measuring.held_out import summary


def test_the_figures_of_a_table_of_answers() -> None:
    """Accuracy and its interval are over the prompts that have a solution; ends and lengths over all."""
    row = {"solution": "4", "ended": 1.0, "tokens": 2}
    rows = [
        row | {"greedy_right": 1.0, "sampled_right": 0.5},
        row | {"greedy_right": 0.0, "sampled_right": 0.5, "tokens": 4},
        {"solution": None, "greedy_right": None, "sampled_right": None, "ended": 0.4, "tokens": 6},
    ]
    expected = {"greedy": 0.5, "greedy_ci95": 0.98, "sampled": 0.5, "sampled_ci95": 0.0, "n": 2}
    assert expected | {"ended": 0.8, "tokens": 4} == pytest.approx(summary(rows))


def test_without_solutions_there_is_no_accuracy() -> None:
    """Prompts without a solution are generated for and not judged."""
    rows = [{"solution": None, "greedy_right": None, "sampled_right": None, "ended": 1.0, "tokens": 3}]
    assert {"n": 0, "ended": 1.0, "tokens": 3} == summary(rows)
