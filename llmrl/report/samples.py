"""The policies' sampled answers to the held-out prompts, each with whether it is right and the reward model's score."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrl.measuring.answers import made_of
from llmrl.report.document import Block, Command, Words
from llmrl.report.recorded import Recorded, bringing, in_checkout

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Sampled answers, one after the other: all fields (answers,)."""

    policy: Array
    row: Array  # of its prompt in data/prompts/eval.parquet
    prompt: Array
    solution: Array
    text: Array
    right: Array  # 1 or 0; NaN without a solution
    score: Array  # NaN without a reward model
    tokens: Array
    ended: Array
    repetition: Array

    def __len__(self) -> int:
        return len(self.row)

    def where(self, chosen: Array) -> Samples:
        """Those of a mask, or of places."""
        return Samples(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @property
    def judged(self) -> Samples:
        """Those that are right or wrong."""
        return self.where(np.isfinite(self.right))

    @property
    def scored(self) -> Samples:
        """Those that have a score."""
        return self.where(np.isfinite(self.score))

    def by_policy(self) -> dict[str, Samples]:
        """Those of each policy, in the order of training."""
        return {policy: self.where(self.policy == policy) for policy in dict.fromkeys(self.policy.tolist())}


def sampled(experiment: Recorded) -> tuple[Samples, list[str]]:
    """Every sampled answer of every policy, in the order of training; and which scores had to be left out, a sentence
    each.
    """
    scores, beside = (experiment.tables.get("grpo", {}).get(name) for name in ("scores", "after"))
    models = {} if scores is None else made_of(scores).get("models", {})
    found, notes = [], []
    for policy, table in experiment.policies().items():
        own = None if scores is None else scores.filter(pc.equal(scores["policy"], policy))
        if own is not None and models.get(policy) != made_of(table).get("model"):
            notes.append(f"Scores of {policy} are of another model that was called so: `dvc repro`.")
            own = None
        elif own is not None and beside is not None and answered_otherwise(table, beside):
            notes.append(f"Scores of {policy} are of its answers before it was asked again: `dvc repro`.")
            own = None
        one = flattened(policy, table, own)
        found.append(one)
        if own is not None and (lost := int((~np.isfinite(one.score)).sum())):
            notes.append(f"{lost:,} of the {len(one):,} sampled answers of {policy} have no score that is a number.")
    if not found:
        return Samples(*(np.array([]) for _ in fields(Samples))), notes
    return Samples(*(np.concatenate([getattr(one, field.name) for one in found]) for field in fields(Samples))), notes


def answered_otherwise(table: pa.Table, beside: pa.Table) -> bool:
    """Whether two policies' answers are by other settings, or a row is not the same prompt in both."""
    one, other = (dict(zip(of["row"].to_pylist(), of["prompt"].to_pylist(), strict=True)) for of in (table, beside))
    by, others = (made_of(of).get("answers") for of in (table, beside))
    return by != others or any(one[row] != other[row] for row in one.keys() & other.keys())


def flattened(policy: str, table: pa.Table, scores: pa.Table | None) -> Samples:
    """The sampled answers of a policy, with those scores that are of as many answers to the same prompt."""
    counts = pc.list_value_length(table["sampled"]).to_numpy()
    right, score = np.full(counts.sum(), np.nan), np.full(counts.sum(), np.nan)
    known = np.repeat(table["sampled_right"].is_valid().to_numpy(), counts)
    right[known] = pc.cast(pc.list_flatten(table["sampled_right"]), pa.float64()).to_numpy()  # NaN of null
    if scores is not None and len(scores):
        lists = pc.take(scores["sampled"], pc.index_in(table["row"], scores["row"].combine_chunks()))
        lengths = pc.list_value_length(lists)
        fits = pc.fill_null(pc.equal(lengths, pc.list_value_length(table["sampled"])), False)
        score[np.repeat(fits.to_numpy(), counts)] = in_a_row(lists.filter(fits))
    return Samples(
        policy=np.full(len(right), policy, object),
        **{name: np.repeat(table[name].to_numpy(), counts) for name in ("row", "prompt", "solution")},
        text=in_a_row(table["sampled"]),
        right=right,
        score=score,
        **{name: in_a_row(table[f"sampled_{name}"]) for name in ("tokens", "ended", "repetition")},
    )


def in_a_row(lists: pa.ChunkedArray) -> Array:
    """What a column of lists has, one after the other; of a null nothing."""
    return pc.list_flatten(lists).to_numpy()


def not_there(experiment: Recorded, stage: str, what: str) -> list[Block]:
    """That something is missing which a stage records of the held-out rows, and the command that brings it."""
    product = f"metrics/{stage}/held_out"
    place = in_checkout(experiment)
    if product in experiment.missing:
        why, command = "they are neither here nor in this machine's cache", bringing(experiment, [product])
    elif experiment.locks.get(stage):
        why, command = (
            f"{stage} was measured before they were kept",
            Command(f"dvc repro {stage}", f"{place}measures it anew"),
        )
    else:
        why, command = f"{stage} has not run", Command(f"dvc repro {stage}", f"{place}runs it")
    return [Words(f"{what} are missing: {why}.", "note"), command]
