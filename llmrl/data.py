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

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMAS = {
    "sft": pa.schema([("messages", MESSAGES)]),
    "preference": pa.schema([("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES)]),
    "prompts": pa.schema([("prompt", MESSAGES), ("solution", pa.string())]),
}
# What a source must have, any one of these, to become the data set.
COLUMNS = {
    "sft": ("messages", "prompt + completion"),
    "preference": ("prompt + chosen + rejected", "chosen + rejected with the prompt inside"),
    "prompts": ("prompt", "prompt + solution"),
}


class DefectiveError(Exception):
    """A row that cannot be trained on; its message is the reason it is counted under."""


# --- one shape -------------------------------------------------------------------------------------------------------


def conversation(value: Any, role: str) -> list[Message]:
    """A plain text as one turn of `role`, or a list of turns as it stands but for other columns of a turn."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):  # CSV has no lists: they come as JSON
        value = json.loads(value)
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list) or not all(isinstance(turn, dict) and "role" in turn for turn in value):
        raise DefectiveError("not a text or a list of turns with role and content")
    turns = [{"role": turn["role"], "content": turn.get("content")} for turn in value]
    if not turns or not all(isinstance(t["content"], str) and t["content"].strip() for t in turns):
        raise DefectiveError("empty")
    return turns


def sft_row(row: Row) -> Row:
    """`messages`, or `prompt` and `completion`."""
    if row.get("messages") is not None:
        messages = conversation(row["messages"], "user")
    else:
        messages = conversation(row["prompt"], "user") + conversation(row["completion"], "assistant")
    if messages[-1]["role"] != "assistant":
        raise DefectiveError("does not end with the assistant")
    if len(messages) < 2:
        raise DefectiveError("nothing is asked")
    return {"messages": messages}


def preference_row(row: Row) -> Row:
    """`chosen` and `rejected`, with the `prompt` beside them or inside both."""
    if row.get("prompt") is not None:
        prompt = conversation(row["prompt"], "user")
        chosen, rejected = conversation(row["chosen"], "assistant"), conversation(row["rejected"], "assistant")
    else:
        prompt, chosen, rejected = split_prompt(row["chosen"], row["rejected"])
    if chosen == rejected:
        raise DefectiveError("chosen equal to rejected")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise DefectiveError("does not end with the assistant")
    if prompt[-1]["role"] == "assistant":
        raise DefectiveError("nothing is asked")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def split_prompt(chosen: Any, rejected: Any) -> tuple[list[Message], list[Message], list[Message]]:
    """The turns both sides begin with, and the rest of each; of plain texts, the common beginning up to a space."""
    if isinstance(chosen, str) and isinstance(rejected, str) and not chosen.lstrip().startswith("[{"):
        same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
        same = chosen.rfind(" ", 0, min(len(chosen), len(rejected)) if same is None else same) + 1
        texts = (chosen[:same], "user"), (chosen[same:], "assistant"), (rejected[same:], "assistant")
        prompt, one, other = (conversation(text, role) for text, role in texts)
        return prompt, one, other
    one, other = conversation(chosen, "assistant"), conversation(rejected, "assistant")
    same = 0
    while same < min(len(one), len(other)) - 1 and one[same] == other[same]:
        same += 1
    if same == 0:
        raise DefectiveError("chosen and rejected begin with no common prompt")
    return one[:same], one[same:], other[same:]


def prompts_row(row: Row) -> Row:
    """`prompt`, with a checkable `solution` where there is one."""
    prompt = conversation(row["prompt"], "user")
    if prompt[-1]["role"] == "assistant":
        raise DefectiveError("nothing is asked")
    solution = row.get("solution")
    if solution is not None and not str(solution).strip():
        raise DefectiveError("empty")
    return {"prompt": prompt, "solution": None if solution is None else str(solution)}


SHAPES: dict[str, Callable[[Row], Row]] = {"sft": sft_row, "preference": preference_row, "prompts": prompts_row}


# --- splits ----------------------------------------------------------------------------------------------------------


def asked(row: Row) -> str:
    """What identifies a row's prompt in all three sets: the system turn and the first user turn."""
    turns = row.get("prompt") or row["messages"]
    opening = []
    for turn in turns:
        opening.append((turn["role"], turn["content"]))
        if turn["role"] == "user":
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
        kept = rows if limit is None else rows.filter(lambda row: length(row, tokenizer) <= limit)
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
        raise InputError(f"{path} cannot be read: {error}. `dvc repro --force --downstream` makes it anew.") from None


def length(row: Row, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a row as the model will see it: for a preference, of its longer side."""
    start = row.get("prompt") or []
    ends = [row[name] for name in ("chosen", "rejected", "messages") if row.get(name)]
    if not ends:
        return len(tokenizer.apply_chat_template(start, add_generation_prompt=True, return_dict=False))
    return max(len(tokenizer.apply_chat_template(start + end, return_dict=False)) for end in ends)
