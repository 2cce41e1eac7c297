r"""GRPO's rewards: plain functions from completions to a list of scores. Yours go here too.

A public function of this file is a reward of the same name in `grpo.rewards` of params.yaml, with its weight. It is
called with keyword arguments; take what is needed and `**_` for the rest:

    prompts, completions     each a list of turns
    completion_ids           token ids
    solution, …              every further column of the data, None where a row has none
    marks                    how a final answer is marked: answers.marks
    max_completion_length    tokens

All but the last two are lists of one entry a completion. It returns one number a completion, or None where it cannot
judge: so each task of a mixed data set is judged by its own reward. `final`, `gold` and `right` of
llmrl.answers.judging find and compare answers.
https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function

>>> ends_marked([[{"role": "assistant", "content": r"2+2=4. \boxed{4}"}], [{"role": "assistant", "content": "4"}]])
[1.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrl.answers import judging, tasks
from llmrl.answers.judging import KINDS

Completions = list[list[dict[str, str]]]
OVERLONG = 0.2  # of the longest completion: where the penalty begins, from its end; DAPO's 4,096 of 20,480 tokens


def accuracy(
    completions: Completions, solution: list[str | None], marks: Sequence[str] = KINDS, **_: Any
) -> list[float | None]:
    """1 where the answer is right, 0 where not; None where the data has no solution."""
    return [
        None if gold is None else float(judging.right(completion[-1]["content"], gold, marks))
        for completion, gold in zip(completions, solution, strict=True)
    ]


def ends_marked(completions: Completions, marks: Sequence[str] = KINDS, **_: Any) -> list[float]:
    r"""The format: 1 where the completion ends with its answer, marked as asked (\boxed{}, …); 0 where not."""
    return [float(judging.ends_marked(completion[-1]["content"], marks)) for completion in completions]


def reasoning_gym(
    completions: Completions, reasoning_gym: list[Any], marks: Sequence[str] = KINDS, **_: Any
) -> list[float | None]:
    """What the scorer of its task gives the final answer, from 0 to 1, for some tasks with steps between; None where no
    task of reasoning-gym made the row.
    """
    return [
        None if made is None else tasks.score(completion[-1]["content"], made, marks)
        for completion, made in zip(completions, map(tasks.entry_of, reasoning_gym), strict=True)
    ]


def soft_overlong_punishment(completion_ids: list[list[int]], max_completion_length: int, **_: Any) -> list[float]:
    """0 for a completion that leaves a fifth of the tokens it may have, falling to -1 where it has all of them.

    As DAPO has it, https://arxiv.org/abs/2503.14476, equation 13.
    """
    from trl.rewards import get_soft_overlong_punishment

    cache = max(1, round(OVERLONG * max_completion_length))
    return get_soft_overlong_punishment(max_completion_length, cache)(completion_ids)
