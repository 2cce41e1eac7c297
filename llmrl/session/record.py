"""runs/<YYYYMMDD_HHMMSS_xxxx>_<stage>[_<experiment>]/: the record of a stage's run, whatever became of it; git-ignored.

run.json          run id, stage, settings, versions, git commit and what was changed since, DVC experiment, device,
                  phases (seconds, peak of memory, energy), duration, exit, the hash of the model
console.log       what the terminal showed
events.log        its phases, and what libraries logged, with times
sample.txt        the first row it trains on, with what the loss covers marked
metrics.jsonl     every figure of every logged step, with time and memory
prompts.parquet   GRPO with a pass_rate: the answers that each prompt was judged by
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
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import transformers
from torch.utils.tensorboard import SummaryWriter
from transformers.integrations import TensorBoardCallback

from llmrl import repository
from llmrl.errors import InputError
from llmrl.progress import Progress
from llmrl.session import commit, meters, provenance, screen
from llmrl.training import processes
from llmrl.training.settings import Settings

log = logging.getLogger(__name__)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Folder:
    """The folder of one run."""

    def __init__(self, settings: Settings) -> None:
        experiment = os.environ.get("DVC_EXP_NAME")
        # By the folders' names TensorBoard lists the runs.
        names = [
            f"{datetime.now():%Y%m%d_%H%M%S}",
            secrets.token_hex(2),
            settings.stage,
            *([experiment] if experiment else []),
        ]
        self.id = "_".join(names)
        self.path = repository.root() / "runs" / self.id
        if processes.first():
            self.path.mkdir(parents=True)
        else:  # of several equal processes one keeps the record
            self.path = Path(tempfile.mkdtemp(prefix="llmrl-"))
        self.started = time.monotonic()
        self.record: dict[str, Any] = {
            "id": self.id,
            "stage": settings.stage,
            "settings": settings.deciding | {"run": asdict(settings.run), "answers": asdict(settings.answers)},
            "versions": provenance.versions(settings.packages),
            "commit": commit.head(),
            "changed": commit.uncommitted(),
            "experiment": experiment,
            "machine": platform.node(),
            "phases": {},  # seconds
            "phase_gib": {},
            "phase_joules": {},
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        self.write()
        self.meters = meters.Meters()
        self.terminal = screen.Terminal(self.path / "console.log", screen.console(settings.run))
        self.progress = screen.TrainingProgress(self.terminal, settings.stage)
        self.callbacks = [
            self.progress,
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
    def phase(self, name: str) -> Iterator[Progress]:
        """Show what the run is doing, and record what it took: seconds, memory, energy."""
        log.info("%s", name)
        begun = time.monotonic()
        self.meters.begin()
        with self.terminal.progress(self.record["stage"], name) as shown:
            yield shown
        self.record["phases"][name] = round(time.monotonic() - begun, 2)
        for taken, value in zip(("phase_gib", "phase_joules"), self.meters.end(), strict=True):
            if value:
                self.record[taken][name] = value


@contextmanager
def opened(settings: Settings) -> Iterator[Folder]:
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
        log.info("end: %s", end)
        folder.terminal.screen.show_cursor()  # as it was, also when a bar was cut short
        folder.terminal.paper.file.close()
        folder.write(seconds=round(time.monotonic() - folder.started, 1), peak_gib=folder.meters.close(), exit=end)
        if not processes.first():
            shutil.rmtree(folder.path)


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


class Journal(transformers.TrainerCallback):
    """Writes each log of the trainer as a line of JSON, with the seconds since the start, and the peak of memory of the
    phase so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.started = path, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if state.is_world_process_zero:
            seconds = round(time.monotonic() - self.started, 3)
            line = {"step": state.global_step, "seconds": seconds, "peak_gib": screen.peaks(), **logs}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
