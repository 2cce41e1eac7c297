"""The rows a stage is trained on and evaluated with: those of data/<name>/ that are short enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.errors import InputError
from llmrl.graph import STAGES

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from llmrl.training.settings import Settings


def trained_on(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, int]:
    """The rows a stage is trained on, and the number of those left out for their length.

    Raises InputError where what judges them needs solutions, and there is none.
    """
    rows, too_long = short_enough(settings, tokenizer, "train")
    if STAGES[settings.stage].generates and not any(rows["solution"]):
        needs = {"rewards.accuracy": "accuracy" in settings.own.rewards, "pass_rate": settings.own.pass_rate}
        for asked in [name for name in needs if needs[name]]:
            raise InputError(f"grpo.{asked} in params.yaml needs solutions, and no row of data/prompts has one.")
    return rows, too_long


def evaluated_on(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, int]:
    """The held-out rows of TRL's evaluations, in whole batches, and the number of those left out for their length.

    TRL takes the mean over batches, so a smaller last one would weigh too much. Of fewer rows than a batch, all.
    """
    rows, too_long = short_enough(settings, tokenizer, "eval")
    generations = 1
    if STAGES[settings.stage].generates:
        generations = settings.option("num_generations_eval") or settings.option("num_generations")
    batch = max(1, settings.option("per_device_eval_batch_size") * settings.processes // generations)
    count = min(len(rows), settings.own.eval_rows or len(rows))
    return rows.select(range(count - count % batch or count)), too_long


def short_enough(settings: Settings, tokenizer: PreTrainedTokenizerBase, side: str) -> tuple[Dataset, int]:
    """The rows of a side of the split, but those longer than the limit: a cut conversation teaches not to end. And
    the number of these.

    Raises InputError where the folder is not what `prepare` makes, or nothing is left.
    """
    stage = STAGES[settings.stage]
    limit = settings.own.max_prompt_length if stage.generates else settings.option("max_length")
    path = Path("data", stage.data, f"{side}.parquet")
    rows = kept = read(path)
    if limit is not None:
        kept = rows.filter(lambda some: [tokens <= limit for tokens in lengths(some, tokenizer)], batched=True)
    if not len(kept):
        raise InputError(
            f"{path}: none of its {len(rows)} rows is at most {limit} tokens long. "
            f"Raise the limit in params.yaml (max_length; for grpo max_prompt_length)."
        )
    return kept, len(rows) - len(kept)


def read(path: Path) -> Dataset:
    """The rows of a parquet file, in memory. Raises InputError where it cannot be read."""
    from datasets import Dataset

    try:
        return Dataset(pq.read_table(path))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def extra_columns() -> list[str]:
    """The names of the further columns of data/prompts that rewards are given, be they of held-out rows alone. None
    where nothing is prepared. Raises InputError where it cannot be read.
    """
    path = Path("data", "prompts", "train.parquet")
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except FileNotFoundError:
        return []
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None
    found: list[str] = json.loads(metadata.get(b"extra_columns", "[]"))
    return found


def unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read: {error}. `dvc repro` makes it anew.")


def lengths(rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of each row as the model will see it: for a preference, of its longer side. Raises InputError where the
    model's chat template refuses one.
    """
    from jinja2 import TemplateError

    ends = [rows[name] for name in ("chosen", "rejected", "messages") if name in rows]
    starts = rows.get("prompt") or [[] for _ in ends[0]]
    sides = [[start + end for start, end in zip(starts, side, strict=True)] for side in ends] or [starts]
    asked = {"add_generation_prompt": not ends, "return_dict": False}
    try:
        tokens = [tokenizer.apply_chat_template(side, **asked) for side in sides]
    except TemplateError as error:
        raise InputError(
            f"the model's chat template refuses a conversation of the data: {error}. "
            "Leave such turns out of the data, or change chat_template.jinja in the model's folder."
        ) from None
    return [max(map(len, row)) for row in zip(*tokens, strict=True)]
