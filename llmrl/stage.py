"""One run of a stage, from its command line to its figures, the same for the four:

    params.yaml -> checks -> rows -> training -> models/<stage> -> its figures, in metrics/<stage>

A stage never half-succeeds: everything cheap is checked before a model is loaded. A run that was killed goes on where
its last checkpoint was written.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl import folders, params, repository
from llmrl.errors import reported
from llmrl.graph import STAGES
from llmrl.session import interruption
from llmrl.training import processes

if TYPE_CHECKING:
    from llmrl.training.loop import Build


def main(name: str, build: Build) -> None:
    """Run a stage; `build` constructs its trainer.

    What the user can mend ends it with one message and exit status 2, a signal with 128 and its number.
    """
    with reported(), processes.one_voice():
        experiment = params.experiment()
        settings, root = experiment.stages[name], repository.root()
        processes.require(settings.processes)
        for setting, kind in STAGES[name].models.items():
            folders.check_kind(getattr(settings.own, setting), kind, f"{name}.{setting}")
        for written in (Path("models"), Path("metrics", name), root / "runs", root / ".llmrl"):
            written.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=written):  # before hours of training end in being refused to
                pass
        with interruption.heard(settings.run.grace) as stop:
            # torch and TRL cost seconds: from here on they are needed. They make half a million objects that stay;
            # looking through these for garbage, again and again and once more at the end, would cost two seconds.
            gc.disable()
            from llmrl import work

            gc.freeze()
            gc.enable()
            work.run_stage(experiment, name, build, stop)
