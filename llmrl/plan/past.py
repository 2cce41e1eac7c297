"""How long a stage takes by its past runs on this machine: which of them are alike, and what they took.

runs/*/run.json, metrics.jsonl -> seconds a step, of an evaluation, and of all that is around the training
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.graph import STAGES
from llmrl.session.records import records

if TYPE_CHECKING:
    from llmrl.data.settings import Data
    from llmrl.memory.formula import Planned
    from llmrl.training.settings import Settings

LATEST = 100  # runs of a stage that are looked at: with all, each would begin later than the one before
START = 6  # seconds: Python, torch and TRL, before there is a record
# The settings that cost no time, or a known one: a name, one within a map, or one of a stage alone. Any other may, also
# one that only the record knows, or only this version of TRL; tests/plan/test_past.py lists the others.
FREE = {
    # numbers by which weights are updated
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_grad_norm", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "lora.alpha", "ref_model_mixup_alpha"),
    # how many steps there are, which is counted
    *("max_steps", "num_train_epochs"),
    # what is drawn, and found
    *("seed", "answers.seed", "answers.marks", "shuffle_dataset"),
    # what is logged and shown, and when a run ends early
    *("logging_steps", "logging_first_step", "logging_strategy", "run.report_to", "run.verbosity", "run.grace"),
    *("run.save_total_limit", "run.min_signal", "run.patience", "run.gates", "run.memory_gib"),
    *("metric_for_best_model", "greater_is_better"),  # of no best model, which is not kept
    # what is made of the same log-probabilities
    "reward.center_rewards_coefficient",
    *("dpo.beta", "dpo.loss_type", "dpo.loss_weights", "dpo.label_smoothing", "dpo.f_divergence_type"),
    *("dpo.f_alpha_divergence_coef", "dpo.discopop_tau", "dpo.ld_alpha"),
    *("grpo.loss_type", "grpo.epsilon", "grpo.epsilon_high", "grpo.delta", "grpo.scale_rewards"),
    *("grpo.importance_sampling_level", "grpo.multi_objective_aggregation", "grpo.mask_truncated_completions"),
    *("grpo.sapo_temperature_neg", "grpo.sapo_temperature_pos", "grpo.use_bias_correction_kl"),
    *("grpo.vespo_k_pos", "grpo.vespo_lambda_pos", "grpo.vespo_k_neg", "grpo.vespo_lambda_neg"),
    *("grpo.entropy_coef_min", "grpo.entropy_coef_max", "grpo.entropy_coef_delta", "grpo.entropy_target"),
    # alike in all runs of a stage
    *("data", "generates"),
}

Past = dict[str, Any]  # as run.json has it


def by_past_runs(planned: Planned, number: int, data: Data, device: str) -> tuple[float | None, str]:
    """The seconds of so many steps and of all around them, by the last of the past runs that are alike; and which run
    that is. None where there is none, and why. `data` has the numbers of rows that there are, as far as they are known.

    What a run that went on from a checkpoint, or from the trained model, did not do itself an earlier one has done.
    """
    settings = planned.settings
    everything = settings.deciding | {"run": asdict(settings.run), "answers": asdict(settings.answers)}
    about = {"settings": everything, "data": asdict(data), "parameters": planned.parameters, "device": device}
    wanted = costing(settings.stage, json.loads(json.dumps(about)))
    here = past_runs()
    alike, others = [], list[tuple[Past, list[str]]]()
    for record in [one for one in here if one["stage"] == settings.stage][:LATEST]:
        if names := unlike(costing(settings.stage, record), wanted):
            others.append((record, names))
        else:
            alike.append(record)
    others.sort(key=lambda one: len(one[1]))  # the nearest first, and of these the last
    stepped = (one for one in alike if a_step(one))
    alone = (one for one in alike if not any(overlap(one, other) for other in here if other is not one) and a_step(one))
    last, beside = next(alone, None), ""
    if last is None:
        last, beside = next(stepped, None), " beside another run"
    if last is None:
        nearest = next((f"{one['id']} had another {first_few(names)}" for one, names in others if a_step(one)), None)
        ended = any("exit" in one for one in [*alike, *(one for one, _ in others)])  # the one that asks has not
        short = "its runs here logged too few steps to tell" if ended else "no run of it is recorded here"
        return None, nearest or short
    each, phases = a_step(last) or 0.0, dict[str, float]()
    for record in reversed(alike):
        phases |= record["phases"]
    phases.pop("training", None)
    said = f"{last['id']}, {each:.2f} s a step{beside}"
    judging = ["judging prompts"] if everything.get("pass_rate") else []
    if missing := [name for name in (*judging, "measuring before", "measuring after") if name not in phases]:
        said += f", without {', '.join(missing)}: no such run has come so far"
    evaluating = evaluations(settings, number) * an_evaluation(last)
    return START + number * each + evaluating + sum(phases.values()), said


def costing(stage: str, record: Past) -> dict[str, Any]:
    """All of a record, or of what is planned, that may decide a run's seconds, each by its name."""
    table, settings, data = STAGES[stage], record["settings"], record["data"]
    found = {"parameters": record["parameters"], "device": card(record["device"])}
    for name, value in each_of(settings):
        section = name.partition(".")[0]
        if {name, section, f"{stage}.{name}"} & FREE or (section == "answers" and not table.answers):
            continue
        found[name] = value
        if section == "rewards":  # whatever its weight, each is asked
            found[name] = True
        elif name == "init":  # what a stage has made was measured then, anything else is measured first
            found[name] = value in {f"models/{one}" for one in STAGES}
        elif name == "beta" and table.generates:  # where it is not 0 there is a reference to ask
            found[name] = value != 0
    counted = settings.get("pass_rate") or settings.get("eval_strategy") == "epoch"
    for name in {table.data} | ({"prompts"} if table.answers else set()):
        for key, value in data.get(name, {}).items():
            idle = key == "rows" and not (counted and name == table.data)  # that more are there costs no step
            found[f"data.{name}.{key}"] = None if idle else value
    return found


def each_of(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings, of a map each item."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        else:
            yield name, value


def card(device: str) -> frozenset[str]:
    """The words of a device's name: of a slice of a card, the driver has them in another order than torch."""
    return frozenset(device.partition(",")[0].split()) - {"of"}


def unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names under which two differ; where one has no such name within a map, that of the map."""
    found: dict[str, None] = {}
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            found[name.rpartition(".")[0] or name] = None
        elif one[name] != other[name]:
            found[name] = None
    return [*found]


def first_few(names: list[str]) -> str:
    """The first of them, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def past_runs() -> list[Past]:
    """The records of all runs on this machine that got so far as to have a device, the last first."""
    found = [
        record | {"folder": folder}
        for folder, record in records().items()
        if record and record["machine"] == platform.node() and {"device", "parameters", "data"} <= record.keys()
    ]
    return sorted(found, key=lambda record: datetime.fromisoformat(record["started"]), reverse=True)


def a_step(record: Past) -> float | None:
    """The seconds a step of a run took, checkpoints among them and, of one that evaluates by epochs, evaluations; None
    of one that logged no two.
    """
    lines = journal(record)
    logged = [place for place, line in enumerate(lines) if "loss" in line]
    if not logged or lines[logged[-1]]["step"] == lines[logged[0]]["step"]:
        return None
    first, *between, last = lines[logged[0] : logged[-1] + 1]
    counted = record["settings"].get("eval_strategy") == "steps"
    evaluating = sum(line.get("eval_runtime", 0.0) for line in between) if counted else 0.0
    return (last["seconds"] - first["seconds"] - evaluating) / (last["step"] - first["step"])


def an_evaluation(record: Past) -> float:
    """The seconds that a run's last evaluation took: that before the training, where no other came; 0 of none."""
    return next((line["eval_runtime"] for line in reversed(journal(record)) if "eval_runtime" in line), 0.0)


def evaluations(settings: Settings, number: int) -> int:
    """How many there are in so many steps. By steps of a past run they are no share: a short one had none."""
    if settings.trl.get("eval_strategy") != "steps":
        return 0
    every = settings.option("eval_steps") or settings.option("logging_steps")
    return int(number // (every if every >= 1 else max(1, math.ceil(every * number))))


def journal(record: Past) -> list[dict[str, Any]]:
    """What a run has logged."""
    file: Path = record["folder"] / "metrics.jsonl"
    whole = file.read_text(encoding="utf-8").rpartition("\n")[0] if file.exists() else ""  # the last may be cut short
    return [json.loads(line) for line in whole.splitlines()]


def overlap(one: Past, other: Past) -> bool:
    """Whether two runs went on at once, as far as is known: one that was killed has no end."""
    begun = [datetime.fromisoformat(record["started"]).timestamp() for record in (one, other)]
    ended = [start + record.get("seconds", 0.0) for start, record in zip(begun, (one, other), strict=True)]
    return max(begun) < min(ended)
