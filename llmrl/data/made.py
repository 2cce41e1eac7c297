"""Rows that a task of reasoning-gym makes, from a seed, as they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count
from typing import Any

from llmrl.answers import final, gym
from llmrl.errors import InputError

FOLLOWING = 50  # entries, among whose answers a wrong one is looked for


def rows(task: str, options: dict[str, Any], data_set: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yields entries of a task, without end: its `question` and `answer`; of a pair also the answer of another entry
    that is `wrong` for this one; of a prompt the `solution`, where the answer is a short one, and by what the entry is
    made again, `reasoning_gym`. Which these are depends on the data set and the seed alone.

    Raises InputError where there is no answer to train on, as the task has none of its own.
    """
    start = int.from_bytes(hashlib.sha256(f"{data_set} {seed}".encode()).digest()[:4]) // 2
    for index in count():
        made: dict[str, Any] = {"task": task, "options": options, "seed": start, "index": index}
        entry = gym.entry(**made)
        answer = entry["answer"]
        if answer is None and data_set != "prompts" and index == 0:
            raise InputError(
                f"data.{data_set} in params.yaml: {gym.NAME}:{task} has no answers of its own, which tells only those "
                "that are right: it is for data.prompts."
            )
        row: dict[str, Any] = {"question": entry["question"], "answer": answer}
        if data_set == "preference":
            row["wrong"] = wrong(made)
        if data_set == "prompts":
            row["solution"] = answer if answer and final.gold(answer) else None
            row[gym.NAME] = made | {"digest": entry["digest"]}
        yield row


def wrong(made: dict[str, Any]) -> str | None:
    """The first answer of the entries that follow to which the scorer does not give all points."""
    for index in range(made["index"] + 1, made["index"] + 1 + FOLLOWING):
        answer = gym.entry(**made | {"index": index})["answer"]
        if answer and gym.score(**made, answer=answer)[0] < gym.FULL:
            return str(answer)
    return None
