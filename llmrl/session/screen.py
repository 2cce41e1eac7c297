"""What the terminal shows of a run: what it is about to do, one progress bar, a closing table of before and after.

In a log file: a line now and then, no control characters.
"""

from __future__ import annotations

import resource
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from transformers import TrainerCallback
from transformers.utils import flatten_dict

from llmrl.progress import Progress

if TYPE_CHECKING:
    from transformers import Trainer

    from llmrl.training.run import Run

GIB = 2**30


def peaks() -> dict[str, float]:
    """The most memory that was taken so far, in GiB: of a GPU allocated, and reserved, by torch; else resident."""
    if torch.cuda.is_available():
        taken = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        taken = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return {name: round(size / GIB, 2) for name, size in taken.items()}


class Terminal:
    """The screen, and a plain copy of it in a file."""

    def __init__(self, copy: Path, quiet: bool) -> None:
        self.screen = Console(quiet=quiet, highlight=False)
        self.paper = Console(file=copy.open("w", encoding="utf-8"), width=100, highlight=False, color_system=None)

    def show(self, what: RenderableType) -> None:
        self.screen.print(what)
        self.paper.print(what)


class TrainingProgress(TrainerCallback):
    """One bar with time left, loss and memory; where there is no screen, a line now and then."""

    def __init__(self, terminal: Terminal, stage: str) -> None:
        self.terminal, self.stage = terminal, stage
        self.loss = self.signal = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.resumed = state.global_step  # the step it goes on from
        self.bar = Progress(self.stage, self.terminal.screen)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        name = "reward" if "reward" in logs else "loss"
        if name in logs:
            self.loss = f"{name} {'none' if logs[name] is None else f'{logs[name]:.3f}'}"  # of a batch nobody judged
        if "frac_reward_zero_std" in logs:
            self.signal = f"{1 - logs['frac_reward_zero_std']:.0%}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, last = state.global_step, state.max_steps
        left = (time.monotonic() - self.bar.began) / (step - self.resumed) * (last - step)
        memory = " ".join(f"{size:g} GiB {name}" for name, size in peaks().items())
        share = self.signal and f"  signal {self.signal}"  # short, as GRPO's line shall fit 80 columns
        words = f"{step}/{last} left {timedelta(seconds=round(left))} {self.loss}{share}  {memory}"
        self.bar.show(self.stage, step, last, words)
        if self.bar.due() or step == last:
            share = self.signal and f"  {self.signal} of groups with signal"
            line = f"{self.stage} step {step}/{last}  {self.loss}{share}  {left:.0f} s left  {memory}"
            for where in [self.terminal.paper] + [self.terminal.screen] * (not self.terminal.screen.is_terminal):
                where.print(line, soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.stop()


def named(facts: dict[str, str], title: str | None = None) -> Table:
    """Facts under each other, in two columns of which the first is as wide in one table as in the next."""
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    table.add_column(min_width=len("  training"))
    table.add_column()
    for name, fact in facts.items():
        table.add_row(f"  {name}", fact)
    return table


def costs(stage: str, facts: dict[str, str]) -> Table:
    """What the stage is expected to take, which is said before a model is loaded."""
    return named(facts, f"{stage} -> models/{stage}")


def work(run: Run, trainer: Trainer, counts: dict[str, int], resumed: Path | None) -> Table:
    """What the stage is about to do."""
    parameters = trainer.model.num_parameters()  # those in 4 bit are counted as what they stand for
    settings, own, arguments = run.settings, run.settings.own, trainer.args
    length = f"{arguments.max_steps} steps" if arguments.max_steps > 0 else f"{arguments.num_train_epochs:g} epochs"
    left_out = [f"{n:,} {name.removeprefix('rows_').replace('_', ' ')}" for name, n in counts.items() if name != "rows"]
    rows = f"{counts['rows']:,} to train on, {len(run.eval_rows):,} held out; left out {', '.join(left_out)}"
    model = f"{own.init}, {parameters / 1e6:.2f} M parameters"
    if settings.own.lora:
        trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
        model += f", of which {trained / 1e6:.2f} M are trained: LoRA of rank {settings.own.lora.rank}"
        model += " on weights in 4 bit" if settings.own.lora.load_in_4bit else ""
    training = f"{length} of {own.batch} sequences, learning rate {settings.lr:g}"
    facts = {"model": model, "rows": rows, "training": training}
    return named(facts | ({"resumed": f"from {resumed.name.replace('-', ' ')}"} if resumed else {}))


def outcome(run: Run, before: dict[str, Any], during: dict[str, Any], after: dict[str, Any]) -> Table:
    """The held-out figures before and after training, and below them those of the training itself."""
    stage, init = run.settings.stage, run.settings.own.init
    table = Table("held out", "before", "after", box=box.SIMPLE_HEAD, title=f"models/{stage}")
    table.title_justify, table.title_style, table.caption_justify = "left", "bold", "left"
    first, last = flatten_dict(before), flatten_dict(after)
    for name in last:
        table.add_row(name, *(f"{figures[name]:.4g}" if name in figures else "" for figures in (first, last)))
    captions = [f"while it trained: {name} {value:.4g}" for name, value in during.items()]
    if last.keys() - first.keys():
        captions.append(f"empty: measured when {init} was made, and not again")
    table.caption = "\n".join(captions)
    return table
