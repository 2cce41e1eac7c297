"""One measurement of bench.gpu, in a process of its own: `python -m bench.gpu_one '{"stage": "sft", …}'`.

In a folder that bench.inputs has filled, by the params.yaml there: a few steps by this pipeline's stage, or by TRL as
its quick starts have it. Prints one line of JSON, also where memory was not enough.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
import trl

from llmrl import console, data, hardware, memory, params
from llmrl.errors import reported

GIB = 2**30
Peaks = dict[str, dict[str, float]]  # of moments, in GiB
TRAINERS = {"sft": "SFT", "reward": "Reward", "dpo": "DPO", "grpo": "GRPO"}
AROUND = ("judging prompts", "evaluating", "measuring", "answering")  # what a stage does beside its steps
TASK = ("max_length", "max_completion_length")  # what is learned from, beside rows and rewards: not TRL's to choose


@dataclass(frozen=True)
class Task:
    """What to measure: `plain` is TRL alone; `around` also what the stage does before and between its steps."""

    stage: str
    plain: bool
    cap: float | None  # GiB that torch may reserve
    untimed: int  # steps, in which kernels are compiled and caches filled
    around: bool


class Clock(transformers.TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())


def limit(cap: float | None) -> None:
    """Have torch raise OutOfMemoryError above so many GiB, as on a card that has no more."""
    if cap is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap * GIB / total))


@contextmanager
def moment(name: str, found: Peaks) -> Iterator[None]:
    """Note the most memory taken meanwhile. A CPU tells the most since the process began."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    found[name] = console.peaks()


def expected(stage: memory.Stage | None) -> dict[str, float]:
    """The GiB that llmrl.memory expects at the same moments."""
    if stage is None:
        return {}
    sizes = {name: round(sum(parts.values()) / GIB, 4) for name, parts in stage.moments().items()}
    around = {name: sizes.pop(name) for name in AROUND if name in sizes}
    return {"training": max(sizes.values())} | around


def speed(trainer: transformers.Trainer, ends: list[float], untimed: int) -> dict[str, float]:
    """How fast the timed steps were: of sequences a pair counts as one, of GRPO each completion; tokens as TRL counts
    them, prompts among them, without padding.
    """
    seconds = (ends[-1] - ends[untimed - 1]) / (len(ends) - untimed)
    tokens = [log["num_tokens"] for log in trainer.state.log_history if "num_tokens" in log and "loss" in log]
    args = trainer.args
    sequences = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return {
        "steps": len(ends) - untimed,
        "sequences": sequences,
        "seconds": round(seconds, 4),
        "sequences_per_second": sequences / seconds,
        "tokens_per_second": (tokens[-1] - tokens[untimed - 1]) / (ends[-1] - ends[untimed - 1]),
    }


def train(trainer: transformers.Trainer, task: Task, found: Peaks) -> dict[str, float]:
    """Train, and say how fast."""
    clock = Clock()
    trainer.add_callback(clock)
    with moment("training", found):
        trainer.train()
    return speed(trainer, clock.ends, task.untimed)


def ours(task: Task, found: Peaks, result: dict[str, Any]) -> None:
    """The stage as `python -m stages.<stage>` has it; with `around`, also a batch of everything else: GRPO's prompts
    judged, TRL's evaluation while the optimizer's states are there, and again of what is saved, with answers to
    held-out prompts.
    """
    from llmrl import answers, difficulty, guards, models, runs, training

    stage: training.Stage = importlib.import_module(f"stages.{task.stage}").STAGE
    settings = params.stage(task.stage)
    with runs.opened(settings) as folder:
        run, _ = training.prepared(stage, settings, folder)
        result["expected"] = expected(run.memory)
        limit(task.cap)
        protocol = settings.answers
        if task.around and settings.own.pass_rate:
            some = run.train_rows.select(range(max(1, protocol.batch // settings.own.pass_samples)))
            with moment("judging prompts", found):
                difficulty.judged(replace(run, train_rows=some), trl.GRPOConfig(**run.arguments))
        trainer = stage.trainer(run, settings.own.init)
        training.settle(trainer)
        trainer.add_callback(guards.Finite(trainer, stage.name))
        result |= train(trainer, task, found)
        if not task.around:
            return
        with moment("evaluating", found):
            training.evaluated(trainer)
        models.save(trainer.model, settings.own.init, folder.path / "model", {}, settings.lora)
        del trainer
        gc.collect()
        with moment("measuring", found):
            trainer = stage.trainer(training.evaluating(run, "after"), str(folder.path / "model"))
            training.settle(trainer)
            training.evaluated(trainer)
        del trainer
        gc.collect()
        if stage.measure:
            prompts = data.read(Path(training.HELD_OUT_PROMPTS))
            some = prompts.select(range(max(1, protocol.batch // protocol.samples)))
            with moment("answering", found):
                policy = run.policy(str(folder.path / "model"))
                answers.measure(policy, run.tokenizer, some, protocol, run.hardware.answers)


def theirs(task: Task, found: Peaks, result: dict[str, Any]) -> None:
    """TRL's trainer with its own defaults, by the model's path."""
    from llmrl import rewards

    hardware.without_cudnn()

    settings = params.stage(task.stage)
    own, chosen = settings.own, {name: settings.trl[name] for name in TASK if name in settings.trl}
    cpu = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    passing = {"max_steps": settings.trl["max_steps"], "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
    given: dict[str, Any] = {}
    if task.stage == "grpo":
        judges = [own.reward_model if name == "reward_model" else getattr(rewards, name) for name in own.rewards]
        given, chosen["reward_weights"] = {"reward_funcs": judges}, [float(weight) for weight in own.rewards.values()]
    name = TRAINERS[task.stage]
    rows = {"sft": "sft", "grpo": "prompts"}.get(task.stage, "preference")
    limit(task.cap)
    trainer = getattr(trl, f"{name}Trainer")(
        model=own.init,
        args=getattr(trl, f"{name}Config")(output_dir="out", **chosen, **passing, **cpu),
        train_dataset=data.read(Path("data", rows, "train.parquet")),
        **given,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    result |= train(trainer, task, found)


def measured(task: Task) -> dict[str, Any]:
    """What was measured, or that memory was not enough, and where."""
    result: dict[str, Any] = {}
    found: Peaks = {}
    try:
        (theirs if task.plain else ours)(task, found, result)
    except torch.OutOfMemoryError as error:
        return {"fits": False, "peaks": found, "said": str(error).splitlines()[0], **result}
    return {"fits": True, "peaks": found, **result}


def main() -> None:
    with reported():
        print(json.dumps(measured(Task(**json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
