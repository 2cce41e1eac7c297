"""Reward functions as GRPO calls them: with each further column of the data by its name. What one raises, or gives that
is no score, stops the stage, naming the row.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import numbers
import statistics
import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from llmrl.answers.generation import repetition
from llmrl.errors import InputError
from llmrl.training import processes

Reward = Callable[..., Any]


def checked(function: Reward, extra_columns: Sequence[str], **also: Any) -> Reward:
    """A reward that stops the stage where it raises, or does not give one finite number, or None, a completion.

    It is given `also` as it stands, beside what TRL gives and the further columns of the data, `extra_columns`. TRL
    logs `signal/<name>`, the share of groups in which its scores differ; of one that takes a column of the data, a
    solution say, and so judges by it, the same as `judged/<name>`; and `repetition`, the mean over completions.
    """
    judges = not inspect.signature(function).parameters.keys().isdisjoint(("solution", *extra_columns))

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
        if log := given.get("log_metric"):
            # A group may be of several processes, each of which has all of them in the same order.
            whole = processes.gathered([*zip(given["prompts"], scores, strict=True)])
            share = share_that_differs([one for part in whole for one in part])
            for kind in ("signal", "judged") if judges else ("signal",):
                log(f"{kind}/{function.__name__}", share)
            log("repetition", statistics.mean(map(repetition, given["completion_ids"])))  # the same of each function
        return list(scores)

    return judge


def share_that_differs(scored: Sequence[tuple[Any, float | None]]) -> float:
    """The share of groups whose scores differ: completions of one prompt, which stand beside each other. One of which
    none could be judged is without.

    >>> share_that_differs([("1+1?", 1.0), ("1+1?", 0.0), ("2+2?", None), ("2+2?", None)])
    0.5
    """
    groups = groupby(scored, key=lambda one: one[0])
    differs = [len({float(score) for _, score in group if score is not None}) > 1 for _, group in groups]
    return statistics.mean(map(float, differs))


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
