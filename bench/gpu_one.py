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

from llmrl import params, rewards
from llmrl.errors import reported
from llmrl.graph import STAGES
from llmrl.measuring import held_out
from llmrl.models import saving
from llmrl.models.loading import load_tokenizer
from llmrl.plan.memory import Planned, moments
from llmrl.plan.shape import Shape
from llmrl.session import guards, record, screen
from llmrl.training import difficulty, hardware, loop, rows
from llmrl.training.run import Run

GIB = 2**30
Peaks = dict[str, dict[str, float]]  # of moments, in GiB
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
    found[name] = screen.peaks()


def expected(run: Run) -> dict[str, float]:
    """The GiB that llmrl.plan.memory expects at the same moments."""
    machine, config = run.hardware, json.loads((Path(run.settings.own.init) / "config.json").read_text())
    if (shape := Shape.of(config)) is None:
        return {}
    liger = machine.kernels == "liger"
    planned = Planned(shape, run.settings, machine.precision, machine.kind, machine.answers, liger)
    sizes = {name: round(sum(parts.values()) / GIB, 4) for name, parts in moments(planned).items()}
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
    build: loop.Build = importlib.import_module(f"stages.{task.stage}").trainer
    settings = params.experiment().stages[task.stage]
    init, protocol = settings.own.init, settings.answers
    with record.opened(settings) as folder:
        tokenizer = load_tokenizer(init)
        eval_rows, too_long = rows.evaluated_on(settings, tokenizer)
        run = Run(settings, hardware.detect(settings), tokenizer, eval_rows, too_long, folder.path, folder.id)
        run = replace(run, callbacks=folder.callbacks, train_rows=rows.trained_on(settings, tokenizer)[0])
        result["expected"] = expected(run)
        limit(task.cap)
        if task.around and STAGES[task.stage].generates and settings.own.pass_rate:
            some = run.train_rows.select(range(max(1, protocol.batch // settings.own.pass_samples)))
            with moment("judging prompts", found):
                difficulty.judged(replace(run, train_rows=some))
        trainer = loop.constructed(build, run, init)
        trainer.add_callback(guards.Finite(trainer, task.stage))
        result |= train(trainer, task, found)
        if not task.around:
            return
        with moment("evaluating", found):
            loop.evaluated(trainer)
        saved = folder.path / "model"
        saving.save(trainer.model, init, saved, {}, settings.own.lora)
        del trainer
        gc.collect()
        with moment("measuring", found):
            loop.evaluation(replace(run, callbacks=[]), build, str(saved), "after")
        if STAGES[task.stage].answers:
            prompts, _ = held_out.answerable(settings, run.tokenizer)
            some = prompts.select(range(max(1, protocol.batch // protocol.samples)))
            with moment("answering", found):
                held_out.measure(run, str(saved), task.stage, some)


def theirs(task: Task, found: Peaks, result: dict[str, Any]) -> None:
    """TRL's trainer with its own defaults, by the model's path."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # as llmrl/training/hardware.py says
    settings, stage = params.experiment().stages[task.stage], STAGES[task.stage]
    own, chosen = settings.own, {name: settings.trl[name] for name in TASK if name in settings.trl}
    cpu = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    passing = {"max_steps": settings.trl["max_steps"], "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
    given: dict[str, Any] = {}
    if task.stage == "grpo":
        judges = [own.reward_model if name == "reward_model" else getattr(rewards, name) for name in own.rewards]
        given, chosen["reward_weights"] = {"reward_funcs": judges}, [float(weight) for weight in own.rewards.values()]
    limit(task.cap)
    trainer = getattr(trl, stage.trainer)(
        model=own.init,
        args=getattr(trl, stage.config)(output_dir="out", **chosen, **passing, **cpu),
        train_dataset=rows.read(Path("data", stage.data, "train.parquet")),
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
