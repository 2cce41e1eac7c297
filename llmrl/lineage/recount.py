"""The figures of a stage, counted anew from the answers and scores that they are of, and whose these are.

A lock has a hash of both: of a figure that was edited together with its lock it tells nothing.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from llmrl.measuring import intervals
from llmrl.measuring.answers import Tables, by_one_name, made_of, mean_scores, summary

if TYPE_CHECKING:
    from llmrl.measuring.settings import Answers

ANSWERS = {"before": "answers_before", "after": "answers"}  # by table the section of metrics.json
# What other batches may add to a score, as a share of the largest: in float32, else.
ROUNDED = {True: 1e-4, False: 2**-6}


def tables_of(files: dict[str, Path]) -> Tables:
    """Those of metrics/<stage>/held_out, by the names of its files."""
    return {Path(name).stem: pq.read_table(path) for name, path in sorted(files.items())}


def miscounted(stage: str, figures: dict[str, Any], tables: Tables, in_float32: bool) -> Iterator[str]:
    """Each figure of a stage that its tables do not give, in words.

    What a stage refused, its rows and its curves are in no table.
    """
    sections = {ANSWERS[name]: summary(table) for name, table in tables.items() if name in ANSWERS}
    if "scores" in tables:
        sections["scores"] = mean_scores(tables["scores"])
    right = by_one_name(sections)
    said = {
        f"{section}.{name}": value
        for section in (*ANSWERS.values(), "scores")
        for name, value in by_one_name(figures.get(section, {})).items()
        if name != "refused"
    }
    slack: dict[str, float] = {}
    if "pairs" in tables:
        of_pairs, slack = ranked(figures, tables, in_float32)
        right |= {name: value for name, value in of_pairs.items() if name in figures}
        said |= {name: figures[name] for name in of_pairs if name in figures}
    for name in said | right:
        value = said.get(name, "missing")
        if name not in right:
            yield f"{stage}.{name} is {value}, which nothing in metrics/{stage}/held_out gives"
        elif isinstance(value, str) or not math.isclose(value, right[name], rel_tol=1e-9, abs_tol=slack.get(name, 0.0)):
            yield f"{stage}.{name} is {value}, and metrics/{stage}/held_out gives {right[name]:.6g}"


def ranked(figures: dict[str, Any], tables: Tables, in_float32: bool) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of a reward model's scores of pairs, and by how much they may differ.

    TRL has evaluated it in other batches, which gives other last bits: whether it ranked a pair right that is nearly a
    tie cannot be told.
    """
    sides = [tables["pairs"][f"{side}_score"].to_pylist() for side in ("chosen", "rejected")]
    margins, n = [one - other for one, other in zip(*sides, strict=True)], len(sides[0])
    rounded = ROUNDED[in_float32] * max(map(abs, (*sides[0], *sides[1])))
    right = {"accuracy": sum(margin > 0 for margin in margins) / n, "margin": statistics.fmean(margins), "n": n}
    if isinstance(share := figures.get("accuracy"), float):
        right |= dict(zip(("accuracy_low", "accuracy_high"), intervals.wilson(share, n), strict=True))
    ties = sum(abs(margin) <= rounded for margin in margins)
    return right, {"accuracy": ties / n + 1e-6, "margin": rounded}  # TRL's share is a float32


def of_others(
    stage: str, tables: Tables, deps: dict[str, str], made: dict[str, str], protocol: Answers | None
) -> Iterator[str]:
    """Each table that says that it is of another model than the lock has, or of other answers than `protocol` asks for;
    `deps` and `made` are the hashes of what the stage was made from, and of all products.
    """
    own = f"models/{stage}"
    for name, table in tables.items():
        known, file, faults = made_of(table), f"metrics/{stage}/held_out/{name}.parquet", list[str]()
        if name in ANSWERS:
            init = known.get("init", "")
            model = own if name == "after" else init
            if known.get("model") != (made | deps).get(model):
                faults.append(f"another {model or 'model'}")
            if known.get("init_model") != deps.get(init):
                faults.append(f"a policy trained from another {init or 'model'}")
            if protocol and known.get("answers") != json.loads(json.dumps(asdict(protocol))):
                faults.append("other settings of `answers`")
        elif name == "scores":
            by_path = {f"models/{policy}": digest for policy, digest in known.get("models", {}).items()}
            faults += [f"another {path}" for path, digest in by_path.items() if made.get(path, digest) != digest]
            if own not in by_path:
                faults.append(f"no {own}")
        elif name == "pairs" and known.get("model") != made.get(own):
            faults.append(f"another {own}")
        if faults:
            yield f"{file} is of {', of '.join(faults)}"
