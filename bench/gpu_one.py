"""One measurement of bench.gpu, in a process of its own: `python -m bench.gpu_one '{"stage": "sft", …}'`.

In a folder that bench.inputs has filled, by the params.yaml there: a few steps by this pipeline's stage, or by TRL as
its quick starts have it, and what they took of memory. Prints one line of JSON, also where that was not enough.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
import trl

from llmrl import devices, params, rewards
from llmrl.errors import reported
from llmrl.graph import STAGES
from llmrl.measuring import held_out
from llmrl.memory import auto, formula
from llmrl.memory.shape import Shape
from llmrl.models import saving
from llmrl.models.loading import load_tokenizer
from llmrl.session import guards, record, screen
from llmrl.training import difficulty, hardware, loop, rows
from llmrl.training.run import Run
from llmrl.training.settings import Settings

GIB = 2**30
CARD = 6 * GIB
Peaks = dict[str, dict[str, float]]  # of moments, in GiB
AROUND = ("judging prompts", "evaluating", "measuring", "answering")  # what a stage does beside its steps
TASK = ("max_length", "max_completion_length")  # what is learned from, beside rows and rewards: not TRL's to choose


@dataclass(frozen=True)
class Task:
    """What to measure: `plain` is TRL alone; `around` also what the stage does before and between its steps."""

    stage: str
    plain: bool
    cap: float | None  # GiB that torch may reserve
    around: bool


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
    """The GiB that llmrl.memory.formula expects at the same moments."""
    machine, config = run.hardware, json.loads((Path(run.settings.own.init) / "config.json").read_text())
    if (shape := Shape.of(config)) is None:
        return {}
    planned = formula.on_hardware(machine, run.settings, shape)
    sizes = {name: round(sum(parts.values()) / GIB, 4) for name, parts in formula.moments(planned).items()}
    around = {name: sizes.pop(name) for name in AROUND if name in sizes}
    return {"training": max(sizes.values())} | around


def resolved(settings: Settings, device: devices.Machine, cap: float | None) -> Settings:
    """The settings with what is `auto` as it becomes on the device or, under a cap, on a card of 6 GB."""
    card = replace(device, total=CARD) if cap else device
    return auto.resolved(settings, json.loads(Path(settings.own.init, "config.json").read_text()), card)


def ours(task: Task, found: Peaks, result: dict[str, Any]) -> None:
    """The stage as `python -m stages.<stage>` has it; with `around`, also a batch of everything else: GRPO's prompts
    judged, TRL's evaluation while the optimizer's states are there, and again of what is saved, with answers to
    held-out prompts.
    """
    build: loop.Build = importlib.import_module(f"stages.{task.stage}").trainer
    settings = resolved(params.experiment().stages[task.stage], devices.machine(), task.cap)
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
        with moment("training", found):
            trainer.train()
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


def by_trl(settings: Settings) -> transformers.Trainer:
    """TRL's trainer with its own defaults, by the model's path, on the rows and by the rewards of these settings."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # as llmrl/training/hardware.py says
    stage, own = STAGES[settings.stage], settings.own
    chosen = {name: settings.trl[name] for name in TASK if name in settings.trl}
    cpu = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    passing = {"max_steps": settings.trl["max_steps"], "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
    given: dict[str, Any] = {}
    if stage.generates:
        judges = [own.reward_model if name == "reward_model" else getattr(rewards, name) for name in own.rewards]
        given, chosen["reward_weights"] = {"reward_funcs": judges}, [float(weight) for weight in own.rewards.values()]
    trainer = getattr(trl, stage.trainer)(
        model=own.init,
        args=getattr(trl, stage.config)(output_dir="out", **chosen, **passing, **cpu),
        train_dataset=rows.read(Path(stage.folder, "train.parquet")),
        **given,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def theirs(task: Task, found: Peaks, _: dict[str, Any]) -> None:
    """TRL alone."""
    limit(task.cap)
    trainer = by_trl(params.experiment().stages[task.stage])
    with moment("training", found):
        trainer.train()


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
