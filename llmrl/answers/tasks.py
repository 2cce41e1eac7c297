"""Judging answers to prompts, each by what its row has: the scorer of a task of reasoning-gym, or else a solution.

A row of data/prompts that a task of reasoning-gym made says which in its further columns, `extra`:

    {"reasoning_gym": {"task": "chain_sum", "options": {}, "seed": 1, "index": 0, "digest": "5f3c…"}}

By these the entry is made again, exactly, for its scorer.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from llmrl.answers import gym, judging
from llmrl.answers.final import KINDS, finals
from llmrl.errors import InputError

ENTRY = ("task", "options", "seed", "index")  # which say it


def maker_of(extra: str | None) -> dict[str, Any] | None:
    """The task that made a row, by the row's further columns: `task`, `options`, `seed`, `index` and `digest`."""
    if not extra or f'"{gym.NAME}"' not in extra:
        return None
    return entry_of(json.loads(extra).get(gym.NAME))


def entry_of(said: Any) -> dict[str, Any] | None:
    """What a row says of the task that made it; None of anything else, as data may have a column of that name."""
    return said if isinstance(said, dict) and said.keys() >= {*ENTRY, "digest"} else None


def task_of(extra: str | None) -> str | None:
    """The name of the task that made a row."""
    made = maker_of(extra)
    return None if made is None else str(made["task"])


def score(text: str, made: dict[str, Any], marks: Sequence[str] = KINDS) -> float:
    """What the scorer of a task gives the final answer of a text, from 0 to 1; 0 where there is none, of two different
    ones the lower, of more 0. Raises InputError where the installed package makes another entry.
    """
    given = finals(text, marks)
    if not 0 < len(given) <= judging.MAX_ANSWERS:
        return 0.0
    known = {name: made[name] for name in ENTRY}
    found = [gym.score(**known, answer=answer) for answer in given]
    if any(digest != made["digest"] for _, digest in found):
        raise InputError(
            f"{gym.PACKAGE} {gym.version()} makes another entry {made['index']} of {made['task']} than the one in "
            "data/prompts, which another version made: install that one (data/prompts/source.json), or prepare anew, "
            "`dvc repro --force data/dvc.yaml:prepare@prompts`."
        )
    return min(points for points, _ in found)


def is_right(text: str, solution: str | None, extra: str | None, marks: Sequence[str] = KINDS) -> bool | None:
    """Whether a text answers a prompt rightly: by the scorer of the task that made its row, which must give all points,
    or by its solution; None where it has neither.
    """
    if made := maker_of(extra):
        return score(text, made, marks) >= gym.FULL
    return None if solution is None else judging.right(text, solution, marks)


def share_right(
    texts: Sequence[str], solution: str | None, extra: str | None, marks: Sequence[str] = KINDS
) -> float | None:
    """The share of the answers that are right; None where nothing tells."""
    judged = [is_right(text, solution, extra, marks) for text in texts]
    return None if None in judged else statistics.mean(map(bool, judged))
