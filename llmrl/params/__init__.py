"""params.yaml: the experiment, read and checked once a process, the whole of it whichever stage asks.

A night of training must not end in a typo of the last section. Nothing heavy is imported: the check costs a fraction of
a second, on any machine. `python -m llmrl.params` prints what each trainer gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrl.base.settings import Model
from llmrl.data.settings import Data
from llmrl.fields import from_section
from llmrl.graph import STAGES
from llmrl.measuring.settings import Answers
from llmrl.params.checks import check
from llmrl.session.settings import RunSettings
from llmrl.training import processes
from llmrl.training.settings import Settings

PATH = Path("params.yaml")


@dataclass(frozen=True)
class Experiment:
    """What params.yaml says, resolved; `stages` by their names. `asked` is the policy whose answers become pairs, as a
    stage that started from it would have it.
    """

    model: Model
    data: Data
    stages: dict[str, Settings]
    run: RunSettings
    asked: Settings


def experiment(path: Path = PATH) -> Experiment:
    """The experiment of a file. Raises InputError naming every mistake, as `check` does."""
    tree = check(path)
    model, data = from_section(Model, tree["model"]), from_section(Data, tree["data"])
    answers, run = from_section(Answers, tree["answers"]), from_section(RunSettings, tree["run"])
    started = processes.count(tree["launch"])
    given = (answers, run, data.max_defective, started)
    stages = {name: Settings.of(name, tree["train"], tree[name], *given) for name in STAGES}
    asked = Settings.of("dpo", tree["train"], {"init": data.preference.policy}, *given[:-1], processes=1)
    return Experiment(model, data, stages, run, asked)
