"""How long a stage takes: from this machine's past runs of it where there are any, else from a stated assumption."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl import repository
from llmrl.memory import Stage, length, sides

# The settings that decide how long a step takes.
SPEED = (
    "batch",
    "micro_batch",
    "precision",
    "processes",
    "threads",
    "lora",
    "optim",
    "gradient_checkpointing",
    "eval_strategy",
    "eval_steps",
    "eval_rows",
    "max_length",
    "max_prompt_length",
    "max_completion_length",
    "num_generations",
    "generation_batch_size",
    "steps_per_generation",
    "beta",
    "packing",
    "pass_rate",
    "pass_samples",
)
# The assumption: floating-point operations a second that a training reaches. A core of a server did 50e9 in float32,
# and twice that in bfloat16 (two cores, 135 M parameters); of a GPU of the 6 GB class, 30 % of 25e12.
CORE, GPU = 50e9, 0.3 * 25e12
START = 10  # seconds: Python, torch and TRL, loading the model and writing it
LAYER = {"cpu": 0.0005, "cuda": 0.001, "mps": 0.001}  # seconds a layer at least takes for one more token


@dataclass(frozen=True)
class Time:
    """Seconds, and where they come from."""

    seconds: float
    source: str


def runs(stage: Stage) -> list[dict[str, Any]]:
    """The records of this machine's runs of the stage with as many parameters and the same settings, oldest first."""
    wanted = {name: stage.settings.tracked.get(name) for name in SPEED}
    found = []
    for file in sorted((repository.root() / "runs").glob("*/run.json")):
        try:
            record = json.loads(file.read_text())
        except ValueError:  # cut short, by a machine that went down say
            continue
        same = {
            "stage": stage.settings.stage,
            "machine": platform.node(),
            "parameters": stage.parameters,
            "kind": stage.kind,
            "exit": 0,
        }
        settings = {name: record["settings"].get(name) for name in SPEED}
        if same.items() <= record.items() and settings == wanted:
            found.append(record | {"folder": file.parent})
    return found


def step_seconds(folder: Path) -> float | None:
    """Seconds a training step took, evaluations among them, by a run's metrics.jsonl; None where it has too few."""
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    steps = [(line["step"], line["seconds"]) for line in lines if "loss" in line]
    if len(steps) < 2 or steps[-1][0] == steps[0][0]:
        return None
    return (steps[-1][1] - steps[0][1]) / (steps[-1][0] - steps[0][0])


def expected(stage: Stage, steps: int, cores: int, prompts: int, held_out_prompts: int) -> Time:
    """How long the stage will take. Where GRPO judges prompts, each of `prompts` is answered before it trains."""
    for record in reversed(runs(stage)):
        if each := step_seconds(record["folder"]):
            around = record["seconds"] - record["phases"].get("training", 0.0)
            return Time(steps * each + around, f"from {record['id']}, {each:.2f} s a step")
    speed = speed_of(stage, cores)
    said = f"assumed: {speed / 1e12:.2g} TFLOP/s"
    if stage.kind == "cuda":
        said += " (a GPU of the 6 GB class at 30 %)"
    work = steps * arithmetic(stage) / speed + generation(stage, steps, speed, prompts, held_out_prompts)
    return Time(START + work, said)


def speed_of(stage: Stage, cores: int) -> float:
    """The floating-point operations a second that are assumed."""
    if stage.kind != "cpu":
        return GPU * stage.settings.processes
    return CORE * cores * (1 if stage.precision == "fp32" else 2)


def arithmetic(stage: Stage) -> float:
    """The floating-point operations of a step, with every row as long as it may be: 2 a parameter and token forward,
    4 backward, of which 2 are for the weights' gradients; 2 each for a reference, and for what is computed anew.
    """
    own = stage.settings.own
    each = 4 if stage.settings.lora else 6
    each += 2 * bool(stage.option("gradient_checkpointing"))
    each += 2 * (stage.settings.stage == "dpo" or "reference model" in stage.models())
    each += 2 * ("reward model" in stage.models())
    return each * stage.parameters * own.batch * sides(stage.settings) * length(stage.settings)


def generation(stage: Stage, steps: int, speed: float, prompts: int, held_out_prompts: int) -> float:
    """Seconds for GRPO's completions, for the answers by which it judges its prompts, and for those to the held-out
    prompts before and after.
    """
    protocol, settings = stage.settings.answers, stage.settings
    one = speed / settings.processes  # each generates its own completions, and the first alone answers

    def token(sequences: int) -> float:  # one more for each of so many
        return max(LAYER[stage.kind] * stage.shape.layers, 2 * stage.parameters * sequences / one)

    seconds = 0.0
    if settings.stage == "grpo":
        rounds, new = steps * settings.own.batch / (stage.generated * settings.processes), stage.completion
        seconds += rounds * new * token(stage.generated)
        if settings.own.pass_rate:
            each = settings.own.pass_samples
            seconds += -(-prompts // max(1, protocol.batch // each)) * new * token(max(protocol.batch, each))
    if settings.stage != "reward":
        rounds = -(-held_out_prompts * (1 + protocol.samples) // protocol.batch)
        times = 2 if settings.stage == "sft" else 1
        seconds += times * rounds * protocol.max_new_tokens * token(protocol.batch)
    return seconds
