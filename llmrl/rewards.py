r"""GRPO's rewards: plain functions from completions to a list of scores. Yours go here too.

A public function of this file is a reward of the same name in `grpo.rewards` of params.yaml, with its weight. TRL
calls it with keyword arguments: `prompts` and `completions` (each a list of turns), `completion_ids` (token ids) and
every further column of the data, one entry a completion; take what is needed and `**_` for the rest. It returns one
number a completion, or None where it cannot judge.
https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function

>>> ends_boxed([[{"role": "assistant", "content": r"2+2=4. \boxed{4}"}], [{"role": "assistant", "content": "4"}]])
[1.0, 0.0]
"""

from __future__ import annotations

from typing import Any

from llmrl.answers import judging

Completions = list[list[dict[str, str]]]


def accuracy(completions: Completions, solution: list[str | None], **_: Any) -> list[float | None]:
    """1 where the answer is right, 0 where not; None where the data has no solution."""
    return [
        None if gold is None else float(judging.right(completion[-1]["content"], gold))
        for completion, gold in zip(completions, solution, strict=True)
    ]


def ends_boxed(completions: Completions, **_: Any) -> list[float]:
    r"""1 where the completion ends with its answer in \boxed{}, the asked format; 0 where not."""
    return [float(judging.ends_boxed(completion[-1]["content"])) for completion in completions]
