"""runs/<YYYYMMDD_HHMMSS_xxxx>/: the record of one stage run, whatever became of it; git-ignored.

run.json          run id, stage, settings, versions, git commit, DVC experiment, device, phases, duration, exit
console.log       what the terminal showed
events.log        its phases, and what libraries logged, with times
sample.txt        the first row it trains on, with what the loss covers marked
metrics.jsonl     every figure of every logged step, with time and memory
prompts.parquet   GRPO with a pass_rate: the answers that each prompt was judged by
answers_*.parquet every answer to the held-out prompts
completions/      GRPO: the completions of each logged step with each reward
before/, after/   the folders of trainers that only measure; GRPO: the completions of their evaluation
events.out.…      TensorBoard
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from torch.utils.tensorboard import SummaryWriter
from transformers.integrations import TensorBoardCallback

from llmrl import console, launch, models, params, repository
from llmrl.errors import InputError

log = logging.getLogger(__name__)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Folder:
    """The folder of one run."""

    def __init__(self, settings: params.Settings) -> None:
        stamp = datetime.now().strftime("%Y%m%d_%H%M%S")
        self.id = f"{stamp}_{secrets.token_hex(2)}"
        self.path = repository.root() / "runs" / self.id
        if launch.first():
            self.path.mkdir(parents=True)
        else:  # of several equal processes one keeps the record
            self.path = Path(tempfile.mkdtemp(prefix="llmrl-"))
        self.started = time.monotonic()
        self.phases: dict[str, float] = {}
        self.record: dict[str, Any] = {
            "id": self.id,
            "stage": settings.stage,
            "settings": settings.tracked | {"run": asdict(settings.run), "answers": asdict(settings.answers)},
            "versions": models.versions(settings.packages),
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
            "experiment": os.environ.get("DVC_EXP_NAME"),
            "machine": platform.node(),
            "phases": self.phases,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        self.write()
        self.terminal = console.Terminal(
            self.path / "console.log", settings.run.verbosity if launch.first() else "quiet"
        )
        self.callbacks = [
            console.Progress(self.terminal, settings.stage),
            Journal(self.path / "metrics.jsonl"),
            TensorBoardCallback(SummaryWriter(str(self.path))),
        ]

    def write(self, **more: Any) -> None:
        """Bring run.json up to date; it is whole at every instant, also where the disk is full."""
        self.record |= more
        new = self.path / "run.json.new"
        new.write_text(json.dumps(self.record, indent=2) + "\n")
        new.replace(self.path / "run.json")

    @contextmanager
    def phase(self, name: str, spinner: bool = True) -> Iterator[None]:
        """Say what the run is doing, and record the seconds it took."""
        log.info("%s", name)
        begun = time.monotonic()
        with self.terminal.doing(name) if spinner else nullcontext():
            yield
        self.phases[name] = round(time.monotonic() - begun, 2)

    def end(self, how: str | int) -> None:
        """Record how the run ended, and give the screen back."""
        log.info("end: %s", how)
        self.terminal.close()
        self.write(seconds=round(time.monotonic() - self.started, 1), peak_gib=console.peaks(), exit=how)
        if not launch.first():
            shutil.rmtree(self.path)

    def keep(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Keep a table as Parquet."""
        pq.write_table(pa.Table.from_pylist(rows), self.path / f"{name}.parquet")


@contextmanager
def opened(settings: params.Settings) -> Iterator[Folder]:
    """The folder of a new run, with all logging going into it, closed with the way the run ended."""
    folder = Folder(settings)
    listen(folder.path / "events.log")
    end: str | int = 0
    try:
        yield folder
    except BaseException as error:
        end = f"{type(error).__name__}: {error}"
        log.error("the run ended early", exc_info=not isinstance(error, InputError))
        raise
    finally:
        folder.end(end)


class Plain(logging.Formatter):
    """A line without the colours that some libraries put into theirs."""

    def format(self, record: logging.LogRecord) -> str:
        return COLOUR.sub("", super().format(record))


def listen(path: Path) -> None:
    """One logging set-up: every library's log and warnings into the file, none of it on the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(Plain("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk is said once, where it stops the run
    warnings.simplefilter("default")
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


class Journal(transformers.TrainerCallback):
    """Writes each log of the trainer as a line of JSON, with the seconds since the start and the peak of memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.started = path, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero:
            seconds = round(time.monotonic() - self.started, 3)
            line = {"step": state.global_step, "seconds": seconds, "peak_gib": console.peaks(), **(logs or {})}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def git(*arguments: str) -> str | None:
    """What git says, or None where there is no repository, or no git."""
    if not shutil.which("git"):
        return None
    done = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
