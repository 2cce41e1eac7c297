"""The rows a stage is trained on and evaluated with: those of data/<name>/ that are short enough, and that the model's
chat template takes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import TemplateError

from llmrl.errors import DefectiveError, InputError
from llmrl.graph import STAGES

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from llmrl.training.settings import Settings

Made = TypeVar("Made")
# Of a whole, and what it is of: what is to be told how many more of it are done.
Counting = Callable[[int, str], Callable[[int], None]]
BATCH = 1000  # rows that are tokenised together
PROMPTS = Path("data/prompts/train.parquet")
# What a template raises, of its own accord or where a row is not what it expects.
REFUSALS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def unseen(*_: object) -> Callable[[int], None]:
    """Counts for nobody."""
    return lambda _: None


@dataclass(frozen=True)
class LeftOut:
    """The rows of a data set that a stage does without, counted; of each reason for which some were refused also where
    the first stands.
    """

    too_long: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.too_long + other.too_long, self.refused + other.refused, other.first | self.first)

    @property
    def counts(self) -> dict[str, int]:
        """By their names among the figures; of rows that were refused where there are any."""
        refused = {"rows_refused": self.refused.total()} if self.refused else {}
        return {"rows_too_long": self.too_long} | refused

    @property
    def reasons(self) -> str:
        """Why rows were refused, in words."""
        return "; ".join(f"{count} {one} (first: {self.first[one]})" for one, count in self.refused.most_common())


def trained_on(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, counting: Counting = unseen
) -> tuple[Dataset, LeftOut]:
    """The rows a stage is trained on, and those left out. Raises InputError where what judges them needs solutions, and
    there is none.
    """
    require_solutions(settings)
    return short_enough(settings, tokenizer, "train", counting)


def require_solutions(settings: Settings) -> None:
    """Raise InputError where completions are judged by solutions, or by tasks of reasoning-gym, and no row to train on
    has one.
    """
    by_scorer = "reasoning_gym" in getattr(settings.own, "rewards", ())
    if not (settings.needs_solutions(scored=False) or by_scorer) or not PROMPTS.exists():
        return
    unsolved, scored = unsolved_and_scored(by_scorer)
    if by_scorer and not scored:
        raise InputError(
            "grpo.rewards.reasoning_gym in params.yaml judges what tasks of reasoning-gym made, and no row of "
            "data/prompts is of one: a source is named as in data.prompts.source: reasoning_gym:chain_sum."
        )
    if unsolved and (needs := settings.needs_solutions(scored)):
        raise InputError(
            f"{' and '.join(needs)} in params.yaml needs solutions, and no row of data/prompts has one: "
            "data.prompts.columns names the column that has them, as in {solution: answer}."
        )


def require_judged(setting: str) -> None:
    """Raise InputError where no row of data/prompts to train on has a solution, or a scorer of reasoning-gym."""
    if PROMPTS.exists() and unsolved_and_scored() == (True, False):
        raise InputError(
            f"{setting} in params.yaml takes prompts that can be judged, and no row of data/prompts has a solution: "
            "data.prompts.columns names the column that has them, as in {solution: answer}."
        )


def unsolved_and_scored(look: bool = False) -> tuple[bool, bool]:
    """Whether no row of data/prompts has a solution, and whether a task of reasoning-gym made one, which is looked up
    where none has, and where it is asked for.
    """
    try:
        solutions = pq.read_table(PROMPTS, columns=["solution"])["solution"]
        unsolved = solutions.null_count == len(solutions)
        extras = pq.read_table(PROMPTS, columns=["extra"])["extra"].to_pylist() if unsolved or look else []
    except (OSError, pa.ArrowException) as error:
        raise unreadable(PROMPTS, error) from None
    return unsolved, any('"reasoning_gym": {' in (extra or "") for extra in extras)


def evaluated_on(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, counting: Counting = unseen
) -> tuple[Dataset, LeftOut]:
    """The held-out rows of TRL's evaluations, in whole batches, and those left out.

    TRL takes the mean over batches, so a smaller last one would weigh too much. Of fewer rows than a batch, all.
    """
    rows, left_out = short_enough(settings, tokenizer, "eval", counting)
    generations = 1
    if STAGES[settings.stage].generates:
        generations = settings.option("num_generations_eval") or settings.option("num_generations")
    batch = max(1, settings.option("per_device_eval_batch_size") * settings.processes // generations)
    count = min(len(rows), settings.own.eval_rows or len(rows))
    return rows.select(range(count - count % batch or count)), left_out


def short_enough(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, side: str, counting: Counting = unseen
) -> tuple[Dataset, LeftOut]:
    """The rows of a side of the split, but those longer than the limit, as a cut conversation teaches not to end, and
    those that are refused; and these counted. Of SFT as tokens, where its loss does not cover all answers or turns have
    further fields: TRL cannot tell one answer from another.

    Raises InputError where the folder is not what `prepare` makes, more are refused than may be, or nothing is left.
    """
    stage, own = STAGES[settings.stage], settings.own
    limit = own.max_prompt_length if stage.generates else settings.option("max_length")
    path = Path(stage.folder, f"{side}.parquet")
    rows = read(path)
    last = settings.stage == "sft" and own.loss_on == "last"
    if last or (settings.stage == "sft" and has_more(rows)):
        rows, sizes = tokenised(rows, tokenizer, last, counting)
    else:
        sizes = sizes_of(rows, tokenizer, limit is not None, counting)
    reasons = {row: size for row, size in enumerate(sizes) if isinstance(size, str)}
    first = {reason: f"{path}, row {row + 1}" for row, reason in reversed(reasons.items())}
    kept = [row for row, tokens in enumerate(sizes) if row not in reasons and (limit is None or tokens <= limit)]
    left_out = LeftOut(len(rows) - len(kept) - len(reasons), Counter(reasons.values()), first)
    if left_out.too_long and not kept:
        others = f" {len(reasons)} others are refused: {left_out.reasons}." if reasons else ""
        raise InputError(
            f"{path}: none of its {len(rows)} rows is at most {limit} tokens long. "
            f"Raise the limit in params.yaml (max_length; for grpo max_prompt_length).{others}"
        )
    if reasons and (not kept or len(reasons) > settings.max_refused * len(rows)):
        raise InputError(
            f"{path}: {len(reasons)} of {len(rows)} rows are refused, and data.max_defective in params.yaml allows a "
            f"share of {settings.max_refused:g}: {left_out.reasons}. "
            "Leave such rows out of the data, or change chat_template.jinja in the model's folder."
        )
    return rows if len(kept) == len(rows) else rows.select(kept), left_out


def read(path: Path) -> Dataset:
    """The rows of a parquet file, in memory. Raises InputError where it cannot be read."""
    from datasets import Dataset

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None
    turns_of = [column.type.value_type for column in table.columns if pa.types.is_list(column.type)]
    if "tools" in table.column_names or any(turn.get_field_index("more") >= 0 for turn in turns_of):
        from llmrl.training import turns

        return turns.data_set(table)
    return Dataset(table)


def has_more(rows: Dataset) -> bool:
    """Whether turns may have further fields: `read` gives these whole."""
    from llmrl.training.turns import Turn

    return any(isinstance(getattr(column, "feature", None), Turn) for column in rows.features.values())


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


def lengths(
    rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, tools: Any = None, counted: bool = True
) -> list[int]:
    """Tokens of each row as the model will see it: for a preference, of its longer side. Not counted, of its text."""
    prompts, sides = sides_of(rows)
    asked = {"add_generation_prompt": prompts, "return_dict": False, "tokenize": counted, "tools": tools}
    tokens = [tokenizer.apply_chat_template(side, **asked) for side in sides]
    return [max(map(len, row)) for row in zip(*tokens, strict=True)]


def sides_of(rows: dict[str, list[Any]]) -> tuple[bool, list[list[Any]]]:
    """Whether rows are prompts, which go on; and their conversations, of a preference those of both sides."""
    ends = [rows[name] for name in ("chosen", "rejected", "messages") if name in rows]
    starts = rows.get("prompt") or [[] for _ in ends[0]]
    sides = [[start + end for start, end in zip(starts, side, strict=True)] for side in ends]
    return not ends, sides or [starts]


def sizes_of(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, counted: bool, counting: Counting = unseen
) -> list[Any]:
    """The length of each row, or why it is refused. Rows without further fields are tokenised together, which is
    faster, unless one is refused.
    """
    from llmrl.training import turns

    found: list[Any] = []
    alone, count = has_more(rows), counting(len(rows), "rows")
    for batch in rows.iter(BATCH):
        # Next to no row has what a template may leave out: those batches that have go a row at a time.
        alone_now = alone or any(turns.may_lose_text(one) for side in sides_of(batch)[1] for one in side)
        sizes: Any = None if alone_now else or_reason(partial(lengths, batch, tokenizer, counted=counted))
        if not isinstance(sizes, list):
            sizes = [or_reason(partial(length_of, row, tokenizer, counted)) for row in each(batch)]
        found += sizes
        count(len(sizes))
    return found


def length_of(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, counted: bool) -> int:
    """That of one row, all of which the chat template must write. Raises DefectiveError where it does not, or where TRL
    could not train on it.
    """
    from llmrl.training import turns

    tools, one = turns.functions_of(row), {name: [value] for name, value in row.items()}
    prompts, sides = sides_of(one)
    for (conversation,) in sides:
        turns.require_written(conversation, tools, tokenizer)
        turns.require_texts(conversation, tokenizer, tools)
        if prompts and any(turn.get("tool_calls") for turn in conversation):
            # It writes the prompts of completions as Parquet, where arguments of one name must be of one type.
            raise DefectiveError("tool calls in a prompt, which TRL's record of completions cannot hold")
    return lengths(one, tokenizer, tools, counted)[0]


def tokenised(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, last: bool, counting: Counting = unseen
) -> tuple[Dataset, list[Any]]:
    """SFT's rows as input_ids and labels, of a refused row null; and the length of each, or why it is refused."""
    from datasets import Dataset

    from llmrl.training import turns

    sizes: list[Any] = []
    tables, count = [], counting(len(rows), "rows")
    for batch in rows.iter(BATCH):
        found = [or_reason(partial(turns.labelled, row, tokenizer, last)) for row in each(batch)]
        sizes += [one if isinstance(one, str) else len(one[0]) for one in found]
        columns = zip(*((None, None) if isinstance(one, str) else one for one in found), strict=True)
        arrays = [pa.array(column, pa.list_(pa.int64())) for column in columns]
        tables.append(pa.table(dict(zip(("input_ids", "labels"), arrays, strict=True))))
        count(len(found))
    return Dataset(pa.concat_tables(tables)), sizes


def each(batch: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows of a batch."""
    return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]


def or_reason(make: Callable[[], Made]) -> Made | str:
    """What is made of rows, or why they are refused."""
    try:
        return make()
    except DefectiveError as reason:
        return str(reason)
    except REFUSALS as error:
        return f"the model's chat template refuses it: {error}"
