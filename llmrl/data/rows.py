"""Rows of the three data sets: their one shape, and the side of the split that each falls on.

    sft          {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    preference   {"prompt": [a user turn], "chosen": [an assistant turn], "rejected": [an assistant turn]}
    prompts      {"prompt": [a user turn], "solution": "4", "extra": '{"task": "sum", "tests": [[2, 2]]}'}

These are TRL's conversational formats (https://huggingface.co/docs/trl/dataset_formats). Any of its formats, plain or
conversational, is made one of them here, a row at a time. `extra` are the further columns of a prompt's source, for
rewards, as one JSON map: the sources of a mixture have different ones, rows of JSON Lines too, and Parquet would give
every map of a column the keys of all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from llmrl.answers import final
from llmrl.errors import InputError

Message = dict[str, str]
Row = dict[str, Any]

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMAS = {
    "sft": pa.schema([("messages", MESSAGES)]),
    "preference": pa.schema([("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES)]),
    "prompts": pa.schema([("prompt", MESSAGES), ("solution", pa.string()), ("extra", pa.string())]),
}
# The columns a source must have, all of any one of these, to become the data set.
FORMATS = {
    "sft": (("messages",), ("prompt", "completion")),
    "preference": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "prompts": (("prompt",),),
}
# What a reward is given by these names is TRL's or ours: no further column can be handed on as one of them.
TAKEN = {"prompt", "prompts", "completions", "completion_ids", "solution", "marks", "max_completion_length"}
TAKEN |= {"trainer_state", "log_extra", "log_metric", "environments"}
ROLES = ("system", "user", "assistant", "tool")
TURNS = re.compile(r"""\s*\[\s*\{\s*["'](role|content)["']""")  # how a list of turns begins that is written as text


class DefectiveError(Exception):
    """A row that cannot be trained on; its message is the reason it is counted under."""


def some_text(value: Any) -> str:
    """A text with something in it. Raises DefectiveError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DefectiveError("empty")
    if not isinstance(value, str):
        raise DefectiveError("not a text")
    return encodable(value)


def encodable(text: str) -> str:
    """A text that can be written as UTF-8. Raises DefectiveError."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DefectiveError("half a Unicode character") from None
    return text


def conversation(value: Any, role: str) -> list[Message]:
    """A plain text as one turn of `role`; a list of turns, also written as JSON, without a turn's further columns.

    >>> conversation("2 + 2?", "user")
    [{'role': 'user', 'content': '2 + 2?'}]
    """
    if isinstance(value, str) and TURNS.match(value):  # a cell of a CSV file holds no list
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DefectiveError("a list of turns that is not JSON") from None
    if not isinstance(value, list):
        return [{"role": role, "content": some_text(value)}]
    if not value:
        raise DefectiveError("empty")
    turns = []
    for turn in value:
        if not isinstance(turn, dict) or "role" not in turn:
            raise DefectiveError("turns without role and content")
        if turn["role"] not in ROLES:
            raise DefectiveError(f"a role that is none of {', '.join(ROLES)}")
        turns.append({"role": turn["role"], "content": some_text(turn.get("content"))})
    return turns


def sft_row(row: Row) -> Row:
    """`messages`, or `prompt` and `completion`."""
    if row.get("messages") is None and row.keys() >= {"prompt", "completion"}:
        messages = conversation(row["prompt"], "user") + conversation(row["completion"], "assistant")
    else:
        messages = conversation(row["messages"], "user")
    require_answer(messages)
    if not any(message["role"] == "user" for message in messages):
        raise DefectiveError("nothing is asked")
    return {"messages": messages}


def preference_row(row: Row) -> Row:
    """`chosen` and `rejected`, with the `prompt` beside them or inside both."""
    prompt = [] if row.get("prompt") is None else conversation(row["prompt"], "user")
    chosen, rejected = conversation(row["chosen"], "assistant"), conversation(row["rejected"], "assistant")
    plain = (chosen[0]["content"], rejected[0]["content"]) == (row["chosen"], row["rejected"])
    if plain and not prompt:
        same = alike(row["chosen"].rstrip(), row["rejected"].rstrip())
        # Whole ones, and one is left at least: "… 42" and "… 43" differ in 42 and 43, not in 2 and 3.
        words = "".join(re.findall(r"\S*\s+", row["chosen"][:same]))
        prompt = conversation(words.rstrip(), "user") if words.strip() else []
        chosen, rejected = (conversation(row[side][len(words) :], "assistant") for side in ("chosen", "rejected"))
    elif not prompt or chosen[0]["role"] != "assistant":  # some have it beside the answers and inside them too
        same = alike(chosen[:-1], rejected[:-1])  # one turn is left at least
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    if not prompt:
        raise DefectiveError("chosen and rejected begin with no common prompt")
    if chosen == rejected:
        raise DefectiveError("chosen equal to rejected")
    require_question(prompt)
    require_answer(chosen)
    require_answer(rejected)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def alike(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The number of items with which both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def prompts_row(row: Row) -> Row:
    """`prompt`, with a checkable `solution` where there is one; `extra` is added to it."""
    prompt = conversation(row["prompt"], "user")
    require_question(prompt)
    solution = row.get("solution")
    if isinstance(solution, bool | int | float):
        solution = str(solution)
    if solution is not None and final.gold(some_text(solution)) is None:
        raise DefectiveError("a solution that is no single short answer")
    return {"prompt": prompt, "solution": solution}


def require_question(prompt: list[Message]) -> None:
    if prompt[-1]["role"] not in ("user", "tool"):
        raise DefectiveError("nothing is asked")


def require_answer(messages: list[Message]) -> None:
    if messages[-1]["role"] != "assistant":
        raise DefectiveError("does not end with the assistant")


SHAPES: dict[str, Callable[[Row], Row]] = {"sft": sft_row, "preference": preference_row, "prompts": prompts_row}


def shape(name: str, row: Row, columns: dict[str, str]) -> Row:
    """A row of any of the data set's FORMATS in its one shape; `columns` maps our names of columns to its own.

    Raises InputError where columns are missing, DefectiveError where the row cannot be trained on.
    """
    if missing := [theirs for theirs in columns.values() if theirs not in row]:
        raise InputError(
            f"data.{name}.columns in params.yaml names {missing[0]!r}, which the row does not have; "
            f"it has {', '.join(row)}."
        )
    row = row | {ours: row[theirs] for ours, theirs in columns.items()}
    if not any(row.keys() >= set(needed) for needed in FORMATS[name]):
        wanted = " or ".join(" + ".join(needed) for needed in FORMATS[name])
        raise InputError(
            f"the row has the columns {', '.join(row)}; data/{name} needs {wanted}. "
            f"data.{name}.columns in params.yaml maps these names to yours."
        )
    return SHAPES[name](row)


def extra_of(row: Row, columns: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A prompt's further columns, each as JSON, and why others are not handed on. Raises DefectiveError."""
    found, left_out = {}, {}
    used = {columns.get(ours, ours) for ours in ("prompt", "solution")}
    for column in row:
        if column in used:
            continue
        if column in TAKEN:
            left_out[column] = "a reward is given something else by this name"
            continue
        try:
            found[column] = json.dumps(row[column], ensure_ascii=False, default=as_text)
        except TypeError as error:
            left_out[column] = str(error)
        except RecursionError:
            raise DefectiveError("nested too deeply") from None
    return found, left_out


def as_text(value: Any) -> str:
    """A value of Parquet that JSON has not, as text. Raises TypeError where no text says it, as with bytes."""
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} are no JSON")


def as_map(found: dict[str, str]) -> str | None:
    """The further columns of a row as one JSON map, those of no value left out. Raises DefectiveError.

    >>> as_map({"task": '"sum"', "tests": "[[2, 2]]", "note": "null"})
    '{"task": "sum", "tests": [[2, 2]]}'
    """
    pairs = [f"{json.dumps(column, ensure_ascii=False)}: {text}" for column, text in found.items() if text != "null"]
    return encodable(f"{{{', '.join(pairs)}}}") if pairs else None


def asked(row: Row) -> str:
    """What identifies a row's prompt in all three sets: all up to the first user turn, however it is spaced."""
    opening = []
    for message in row.get("prompt") or row["messages"]:
        opening.append((message["role"], " ".join(message["content"].split())))
        if message["role"] == "user":
            break
    return json.dumps(opening, ensure_ascii=False)


def held_out(row: Row, salt: str, share: float) -> bool:
    """Whether a row's prompt is held out: one salted hash, the same for the three sets and for any number of rows."""
    digest = hashlib.sha256(f"{salt}\n{asked(row)}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
