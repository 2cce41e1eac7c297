"""The `run` section of params.yaml: what changes the bytes of no product, so that no stage depends on it."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from llmrl.environment import installing
from llmrl.fields import SHARE, Found, above, as_yaml, at_least, at_most, many, meant

INTERVAL = re.compile(r"\d+(\.\d+)? ?min")
DAY = at_most(24 * 60 * 60)
# Trackers whose package has another name: by which it is imported, and installed.
PACKAGES = {"azure_ml": ("azureml", "azureml-core"), "flyte": ("flytekit", "flytekit")}


@dataclass(frozen=True)
class RunSettings:
    """What changes the bytes of no product."""

    report_to: Annotated[list[str] | str, "none, or trackers that are installed: wandb, trackio, mlflow, …"] = "none"
    verbosity: Annotated[Literal["normal", "quiet"], "of the terminal"] = "normal"
    save_steps: Annotated[int | str, at_least(1), "between two checkpoints: steps, or minutes as in 5 min"] = "5 min"
    save_total_limit: Annotated[int, at_least(1), "checkpoints kept while a stage runs"] = 2
    grace: Annotated[float, at_least(0), DAY, "seconds in which a stage that is told to end may end its step"] = 20.0
    min_signal: Annotated[float, SHARE, "grpo stops where a smaller share of its groups has a signal …"] = 0.1
    patience: Annotated[int, at_least(1), "… in so many steps"] = 50
    gates: Annotated[
        dict[str, float],
        "the least that figures of metrics.json may be, as in {reward.accuracy: 0.6}: where one is below by more than "
        "its interval the stage ends there, its trained model kept",
    ] = field(default_factory=dict)
    memory_gib: Annotated[float | None, above(0), "the most a stage may be expected to take; null: the GPU's"] = None

    @property
    def save_interval(self) -> tuple[int, float]:
        """The least steps, and the least seconds, between two checkpoints."""
        if isinstance(self.save_steps, int):
            return self.save_steps, 0.0
        return 1, 60 * float(self.save_steps.removesuffix("min"))


def wrong(section: dict[str, Any], trackers: tuple[str, ...]) -> Found:
    """What no run can have, of values of any type; `trackers` are those that transformers knows."""
    interval = section.get("save_steps")
    if isinstance(interval, str) and not INTERVAL.fullmatch(interval):
        yield ("save_steps",), f": {as_yaml(interval)} is neither a number of steps nor minutes, as in 5 min."
    for tracker in many(section.get("report_to", "none")):
        if tracker == "none" or not isinstance(tracker, str):
            continue
        if tracker not in trackers:
            text = f": {as_yaml(tracker)} is no tracker: none, {', '.join(trackers)}.{meant(tracker, trackers)}"
            yield ("report_to",), text
        elif tracker == "dvclive":
            text = ': "dvclive" of transformers rewrites dvc.yaml; leave it out: DVCLive keeps all figures anyway.'
            yield ("report_to",), text
        elif importlib.util.find_spec((names := PACKAGES.get(tracker, (tracker, tracker)))[0]) is None:
            how = f"{installing(names[1])}, or write none."
            yield ("report_to",), f": {as_yaml(tracker)} takes {names[1]}, which is not installed: {how}"
