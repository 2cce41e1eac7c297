"""Answers as a table, a row a held-out prompt, and the figures of a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from llmrl.answers.final import finals
from llmrl.answers.tasks import is_right, task_of
from llmrl.measuring import intervals

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrl.answers.generation import Answer

Tables = dict[str, pa.Table]  # of metrics/<stage>/held_out, by the names of the files
HELD_OUT_PROMPTS = Path("data/prompts/eval.parquet")
ONE = {
    "": pa.string(),
    "_right": pa.bool_(),  # null where neither a solution nor a scorer tells
    "_tokens": pa.int32(),
    "_ended": pa.bool_(),  # by itself
    "_marked": pa.bool_(),  # has a final answer, marked as asked
    "_repetition": pa.float32(),
}
SCHEMA = pa.schema(
    {"policy": pa.string(), "row": pa.int32(), "task": pa.string(), "prompt": pa.string(), "solution": pa.string()}
    | {f"greedy{what}": kind for what, kind in ONE.items()}
    | {f"sampled{what}": pa.list_(kind) for what, kind in ONE.items()}
)


def tabled(
    policy: str,
    prompts: Dataset,
    greedy: Sequence[Sequence[Answer]],
    sampled: Sequence[Sequence[Answer]],
    marks: Sequence[str],
) -> pa.Table:
    """The answers of a policy to each prompt, one greedy and several sampled, with what is told of each: SCHEMA."""

    def told(answers: Sequence[Answer], solution: str | None, extra: str | None) -> list[tuple]:
        return [
            (
                one.text,
                is_right(one.text, solution, extra, marks),
                one.tokens,
                one.ended,
                bool(finals(one.text, marks)),
                one.repetition,
            )
            for one in answers
        ]

    rows = []
    asked = (prompts[name] for name in ("row", "prompt", "solution", "extra"))
    for row, prompt, solution, extra, one, several in zip(*asked, greedy, sampled, strict=True):
        known = {"policy": policy, "row": row, "task": task_of(extra)}
        known |= {"prompt": prompt[-1]["content"], "solution": solution}
        known |= {f"greedy{what}": value for what, value in zip(ONE, told(one, solution, extra)[0], strict=True)}
        columns = zip(*told(several, solution, extra), strict=True)
        rows.append(known | {f"sampled{what}": list(values) for what, values in zip(ONE, columns, strict=True)})
    return pa.Table.from_pylist(rows, SCHEMA)


def policy_name(folder: str) -> str:
    """What the policy of a folder is called: one in models/ by its name there, another by where it lies.

    >>> policy_name("models/sft/"), policy_name("../old/sft")
    ('sft', '../old/sft')
    """
    path = Path(folder)
    return path.name if path.parent == Path("models") else str(path)


def with_origin(table: pa.Table, **known: Any) -> pa.Table:
    """The table, with what it was made of in the file's metadata."""
    return table.replace_schema_metadata({"origin": json.dumps(known, sort_keys=True)})


def made_of(table: pa.Table) -> dict[str, Any]:
    """What a table was made of: of answers the `model` (its hash), what that was trained from (`init`, `init_model`)
    and the settings of the `answers`; of pairs the `model`; of scores the hashes of `models` by policy.
    """
    found: dict[str, Any] = json.loads((table.schema.metadata or {}).get(b"origin", "{}"))
    return found


def summary(table: pa.Table) -> dict[str, Any]:
    """The figures of a table of answers. Whether they are right is over the prompts that have a solution or a scorer;
    the intervals are over prompts. `by_task` has the same of each task of reasoning-gym, where not all prompts are of
    one.
    """
    rows = table.select([name for name in table.column_names if name not in ("greedy", "sampled")]).to_pylist()
    judged = [row for row in rows if row["greedy_right"] is not None]
    figures: dict[str, Any] = {}
    if judged:
        samples = [row["sampled_right"] for row in judged]
        figures = shares_right(judged) | {f"pass_at_{k}": pass_at(k, samples) for k in powers_of_two(len(samples[0]))}
    figures["n"] = len(judged)
    for what in ("ended", "marked", "tokens", "repetition") if rows else ():
        figures[what] = statistics.fmean(value for row in rows for value in row[f"sampled_{what}"])
    tasks: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        tasks.setdefault(row.get("task"), []).append(row)  # tables that were written before there were tasks have none
    if len(tasks) > 1:
        named = sorted((name, some) for name, some in tasks.items() if name is not None)
        figures["by_task"] = {name: shares_right(some) | {"n": len(some)} for name, some in named}
    return figures


def shares_right(judged: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The share of these rows' greedy and of their sampled answers that are right, each with its interval."""
    found: dict[str, float] = {}
    samples = [row["sampled_right"] for row in judged]
    for way, clusters in (("greedy", [[row["greedy_right"]] for row in judged]), ("sampled", samples)):
        found |= dict(zip((way, f"{way}_low", f"{way}_high"), intervals.of_clusters(clusters), strict=True))
    return found


def by_one_name(figures: dict[str, Any]) -> dict[str, float]:
    """Figures by one name each.

    >>> by_one_name({"n": 3, "by_task": {"chain_sum": {"n": 2}}})
    {'n': 3, 'by_task.chain_sum.n': 2}
    """
    found: dict[str, float] = {}
    for name, value in figures.items():
        inner = by_one_name(value) if isinstance(value, dict) else None
        found |= {name: value} if inner is None else {f"{name}.{key}": one for key, one in inner.items()}
    return found


def mean_scores(scored: pa.Table) -> dict[str, float]:
    """The reward model's mean score of the sampled answers, by policy."""
    found: dict[str, list[float]] = {}
    for row in scored.select(["policy", "sampled"]).to_pylist():
        found.setdefault(row["policy"], []).extend(row["sampled"])
    return {policy: statistics.fmean(several) for policy, several in found.items()}


def powers_of_two(most: int) -> list[int]:
    """Those from 2.

    >>> powers_of_two(9)
    [2, 4, 8]
    """
    return [2**power for power in range(1, most.bit_length())]


def pass_at(k: int, samples: Sequence[Sequence[bool]]) -> float:
    """The chance that one of k sampled answers to a prompt is right, mean over prompts: the unbiased estimate of
    Chen et al., https://arxiv.org/abs/2107.03374, equation 1.

    >>> pass_at(2, [[True, False, False, False], [False, False, False, False]])
    0.25
    """
    return statistics.fmean(1 - comb(len(one) - sum(one), k) / comb(len(one), k) for one in samples)
