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
from llmrl.answers.judging import right
from llmrl.measuring import intervals

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrl.answers.generation import Answer

Tables = dict[str, pa.Table]  # of metrics/<stage>/held_out, by the names of the files
HELD_OUT_PROMPTS = Path("data/prompts/eval.parquet")
ONE = {
    "": pa.string(),
    "_right": pa.bool_(),  # null where there is no solution
    "_tokens": pa.int32(),
    "_ended": pa.bool_(),  # by itself
    "_marked": pa.bool_(),  # has a final answer, marked as asked
    "_repetition": pa.float32(),
}
SCHEMA = pa.schema(
    {"policy": pa.string(), "row": pa.int32(), "prompt": pa.string(), "solution": pa.string()}
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

    def told(answers: Sequence[Answer], solution: str | None) -> list[tuple]:
        return [
            (
                one.text,
                None if solution is None else right(one.text, solution, marks),
                one.tokens,
                one.ended,
                bool(finals(one.text, marks)),
                one.repetition,
            )
            for one in answers
        ]

    rows = []
    given = zip(prompts["row"], prompts["prompt"], prompts["solution"], greedy, sampled, strict=True)
    for row, prompt, solution, one, several in given:
        known = {"policy": policy, "row": row, "prompt": prompt[-1]["content"], "solution": solution}
        known |= {f"greedy{what}": value for what, value in zip(ONE, told(one, solution)[0], strict=True)}
        columns = zip(*told(several, solution), strict=True)
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


def summary(table: pa.Table) -> dict[str, float]:
    """The figures of a table of answers. Whether they are right is over the prompts that have a solution; the intervals
    are over prompts.
    """
    rows = table.select([name for name in table.column_names if name not in ("greedy", "sampled")]).to_pylist()
    judged = [row for row in rows if row["solution"] is not None]
    figures: dict[str, float] = {}
    if judged:
        samples = [row["sampled_right"] for row in judged]
        for way, clusters in (("greedy", [[row["greedy_right"]] for row in judged]), ("sampled", samples)):
            figures |= dict(zip((way, f"{way}_low", f"{way}_high"), intervals.of_clusters(clusters), strict=True))
        figures |= {f"pass_at_{k}": pass_at(k, samples) for k in powers_of_two(len(samples[0]))}
    figures["n"] = len(judged)
    for what in ("ended", "marked", "tokens", "repetition") if rows else ():
        figures[what] = statistics.fmean(value for row in rows for value in row[f"sampled_{what}"])
    return figures


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
