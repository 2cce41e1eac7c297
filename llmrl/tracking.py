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
from pathlib import Path
from typing import Any

from dvclive import Live
from transformers import TrainerCallback

SAMPLES = 20


class Figures:
    """What a stage has measured so far, and `counts` known from the start.

    `tracked` maps TRL's names to ours; `*` in both stands for any text.
    """

    def __init__(self, stage: str, tracked: dict[str, str], **counts: int) -> None:
        self.stage, self.counts = stage, counts
        self.patterns = {re.compile(re.escape(theirs).replace(r"\*", "(.+)")): ours for theirs, ours in tracked.items()}
        # DVC runs this pipeline and has its own dvc.yaml: dvclive shall write figures and nothing else.
        self.live = Live(dir=f"metrics/{stage}", dvcyaml=None, save_dvc_exp=False, report=None)
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
        named = {self.name(theirs): value for theirs, value in evaluation.items()}
        return {ours: value for ours, value in named.items() if ours and number(value)}

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
        self.live.summary = {self.stage: self.counts | earlier | after}
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


def number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
