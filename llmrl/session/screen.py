"""What the terminal shows of a run: what it is about to do, a progress bar, a closing table of before and after.

In a log file: a line now and then, no control characters.
"""

from __future__ import annotations

import io
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import datasets
import torch
from rich import box
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text
from transformers import TrainerCallback
from transformers.utils import flatten_dict
from transformers.utils import logging as transformers_logging

from llmrl.progress import Progress, print_line
from llmrl.session import guards
from llmrl.training import processes

if TYPE_CHECKING:
    from transformers import Trainer

    from llmrl.session.settings import RunSettings
    from llmrl.training.run import Run

GIB = 2**30
# How tqdm draws a bar: what is done, how much of it, and of how much.
BAR = re.compile(r"\r(?:(?P<what>.+?): +)?\d+%\|.*\| (?P<done>\d+)/(?P<whole>\d+) \[")
UNBOUNDED = re.compile(r"\[\d\d:\d\d, .*\]\s*$|^\s*$")  # of no known whole; or cleared
datasets.disable_progress_bars()  # but where they are shown in ours


def peaks() -> dict[str, float]:
    """The most memory that was taken since a phase began (meters.py has it counted anew), in GiB: of a GPU allocated,
    and reserved, by torch; else resident.
    """
    if torch.cuda.is_available():
        taken = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        taken = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return {name: round(size / GIB, 2) for name, size in taken.items()}


def console(settings: RunSettings) -> Console:
    """The screen, on which of several processes the first shows something, unless it shall not."""
    return Console(quiet=settings.verbosity == "quiet" or not processes.first(), highlight=False)


class Terminal:
    """The screen, and a plain copy of it in a file."""

    def __init__(self, copy: Path, screen: Console) -> None:
        self.screen = screen
        self.paper = Console(file=copy.open("w", encoding="utf-8"), width=100, highlight=False, color_system=None)
        self.shown = Progress("", screen, self.line)  # that of the phase, if there is one

    def show(self, what: RenderableType) -> None:
        """Show a table as wide as the screen, and a text in the lines it has: commands in it are to be copied."""
        for where in (self.screen, self.paper):
            where.print(what, soft_wrap=isinstance(what, str | Text))

    def line(self, text: str) -> None:
        """A line of what goes on: on a screen there is a bar in its place."""
        for where in [self.paper] + [self.screen] * (not self.screen.is_terminal):
            print_line(where, text)

    @contextmanager
    def progress(self, stage: str, phase: str) -> Iterator[Progress]:
        """A phase of a stage, with what libraries count in it."""
        with Progress(f"{stage}: {phase}", self.screen, self.line, stays=phase == "training") as self.shown:
            bars = Bars(sys.stderr, self.shown, stage)
            datasets.enable_progress_bars()
            transformers_logging.enable_progress_bar()
            try:
                with redirect_stderr(bars):
                    yield self.shown
            finally:
                datasets.disable_progress_bars()
                transformers_logging.disable_progress_bar()


class Bars(io.TextIOBase):
    """stderr, while a phase lasts: bars that libraries draw there by tqdm, such as datasets' of rows that TRL tokenises
    and transformers' of weights that are loaded, are shown in the phase's own; all else goes where it did.
    """

    def __init__(self, stderr: TextIO, shown: Progress, stage: str) -> None:
        self.stderr, self.shown, self.stage = stderr, shown, stage
        self.within = False  # a bar, whose lines have no ends

    def write(self, text: str) -> int:
        bar = BAR.match(text)
        if bar or (text.startswith("\r") and UNBOUNDED.search(text)):
            self.within = True
            if bar and (whole := int(bar["whole"])) > 1:  # one of one says nothing
                what = bar["what"] and f"{self.stage}: {bar['what'][0].lower()}{bar['what'][1:]}"
                self.shown.count(int(bar["done"]), whole, doing=what or "")
        elif not self.within or text.strip("\n\x1b[A"):  # by which bars are left, or come to stand below each other
            self.within = False
            self.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        self.stderr.flush()

    def fileno(self) -> int:
        return self.stderr.fileno()


class TrainingProgress(TrainerCallback):
    """What the bar of a phase shows of a trainer: time left, loss and memory while it trains, batches while it
    evaluates; in a log file, a line now and then.
    """

    def __init__(self, terminal: Terminal, stage: str) -> None:
        self.terminal, self.stage = terminal, stage
        self.loss = self.signal = ""
        self.training = False
        self.evaluated = 0  # batches

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began, self.resumed = time.monotonic(), state.global_step  # the step it goes on from
        self.training = True
        self.between(state, "")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        name = "reward" if "reward" in logs else "loss"
        if name in logs:
            self.loss = f"{name} {'none' if logs[name] is None else f'{logs[name]:.3f}'}"  # of a batch nobody judged
        if "frac_reward_zero_std" in logs:
            self.signal = f"{guards.judged_signal(logs)[0]:.0%}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, last = state.global_step, state.max_steps
        left = (time.monotonic() - self.began) / (step - self.resumed) * (last - step)
        memory = " ".join(f"{size:g} GiB {name}" for name, size in peaks().items())
        share = self.signal and f"  signal {self.signal}"  # short, as GRPO's line shall fit 80 columns
        words = f"{step}/{last} left {timedelta(seconds=round(left))} {self.loss}{share}  {memory}"
        share = self.signal and f"  {self.signal} of groups with signal"
        line = f"{self.stage} step {step}/{last}  {self.loss}{share}  {left:.0f} s left  {memory}"
        self.after_step = (self.stage, step, last, words, line)
        self.terminal.shown.show(*self.after_step)
        self.terminal.shown.tell(now=step == last)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > self.resumed:  # what was between two steps is over
            self.terminal.shown.show(*self.after_step)
        else:
            self.between(state, "")

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any) -> None:
        self.evaluated += 1
        if self.training:
            self.between(state, f"evaluating {self.evaluated}/{len(eval_dataloader)}")
        else:
            self.terminal.shown.count(self.evaluated, len(eval_dataloader), "batches")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.evaluated = 0
        if control.should_save:
            self.saving(state)

    def saving(self, state: Any) -> None:
        self.between(state, "saving a checkpoint")

    def between(self, state: Any, what: str) -> None:
        """Show what is being done before a step, or after it."""
        step, last = state.global_step, state.max_steps
        line = f"{self.stage} step {step}/{last}  {what}".rstrip()
        self.terminal.shown.show(self.stage, step, last, f"{step}/{last} {what}", line)
        self.terminal.shown.tell()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.training = False


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


def cell(figures: dict[str, Any], name: str) -> str:
    """A figure, with its interval where it has one; empty where it was not measured.

    >>> cell({"greedy": 0.25, "greedy_low": 0.1, "greedy_high": 0.5}, "greedy")
    '0.25 (0.1 to 0.5)'
    """
    if name not in figures:
        return ""
    low, high = (figures.get(f"{name}_{end}") for end in ("low", "high"))
    return f"{figures[name]:.4g}" + ("" if low is None else f" ({low:.3g} to {high:.3g})")


def outcome(run: Run, before: dict[str, Any], during: dict[str, Any], after: dict[str, Any]) -> Table:
    """The held-out figures before and after training, and below them those of the training itself."""
    stage, init = run.settings.stage, run.settings.own.init
    names = Column("held out", overflow="fold")  # of a task's figures the last part tells them apart
    table = Table(names, "before", "after", box=box.SIMPLE_HEAD, title=f"models/{stage}")
    table.title_justify, table.title_style, table.caption_justify = "left", "bold", "left"
    first, last = flatten_dict(before), flatten_dict(after)
    for name in last:
        if not name.endswith(("_low", "_high")):
            table.add_row(name, *(cell(figures, name) for figures in (first, last)))
    captions = [f"while it trained: {name} {value:.4g}" for name, value in during.items()]
    if "answers" in after and "answers" not in before:
        captions.append(f"empty: measured when {init} was made, and not again")
    table.caption = "\n".join(captions)
    return table
