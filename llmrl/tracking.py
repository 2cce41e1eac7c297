"""A stage's figures and curves, through dvclive, in metrics/<stage>/ (in git).

    metrics.json                    the closing figures, under names unique to the stage: sft.loss, sft.answers.greedy
    plots/metrics/<stage>/*.tsv     the curves, by optimizer step
    answers.json                    twenty fixed sample answers to read

Nothing here differs between two equal runs: times and memory go to the run's folder.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

SAMPLES = 20


class Figures:
    """What a stage has measured so far, and `counts` of its rows.

    `tracked` maps TRL's names to ours; `*` in both stands for any text, and `1-` before ours means that TRL has the
    rest of the share. Of the curves in `averaged`, the mean over the training is a closing figure.
    """

    def __init__(
        self, stage: str, tracked: dict[str, str], averaged: tuple[str, ...], out: Path, **counts: int
    ) -> None:
        self.stage, self.averaged, self.counts = stage, averaged, counts
        self.patterns = {re.compile(re.escape(theirs).replace(r"\*", "(.+)")): ours for theirs, ours in tracked.items()}
        from dvclive import Live  # brings DVC, of which those who need `mean` alone shall know nothing

        # DVC runs this pipeline and has its own dvc.yaml: dvclive shall write figures and nothing else.
        self.live = Live(dir=str(out), dvcyaml=None, save_dvc_exp=False, report=None)
        self.callback = Curves(self)
        self.points: list[tuple[int, dict[str, float]]] = []  # of the curves, under our names

    def name(self, theirs: str) -> str | None:
        """Our name for a figure of TRL's, or None where it is not tracked."""
        for pattern, ours in self.patterns.items():
            if match := pattern.fullmatch(theirs):
                return ours.replace("*", match[1]) if match.groups() else ours
        return None

    def closing(self, evaluation: dict[str, Any]) -> dict[str, Any]:
        """The tracked figures of an evaluation by TRL, under our names."""
        found = {}
        for theirs, value in evaluation.items():
            if (ours := self.name(theirs)) and number(value):
                found[ours.removeprefix("1-")] = 1 - value if ours.startswith("1-") else value
        return found

    def during(self) -> dict[str, float]:
        """The closing figures of the training itself."""
        means = {
            name: mean([(step, values[name]) for step, values in self.points if name in values])
            for name in self.averaged
        }
        return {name: value for name, value in means.items() if value is not None}

    def point(self, step: int, logs: dict[str, Any]) -> None:
        """A point of each tracked curve."""
        self.draw(step, self.closing(logs))

    def draw(self, step: int, values: dict[str, float]) -> None:
        """A point of each of our curves, as a run that is resumed also finds them in its checkpoint."""
        self.points.append((step, values))
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(f"{self.stage}/{name}", value)

    def samples(self, rows: list[dict[str, Any]]) -> None:
        """The first twenty answers, a fixed set as the held-out prompts are."""
        shown = [
            {
                "prompt": row["prompt"],
                "solution": row["solution"],
                "greedy": row["greedy"],
                "right": row["greedy_right"],
                "sampled": row["sampled"][0],
                "tokens": row["tokens"],
            }
            for row in rows[:SAMPLES]
        ]
        text = json.dumps(shown, indent=2, ensure_ascii=False)
        (Path(self.live.dir) / "answers.json").write_text(text + "\n", encoding="utf-8")

    def write(self, steps: int, before: dict[str, Any], after: dict[str, Any]) -> None:
        """The closing figures, which end the curves too; those before training under names in _before."""
        self.live.step = steps
        for name, value in after.items():
            if not isinstance(value, dict):
                self.live.log_metric(f"{self.stage}/{name}", value)
        # The last points of the other curves, of one batch each, are no figures of the model.
        earlier = {f"{name}_before": value for name, value in before.items()}
        self.live.summary = {self.stage: self.counts | self.during() | earlier | after}
        self.live.make_summary()


class Curves(TrainerCallback):
    """Passes what TRL logs on, by optimizer step."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = False  # the last point of a curve is that of the model as saved

    on_epoch_end = on_step_end

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero:
            self.figures.point(state.global_step, logs or {})


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


def number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
