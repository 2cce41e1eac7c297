"""A stage's figures and curves, through dvclive, in metrics/<stage>/ (in git).

    metrics.json                    the closing figures, under names unique to the stage: sft.loss, sft.answers.greedy
    plots/metrics/<stage>/*.tsv     the curves, by optimizer step
    answers.json                    twenty fixed sample answers to read
    held_out/*.parquet              every answer, and every score of the reward model; not in git, DVC keeps it

Nothing here differs between two equal runs: times and memory go to the run's folder.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from transformers import TrainerCallback

from llmrl import repository
from llmrl.graph import STAGES

if TYPE_CHECKING:
    from llmrl.measuring.answers import Tables

SAMPLES = 20


@dataclass
class Seen:
    """What is seen of a training, under TRL's names: of its rows how many, its evaluation before, its curves.

    It stays with the model, in training.json: a model that is measured anew is not trained for its curves.
    """

    rows: dict[str, int] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    curves: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # by optimizer step
    steps: int = 0


class Figures(TrainerCallback):
    """What a stage has measured, under our names of graph.py, into the folder `out`: what TRL logs while it trains is
    kept and drawn, by optimizer step.
    """

    def __init__(self, name: str, out: Path) -> None:
        self.name, self.out, self.seen = name, out, Seen()
        # Of TRL's names, ours; what stands for * in the one does in the other.
        self.patterns = {
            re.compile(re.escape(theirs).replace(r"\*", "(.+)")): ours.replace("*", r"\1")
            for theirs, ours in STAGES[name].tracked.items()
        }

    @cached_property
    def live(self) -> Any:
        """Dvclive's. DVC runs this pipeline and has its own dvc.yaml: it shall write figures and nothing else."""
        from dvclive import Live  # brings DVC, of which those who need `mean` alone shall know nothing

        return Live(dir=str(self.out), dvcyaml=None, save_dvc_exp=False, report=None)

    def ours(self, theirs: str) -> str | None:
        """Our name for a figure of TRL's, or None where it is not tracked."""
        matches = ((pattern.fullmatch(theirs), ours) for pattern, ours in self.patterns.items())
        return next((match.expand(ours) for match, ours in matches if match), None)

    def tracked(self, logs: dict[str, Any]) -> dict[str, float]:
        """Those of TRL's figures that are tracked and finite, under TRL's names."""
        numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        return {name: value for name, value in numbers.items() if math.isfinite(value) and self.ours(name)}

    def named(self, tracked: dict[str, float]) -> dict[str, float]:
        """The same under our names."""
        found = {}
        for theirs, value in tracked.items():
            if ours := self.ours(theirs):
                found[ours.removeprefix("1-")] = 1 - value if ours.startswith("1-") else value
        return found

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = False  # the last point of a curve is that of the model as saved

    on_epoch_end = on_step_end

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and (point := self.tracked(logs or {})):
            self.seen.curves.append((state.global_step, point))
            self.draw(state.global_step, self.named(point))

    def draw(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve."""
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(f"{self.name}/{name}", value)

    def during(self) -> dict[str, float]:
        """The closing figures of the training itself."""
        points = [(step, self.named(point)) for step, point in self.seen.curves]
        drawn = dict.fromkeys(name for _, at in points for name in at)
        averaged = [name for pattern in STAGES[self.name].averaged for name in drawn if fnmatchcase(name, pattern)]
        means = {name: mean([(step, at[name]) for step, at in points if name in at]) for name in averaged}
        return {name: value for name, value in means.items() if value is not None}

    def write(self, before: dict[str, Any], after: dict[str, Any], tables: Tables, left_out: dict[str, int]) -> None:
        """The closing figures, which end the curves too, those before training under names in _before, with the
        held-out rows that were left out among the others; the tables they were counted from; and of the answers after
        it the first twenty, a fixed set as the held-out prompts are.
        """
        self.draw(self.seen.steps, {name: value for name, value in after.items() if has_curve(name, value)})
        # The last points of the other curves, of one batch each, are no figures of the model.
        earlier = {f"{name}_before": value for name, value in before.items()}
        rows = self.seen.rows | {name: self.seen.rows.get(name, 0) + count for name, count in left_out.items()}
        self.live.summary = {self.name: rows | self.during() | earlier | after}
        self.live.make_summary()
        with repository.replaced(self.out / "held_out") as folder:
            for name, table in tables.items():
                pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        if "after" in tables:
            shown = [
                {
                    "prompt": row["prompt"],
                    "solution": row["solution"],
                    "greedy": row["greedy"],
                    "right": row["greedy_right"],
                    "sampled": row["sampled"][0],
                    "tokens": row["greedy_tokens"],
                }
                for row in tables["after"].slice(0, SAMPLES).to_pylist()
            ]
            text = json.dumps(shown, indent=2, ensure_ascii=False)
            (self.out / "answers.json").write_text(text + "\n", encoding="utf-8")


def has_curve(name: str, value: Any) -> bool:
    """Whether a closing figure is of TRL's evaluation, and not an interval, a number of rows, or of answers."""
    return not isinstance(value, dict) and name != "n" and not name.endswith(("_low", "_high"))


def mean(points: list[tuple[int, float]], steps: int | None = None) -> float | None:
    """The mean of a curve, each point of which is that of the steps since the one before.

    With `steps`, over the points at its end that cover so many; None where it is shorter.

    >>> mean([(2, 1.0), (5, 0.5), (6, 0.0)], steps=4)
    0.375
    """
    total, covered = 0.0, 0
    for (before, _), (step, value) in reversed(list(pairwise([(0, 0.0), *points]))):
        total, covered = total + (step - before) * value, covered + step - before
        if steps and covered >= steps:
            break
    return total / covered if covered >= (steps or 1) else None
