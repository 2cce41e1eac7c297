"""The further columns of prompts, which rewards are given by their names."""

from __future__ import annotations

import json
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from llmrl.data.shaper import Columns
from llmrl.data.turns import encodable
from llmrl.errors import DefectiveError

# What a reward is given by these names is TRL's or ours: no further column can be handed on as one of them.
TAKEN = {"prompt", "prompts", "completions", "completion_ids", "solution", "marks", "max_completion_length"}
TAKEN |= {"trainer_state", "log_extra", "log_metric", "environments"}


def extra_of(row: Columns) -> tuple[dict[str, str], dict[str, str]]:
    """A prompt's further columns, each as JSON, and why others are not handed on. Raises DefectiveError."""
    found, left_out = {}, {}
    for column in row.row:
        if column in row.read and column not in row.in_part:
            continue
        if column in TAKEN:
            left_out[column] = "a reward is given something else by this name"
            continue
        try:
            found[column] = json.dumps(row.row[column], ensure_ascii=False, default=as_text)
        except (TypeError, DefectiveError) as error:
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
    said = {column: text for column, text in found.items() if text not in ("null", "NaN")}
    pairs = [f"{json.dumps(column, ensure_ascii=False)}: {text}" for column, text in said.items()]
    return encodable(f"{{{', '.join(pairs)}}}") if pairs else None
