"""The three data sets: their one shape, the side of the split a row falls on, and reading what `prepare` wrote.

    sft          {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    preference   {"prompt": [a user turn], "chosen": [an assistant turn], "rejected": [an assistant turn]}
    prompts      {"prompt": [a user turn], "solution": "4"}

These are TRL's conversational formats (https://huggingface.co/docs/trl/dataset_formats). Any of its formats, plain or
conversational, is made one of them here, a row at a time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
Row = dict[str, Any]
Columns = dict[str, list[Any]]  # several rows

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMAS = {
    "sft": pa.schema([("messages", MESSAGES)]),
    "preference": pa.schema([("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES)]),
    "prompts": pa.schema([("prompt", MESSAGES), ("solution", pa.string())]),
}
# The columns a source must have, all of any one of these, to become the data set.
FORMATS = {
    "sft": (("messages",), ("prompt", "completion")),
    "preference": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "prompts": (("prompt",),),
}
ROLES = ("system", "user", "assistant", "tool")
TURNS = re.compile(r"""\s*\[\s*\{\s*["'](role|content)["']""")  # how a list of turns begins that is written as text


class DefectiveError(Exception):
    """A row that cannot be trained on; its message is the reason it is counted under."""


# --- one shape -------------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """A text with something in it. Raises DefectiveError."""
    if value is None:
        raise DefectiveError("empty")
    if not isinstance(value, str):
        raise DefectiveError("not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DefectiveError("half a Unicode character") from None
    if not value.strip():
        raise DefectiveError("empty")
    return value


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
        return [{"role": role, "content": text(value)}]
    if not value:
        raise DefectiveError("empty")
    return [turn(one) for one in value]


def turn(value: Any) -> Message:
    """One turn, without its further columns. Raises DefectiveError."""
    if not isinstance(value, dict) or "role" not in value:
        raise DefectiveError("turns without role and content")
    if value["role"] not in ROLES:
        raise DefectiveError(f"a role that is none of {', '.join(ROLES)}")
    return {"role": value["role"], "content": text(value.get("content"))}


def sft_row(row: Row) -> Row:
    """`messages`, or `prompt` and `completion`."""
    if row.get("messages") is None and row.keys() >= {"prompt", "completion"}:
        messages = conversation(row["prompt"], "user") + conversation(row["completion"], "assistant")
    else:
        messages = conversation(row["messages"], "user")
    require_end(messages)
    if not any(message["role"] == "user" for message in messages):
        raise DefectiveError("nothing is asked")
    return {"messages": messages}


def preference_row(row: Row) -> Row:
    """`chosen` and `rejected`, with the `prompt` beside them or inside both."""
    chosen, rejected = row["chosen"], row["rejected"]
    if row.get("prompt") is None:
        prompt, chosen, rejected = split_prompt(chosen, rejected)
    else:
        prompt = conversation(row["prompt"], "user")
        chosen, rejected = conversation(chosen, "assistant"), conversation(rejected, "assistant")
        if chosen[0]["role"] != "assistant":  # some data sets have the prompt beside the answers and inside them too
            prompt, chosen, rejected = split_turns(chosen, rejected)
    if chosen == rejected:
        raise DefectiveError("chosen equal to rejected")
    require_question(prompt)
    require_end(chosen)
    require_end(rejected)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def split_prompt(chosen: Any, rejected: Any) -> tuple[list[Message], list[Message], list[Message]]:
    """What both sides begin with, and the rest of each, which is a turn, or of plain texts a word, at least."""
    one, other = conversation(chosen, "assistant"), conversation(rejected, "assistant")
    if any(isinstance(side, list) or TURNS.match(side) for side in (chosen, rejected)):
        return split_turns(one, other)
    shorter = min(len(chosen.rstrip()), len(rejected.rstrip()))
    same = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter)
    words = re.findall(r"\S*\s+", chosen[:same])  # whole ones: "… 42" and "… 43" differ in 42 and 43, not in 2 and 3
    if not (prompt := "".join(words)).strip():
        raise DefectiveError("chosen and rejected begin with no common prompt")
    answers = [conversation(answer[len(prompt) :], "assistant") for answer in (chosen, rejected)]
    return conversation(prompt.rstrip(), "user"), answers[0], answers[1]


def split_turns(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """The turns both sides begin with, and the rest of each, which is one turn at least."""
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    if same == 0:
        raise DefectiveError("chosen and rejected begin with no common prompt")
    return chosen[:same], chosen[same:], rejected[same:]


def prompts_row(row: Row) -> Row:
    """`prompt`, with a checkable `solution` where there is one."""
    prompt = conversation(row["prompt"], "user")
    require_question(prompt)
    solution = row.get("solution")
    if isinstance(solution, bool | int | float):
        solution = str(solution)
    return {"prompt": prompt, "solution": None if solution is None else text(solution)}


def require_question(prompt: list[Message]) -> None:
    if prompt[-1]["role"] not in ("user", "tool"):
        raise DefectiveError("nothing is asked")


def require_end(messages: list[Message]) -> None:
    if messages[-1]["role"] != "assistant":
        raise DefectiveError("does not end with the assistant")


SHAPES: dict[str, Callable[[Row], Row]] = {"sft": sft_row, "preference": preference_row, "prompts": prompts_row}


def shape(name: str, row: Row) -> Row:
    """A row of any of the data set's FORMATS in its one shape.

    Raises InputError where columns are missing, DefectiveError where the row cannot be trained on.
    """
    if not any(row.keys() >= set(columns) for columns in FORMATS[name]):
        wanted = " or ".join(" + ".join(columns) for columns in FORMATS[name])
        raise InputError(
            f"the row has the columns {', '.join(row)}; data/{name} needs {wanted}. "
            f"data.{name}.columns in params.yaml maps these names to yours."
        )
    return SHAPES[name](row)


# --- splits ----------------------------------------------------------------------------------------------------------


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


# --- reading what prepare wrote --------------------------------------------------------------------------------------


def load(folder: Path, tokenizer: PreTrainedTokenizerBase, limit: int | None) -> tuple[Dataset, Dataset, int]:
    """The training and the held-out rows of a data set, and the number of rows left out for their length.

    A row longer than `limit` tokens is left out, as a cut conversation teaches not to end. Raises InputError where
    the folder is not what `prepare` makes, or nothing is left.
    """
    splits, too_long = [], 0
    for side in ("train", "eval"):
        rows = read(folder / f"{side}.parquet")
        kept = rows
        if limit is not None:
            kept = rows.filter(lambda some: [tokens <= limit for tokens in lengths(some, tokenizer)], batched=True)
        if not len(kept):
            raise InputError(
                f"{folder}/{side}.parquet: none of its {len(rows)} rows is at most {limit} tokens long. "
                f"Raise the limit in params.yaml (max_length; for grpo max_prompt_length)."
            )
        splits.append(kept)
        too_long += len(rows) - len(kept)
    return splits[0], splits[1], too_long


def read(path: Path) -> Dataset:
    """The rows of a parquet file, in memory. Raises InputError where it cannot be read."""
    from datasets import Dataset

    try:
        return Dataset(pq.read_table(path))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}. `dvc repro` makes it anew.") from None


def lengths(rows: Columns, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of each row as the model will see it: for a preference, of its longer side."""
    ends = [rows[name] for name in ("chosen", "rejected", "messages") if name in rows]
    if not ends:
        return counts(rows["prompt"], tokenizer, add_generation_prompt=True)
    starts = rows.get("prompt") or [[] for _ in ends[0]]
    sides = [[start + end for start, end in zip(starts, side, strict=True)] for side in ends]
    return [max(row) for row in zip(*(counts(side, tokenizer) for side in sides), strict=True)]


def counts(conversations: list[list[Message]], tokenizer: PreTrainedTokenizerBase, **options: Any) -> list[int]:
    """Tokens of each conversation. Raises InputError where the model's chat template refuses one."""
    from jinja2 import TemplateError

    try:
        return [len(tokens) for tokens in tokenizer.apply_chat_template(conversations, return_dict=False, **options)]
    except TemplateError as error:
        raise InputError(
            f"the model's chat template refuses a conversation of the data: {error}. "
            "Leave such turns out of the data, or change chat_template.jinja in the model's folder."
        ) from None
