"""Experiments made by hand: policies, and a reward model, with a fault of choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from llmrl.report.document import Grid, Quotes, Section, Words
from llmrl.report.recorded import Recorded

RATES = {"base": 0.05, "sft": 0.3, "dpo": 0.6, "grpo": 0.75}  # right answers
Tables = dict[str, pa.Table]


def answers(
    policy: str,
    random: np.random.Generator,
    prompts: int = 60,
    samples: int = 4,
    rate: float | None = None,
    tokens: int = 5,
    right_tokens: int = 0,
    ended: float = 0.95,
    repetition: float = 0.01,
    judged: bool = True,
) -> pa.Table:
    """Answers of a policy as its stage records them, of `tokens` and up to 24 more, right ones of so many more."""
    right = random.random((prompts, samples)) < (RATES[policy] if rate is None else rate)
    length = random.integers(tokens, tokens + 25, (prompts, samples)) + right_tokens * right
    told: dict[str, Any] = {
        "": [[f"{policy} {row}.{at}" for at in range(samples)] for row in range(prompts)],
        "_right": right.tolist() if judged else [[None] * samples] * prompts,
        "_tokens": length.astype(np.int32).tolist(),
        "_ended": (random.random((prompts, samples)) < ended).tolist(),
        "_marked": right.tolist(),
        "_repetition": np.clip(random.normal(repetition, 0.01, (prompts, samples)), 0, 1).tolist(),
    }
    columns = {f"sampled{what}": column for what, column in told.items()}
    columns |= {f"greedy{what}": [several[0] for several in column] for what, column in told.items()}
    known = {
        "policy": [policy] * prompts,
        "row": pa.array(range(prompts), pa.int32()),
        "prompt": [f"What is {row} + 1?" for row in range(prompts)],
        "solution": pa.array([str(row + 1) if judged else None for row in range(prompts)], pa.string()),
    }
    table = pa.table(known | columns)
    kinds = {"sampled_right": pa.list_(pa.bool_()), "greedy_right": pa.bool_()}
    return table.cast(pa.schema([field.with_type(kinds.get(field.name, field.type)) for field in table.schema]))


def scores(
    tables: Tables, random: np.random.Generator, right: float | dict[str, float], token: float = 0.0
) -> pa.Table:
    """Scores that pay so much for a right answer, of a policy or of any, and so much a token, beside noise."""
    rows = []
    for policy, table in tables.items():
        worth = right[policy] if isinstance(right, dict) else right
        for row in table.to_pylist():
            prompt = random.normal()  # which all answers to it get
            paid = [
                prompt + worth * bool(good) + token * length + random.normal()
                for good, length in zip(row["sampled_right"], row["sampled_tokens"], strict=True)
            ]
            rows.append({"policy": policy, "row": row["row"], "greedy": paid[0], "sampled": paid})
    kinds = {"policy": pa.string(), "row": pa.int32(), "greedy": pa.float32(), "sampled": pa.list_(pa.float32())}
    return pa.Table.from_pylist(rows, pa.schema(kinds))


def pairs(random: np.random.Generator, chosen: float, token: float = 0.0, n: int = 200) -> pa.Table:
    """Held-out pairs that are scored so, of lengths that say nothing of which is better."""
    tokens = random.integers(5, 30, (2, n))
    score = random.normal(size=(2, n)) + token * tokens + chosen * np.array([[1], [0]])
    sides = ("chosen", "rejected")
    return pa.table(
        {
            "row": pa.array(range(n), pa.int32()),
            **{name: [f"{name} {row}" for row in range(n)] for name in ("prompt", *sides)},
            **{f"{name}_score": score[at].astype(np.float32) for at, name in enumerate(sides)},
            **{f"{name}_tokens": tokens[at].astype(np.int32) for at, name in enumerate(sides)},
        }
    )


def recorded(tables: Tables, **also: Any) -> Recorded:
    """An experiment with these policies' answers, and what else is given: pairs, scores, or any field of Recorded."""
    held: dict[str, Tables] = {stage: {"after": tables[stage]} for stage in ("sft", "dpo", "grpo") if stage in tables}
    if "base" in tables:
        held.setdefault("sft", {})["before"] = tables["base"]
    for stage, name in (("reward", "pairs"), ("grpo", "scores")):
        if name in also:
            held.setdefault(stage, {})[name] = also.pop(name)
    rewards = {"accuracy": 1.0, "reward_model": 0.03}
    params = {
        "train": {"batch": 16},
        "sft": {"init": "models/base"},
        "dpo": {"init": "models/sft"},
        "grpo": {"init": "models/dpo", "rewards": rewards, "batch": 64, "num_generations": 8},
    }
    given = {"params": params, "figures": {}, "data": {}, "curves": {}, "locks": {}, "provenance": {}} | also
    return Recorded(revision="workspace", commit=None, tables=held, **given)


def judged_by(right: float, token: float = 0.0, chosen: float | None = None, **size: Any) -> Recorded:
    """An experiment whose reward model pays so much for a right answer, for a token, and for a chosen one."""
    random = np.random.default_rng(1)
    tables = {policy: answers(policy, random, **size) for policy in RATES}
    given = pairs(random, right if chosen is None else chosen, token)
    return recorded(tables, scores=scores(tables, random, right, token), pairs=given)


def words(section: Section, *tones: str) -> str:
    """Its paragraphs of these tones, or all."""
    return "\n".join(one.text for one in section.blocks if isinstance(one, Words) and (one.tone in tones or not tones))


def table(section: Section, name: str) -> dict[str, dict[str, str]]:
    """The table that has a column, or a row, of that name: by the others, each with its cell by each name."""
    for grid in [block for block in section.blocks if isinstance(block, Grid)]:
        lines = [grid.columns, *grid.rows]
        for head, *body in (lines, [list(column) for column in zip(*lines, strict=True)]):
            if name in head:
                return {line[0]: dict(zip(head, line, strict=True)) for line in body}
    raise AssertionError(f"no table has {name}")


def quotes(section: Section, title: str) -> Quotes:
    """The examples whose title begins so."""
    return next(one for one in section.blocks if isinstance(one, Quotes) and one.title.startswith(title))


def mean(cell: str) -> float:
    """The figure of a cell that has an interval, too."""
    return float(cell.split()[0].replace("−", "-"))
