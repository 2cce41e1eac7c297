"""One training run, the same for the four stages:

    settings -> data -> trainer -> figures before -> train -> save -> figures of what was saved -> models/<stage>

A stage never half-succeeds: everything cheap is checked before a model is loaded, and models/<stage> takes its name
only when the last figure has been measured.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import models, params
from llmrl.errors import InputError, reported

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

    from llmrl.answers import Measured
    from llmrl.hardware import Hardware
    from llmrl.runs import Folder
    from llmrl.tracking import Figures

Measure = Callable[["PreTrainedModel", "PreTrainedTokenizerBase", "Dataset", params.Answers], "Measured"]
HELD_OUT_PROMPTS = "data/prompts/eval.parquet"


@dataclass(frozen=True)
class Stage:
    """What a stage is, beside its trainer.

    `kinds` are the settings that name a model folder, with the class of model each must hold; `limit` the setting
    that bounds a row's tokens; `tracked` TRL's names of figures, and ours (`*` stands for any reward); `measure`
    measures a policy by its answers.
    """

    name: str
    data: str
    kinds: dict[str, str]
    limit: str
    tracked: dict[str, str]
    measure: Measure | None = None


@dataclass(frozen=True)
class Run:
    """What a stage script needs to construct its trainer."""

    settings: params.Settings
    hardware: Hardware
    tokenizer: PreTrainedTokenizerBase
    train_rows: Dataset
    eval_rows: Dataset
    output_dir: Path
    callbacks: list[TrainerCallback] = field(default_factory=list)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the stage's TRL config: what is decided here, and TRL's own from params.yaml."""
        settings = self.settings
        return {
            "output_dir": str(self.output_dir),
            "learning_rate": settings.lr,
            "seed": settings.own.seed,
            "per_device_train_batch_size": settings.own.micro_batch,
            "gradient_accumulation_steps": settings.own.batch // settings.own.micro_batch,
            "report_to": settings.run.report_to,
            "save_strategy": "no",
            "disable_tqdm": True,
            **self.hardware.arguments,
            **settings.trl,
        }


Build = Callable[[Run, str], "Trainer"]


def main(stage: Stage, build: Build) -> None:
    """Run a stage from the command line; what the user can mend ends it with one message and exit status 2."""
    with reported():
        settings = params.stage(stage.name)
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise InputError(
                "params.yaml: launch: a stage runs as one process as yet, not under torchrun with several."
            )
        for setting, kind in stage.kinds.items():
            models.check_kind(getattr(settings.own, setting), kind, f"{stage.name}.{setting}")
        # torch and TRL cost seconds: from here on they are needed. They make half a million objects that stay; looking
        # through these for garbage, again and again and once more at the end, would cost two seconds.
        gc.disable()
        from llmrl import runs

        gc.freeze()
        gc.enable()
        with runs.opened(settings) as folder:
            run_stage(stage, build, settings, folder)


def run_stage(stage: Stage, build: Build, settings: params.Settings, folder: Folder) -> None:
    """Train, save and measure: models/<stage> and metrics/<stage>."""
    from llmrl import console, tracking

    with folder.phase("loading"):
        run, too_long = prepared(stage, settings, folder)
        counts = {"rows": len(run.train_rows), "rows_too_long": too_long}
        figures = tracking.Figures(stage.name, stage.tracked, **counts)
        run.callbacks.extend([figures.callback, *folder.callbacks])
        measure = Measuring(stage, run, figures, folder)
        trainer = quiet(build(run, settings.own.init))
    folder.write(device=f"{run.hardware.name}, {run.hardware.precision}")
    folder.terminal.show(console.plan(run, trainer, too_long))
    with folder.phase("measuring before"):
        before = measure(trainer, "before", answers=not models.is_product(settings.own.init))
    with folder.phase("training", spinner=False):
        trainer.train()
    steps = trainer.state.global_step
    if steps < trainer.state.max_steps:
        raise RuntimeError(f"stopped at step {steps} of {trainer.state.max_steps}")
    unfinished, out = Path(f"models/.{stage.name}"), Path(f"models/{stage.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    with folder.phase("saving"):
        models.save(trainer.model, settings.own.init, unfinished, provenance(stage, run))
    del trainer
    gc.collect()

    with folder.phase("measuring after"):
        # What is reported is what is shipped: the model as saved and loaded again.
        trainer = quiet(build(evaluating(run), str(unfinished)))
        after = measure(trainer, "after", answers=True)
    if lost := [name for name in before if name not in after]:
        raise InputError(
            f"{stage.name}: the training diverged: {', '.join(lost)} of the trained model is not finite. "
            f"Lower train.lr or {stage.name}.lr_scale in params.yaml; nothing was kept."
        )
    figures.write(steps, before, after)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    folder.terminal.show(console.outcome(stage.name, before, after))


def prepared(stage: Stage, settings: params.Settings, folder: Folder) -> tuple[Run, int]:
    """What the trainer is constructed from, and the number of rows left out for their length."""
    from llmrl import data, hardware

    machine = hardware.detect(settings.own.precision, settings.own.threads)
    tokenizer = models.load_tokenizer(settings.own.init)
    limit = getattr(settings.own, stage.limit, settings.trl.get(stage.limit))
    train_rows, eval_rows, too_long = data.load(Path(stage.data), tokenizer, limit)
    eval_rows = eval_rows.select(range(whole_batches(len(eval_rows), settings)))
    return Run(settings, machine, tokenizer, train_rows, eval_rows, folder.path), too_long


def evaluating(run: Run) -> Run:
    """The run of a trainer that only evaluates: it reports to nobody, its completions have a folder of their own."""
    settings = replace(run.settings, run=replace(run.settings.run, report_to="none"))
    one_row = run.train_rows.select(range(1))  # a trainer must have some
    return replace(run, settings=settings, train_rows=one_row, callbacks=[], output_dir=run.output_dir / "after")


def whole_batches(rows: int, settings: params.Settings) -> int:
    """How many held-out rows TRL's evaluation gets: it takes the mean over batches, so a smaller last one would weigh
    too much. Of fewer rows than a batch, all.
    """
    generations = settings.trl.get("num_generations_eval", settings.trl.get("num_generations", 1))
    batch = max(1, settings.trl.get("per_device_eval_batch_size", 8) // generations)
    rows = min(rows, settings.own.eval_rows or rows)
    return rows - rows % batch or rows


def provenance(stage: Stage, run: Run) -> dict[str, Any]:
    """What makes the stage's model."""
    inputs = [getattr(run.settings.own, setting) for setting in stage.kinds]
    inputs += [stage.data, *([HELD_OUT_PROMPTS] if stage.measure else [])]
    return models.provenance(run.settings.tracked, [Path(path) for path in inputs], run.hardware.kind)


@dataclass(frozen=True)
class Measuring:
    """Takes a model's held-out figures: TRL's evaluation and, of a policy, the answers to the held-out prompts."""

    stage: Stage
    run: Run
    figures: Figures
    folder: Folder

    def __call__(self, trainer: Trainer, when: str, answers: bool) -> dict[str, Any]:
        """The figures under our names. With `answers`, all of these go to the run's folder, and a few to metrics/."""
        from llmrl import data

        found = self.figures.closing(trainer.evaluate())
        if answers and self.stage.measure:
            prompts = data.read(Path(HELD_OUT_PROMPTS))
            measured = self.stage.measure(trainer.model, self.run.tokenizer, prompts, self.run.settings.answers)
            self.folder.keep(f"answers_{when}", measured.rows)
            self.figures.samples(measured.rows)
            found["answers"] = measured.figures
        return found


def quiet(trainer: Trainer) -> Trainer:
    """Without transformers' own printing of each log: the terminal has its progress bar."""
    import transformers

    trainer.remove_callback(transformers.PrinterCallback)
    return trainer
