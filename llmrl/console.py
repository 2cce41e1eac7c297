"""What the terminal shows of a run: what it is about to do, one progress bar, a closing table of before and after.

In a log file: a line now and then, no control characters.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich import box, progress
from rich.console import Console, RenderableType
from rich.table import Table
from transformers import TrainerCallback

from llmrl import fit, plan

if TYPE_CHECKING:
    from transformers import Trainer

    from llmrl.training import Run

GIB = 2**30
LINE_EVERY = 30.0  # seconds between two lines in a log file


def peaks() -> dict[str, float]:
    """The most memory that was taken so far, in GiB: of a GPU allocated, and reserved, by torch; else resident."""
    if torch.cuda.is_available():
        taken = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        taken = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return {name: round(size / GIB, 2) for name, size in taken.items()}


def peak() -> str:
    """The same in words, shortly."""
    return " ".join(f"{size:g} GiB {name}" for name, size in peaks().items())


class Terminal:
    """The screen, and a plain copy of it in a file."""

    def __init__(self, copy: Path, verbosity: str) -> None:
        self.screen = Console(quiet=verbosity == "quiet", highlight=False)
        self.file = copy.open("w", encoding="utf-8")
        self.paper = Console(file=self.file, width=100, highlight=False, color_system=None)

    def show(self, what: RenderableType) -> None:
        """Show it on the screen, and in the copy."""
        self.screen.print(what)
        self.paper.print(what)
        self.file.flush()

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what takes a while: a spinner on a screen, nothing in a log file."""
        if self.screen.is_terminal:
            with self.screen.status(what):
                yield
        else:
            yield

    def close(self) -> None:
        """Give the screen back as it was, also when a bar was cut short."""
        self.screen.show_cursor()
        self.file.close()


class Progress(TrainerCallback):
    """One bar with time left, loss and memory; where there is no screen, a line now and then."""

    def __init__(self, terminal: Terminal, stage: str) -> None:
        self.terminal, self.stage = terminal, stage
        self.loss = self.signal = ""
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[loss]}  {task.fields[memory]}"),
            console=terminal.screen,
            disable=not terminal.screen.is_terminal,
        )
        self.task = progress.TaskID(0)
        self.began = self.said = 0.0
        self.resumed = 0  # the step it goes on from

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.resumed = state.global_step
        self.task = self.bar.add_task(self.stage, total=state.max_steps, completed=self.resumed, loss="", memory=peak())
        self.bar.start()
        self.began = self.said = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        name = "reward" if "reward" in (logs or {}) else "loss"
        if logs and name in logs:
            self.loss = f"{name} {logs[name]:.3f}"
        if logs and "frac_reward_zero_std" in logs:
            self.signal = f"{1 - logs['frac_reward_zero_std']:.0%}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        share = self.signal and f"  signal {self.signal}"  # short, as GRPO's line shall fit 80 columns
        self.bar.update(self.task, completed=state.global_step, loss=self.loss + share, memory=peak())
        now = time.monotonic()
        if now - self.said >= LINE_EVERY or state.global_step == state.max_steps:
            self.said = now
            done = state.global_step - self.resumed
            left = (now - self.began) / done * (state.max_steps - state.global_step)
            share = self.signal and f"  {self.signal} of groups with signal"
            line = f"{self.stage} step {state.global_step}/{state.max_steps}  {self.loss}{share}  {left:.0f} s left"
            self.terminal.paper.print(f"{line}  {peak()}", soft_wrap=True)
            if not self.terminal.screen.is_terminal:
                self.terminal.screen.print(f"{line}  {peak()}", soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.stop()


def aligned() -> Table:
    """Two columns, of which the first is as wide in one table as in the next."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=len("  training"))
    table.add_column()
    return table


def costs(run: Run) -> Table:
    """What the stage is expected to take, which is said before a model is loaded."""
    table = aligned()
    table.title = f"{run.settings.stage} -> models/{run.settings.stage}"
    table.title_justify, table.title_style = "left", "bold"
    table.add_row("  device", str(run.hardware))
    if run.memory is None:
        return table
    table.add_row("  memory", fit.summary(run.memory))
    table.add_row("  disk", fit.size(sum(plan.disk(run.memory).values())))
    if steps := plan.steps(run.settings):
        time = plan.time_of(run.memory, steps)
        table.add_row("  time", f"{plan.span(time.seconds)}, {time.source}")
    return table


def work(run: Run, trainer: Trainer, counts: dict[str, int], resumed: Path | None) -> Table:
    """What the stage is about to do."""
    table = aligned()
    parameters = trainer.model.num_parameters()  # those in 4 bit are counted as what they stand for
    settings, own, arguments = run.settings, run.settings.own, trainer.args
    length = f"{arguments.max_steps} steps" if arguments.max_steps > 0 else f"{arguments.num_train_epochs:g} epochs"
    left_out = [f"{n:,} {name.removeprefix('rows_').replace('_', ' ')}" for name, n in counts.items() if name != "rows"]
    rows = f"{counts['rows']:,} to train on, {len(run.eval_rows):,} held out; left out {', '.join(left_out)}"
    model = f"{own.init}, {parameters / 1e6:.2f} M parameters"
    if settings.lora:
        trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
        model += f", of which {trained / 1e6:.2f} M are trained: LoRA of rank {settings.lora.rank}"
        model += " on weights in 4 bit" if settings.lora.load_in_4bit else ""
    for name, value in {
        "model": model,
        "rows": rows,
        "training": f"{length} of {own.batch} sequences, learning rate {settings.lr:g}",
        **({"resumed": f"from {resumed.name.replace('-', ' ')}"} if resumed else {}),
    }.items():
        table.add_row(f"  {name}", value)
    return table


def outcome(run: Run, before: dict[str, Any], during: dict[str, Any], after: dict[str, Any]) -> Table:
    """The held-out figures before and after training, and below them those of the training itself."""
    stage, init = run.settings.stage, run.settings.own.init
    table = Table(
        "held out",
        "before",
        "after",
        box=box.SIMPLE_HEAD,
        title=f"models/{stage}",
        title_justify="left",
        title_style="bold",
    )
    first, last = flat(before), flat(after)
    for name in last:
        table.add_row(name, *(f"{figures[name]:.4g}" if name in figures else "" for figures in (first, last)))
    captions = [f"while it trained: {name} {value:.4g}" for name, value in during.items()]
    if last.keys() - first.keys():
        captions.append(f"empty: measured when {init} was made, and not again")
    table.caption = "\n".join(captions)
    table.caption_justify = "left"
    return table


def flat(figures: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures under dotted names."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
