"""Reward functions as GRPO calls them: with each further column of the data by its name. What one raises, or gives that
is no score, stops the stage, naming the row.
"""

from __future__ import annotations

import functools
import json
import math
import numbers
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmrl.errors import InputError

Reward = Callable[..., Any]


def checked(function: Reward, extra_columns: Sequence[str], **also: Any) -> Reward:
    """A reward that stops the stage where it raises, or does not give one finite number, or None, a completion.

    It is given `also` as it stands, beside what TRL gives and the further columns of the data, `extra_columns`.
    """

    def called(**given: Any) -> Any:
        return function(**given, **also)

    @functools.wraps(function)  # TRL calls its figures by the name
    def judge(**given: Any) -> list[float | None]:
        given |= columns(given.pop("extra", [None] * len(given["completions"])), extra_columns)
        place = f"grpo: step {given['trainer_state'].global_step + 1}: the reward {function.__name__}"
        try:
            scores = called(**given)
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            rows = (shown(given, row) for row in range(len(given["completions"])) if raises(called, given, row))
            where = next(rows, "for the batch as a whole")
            raise InputError(
                f"{place} raised {type(error).__name__}: {error} ({Path(line.filename).name}:{line.lineno}), {where}."
            ) from error
        scores = scores.tolist() if hasattr(scores, "tolist") else scores  # of an array
        what = f"{len(scores)} scores" if isinstance(scores, list | tuple) else "no list"
        if what != f"{(count := len(given['completions']))} scores":
            raise InputError(f"{place} returned {what} for {count} completions; each needs one score, or None.")
        for row, score in enumerate(scores):
            if score is not None and not (isinstance(score, numbers.Real) and math.isfinite(score)):
                needed = "a finite number is needed, or None where it cannot judge"
                raise InputError(f"{place} returned {score!r}, {shown(given, row)}; {needed}.")
        return list(scores)

    return judge


def columns(extra: list[str | None], extra_columns: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of these names and no others, of the maps that `extra` has of the rows; None where a row has none,
    though all of these be without.

    >>> columns(['{"task": "sum", "id": 7}', None], ["task", "tests"])
    {'task': ['sum', None], 'tests': [None, None]}
    """
    maps = [json.loads(text) if text else {} for text in extra]
    return {name: [one.get(name) for one in maps] for name in extra_columns}


def raises(function: Reward, given: dict[str, Any], row: int) -> bool:
    """Whether a reward also raises for one completion alone."""
    count = len(given["completions"])
    try:
        function(**{k: [v[row]] if isinstance(v, list) and len(v) == count else v for k, v in given.items()})
    except Exception:
        return True
    return False


def shown(given: dict[str, Any], row: int) -> str:
    """A row of the batch in words, counted from 1."""
    prompt, completion = (given[name][row][-1]["content"] for name in ("prompts", "completions"))
    return f"in row {row + 1} of the batch (prompt {prompt[:80]!r}, completion {completion[:80]!r})"
