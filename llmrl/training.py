"""One training run, the same for the four stages:

    settings -> data -> trainer -> figures before -> train -> save -> figures of what was saved -> models/<stage>

A stage never half-succeeds: everything cheap is checked before a model is loaded, and models/<stage> takes its name
only when the last figure has been measured. A run that was killed goes on where its last checkpoint was written, and
one whose training had ended, from the trained model.
"""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import checkpoints, combinations, fit, interruption, launch, locks, memory, models, params, repository
from llmrl.errors import InputError, reported

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

    from llmrl.answers import Measured
    from llmrl.hardware import Hardware
    from llmrl.runs import Folder
    from llmrl.tracking import Figures

Choose = Callable[["Run", "checkpoints.Store", "Folder"], tuple["Run", dict[str, int]]]
Measure = Callable[["PreTrainedModel", "PreTrainedTokenizerBase", "Dataset", params.Answers, str], "Measured"]
HELD_OUT_PROMPTS = "data/prompts/eval.parquet"
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # torch's names of precisions


@dataclass(frozen=True)
class Stage:
    """What a stage is.

    `trainer` constructs TRL's trainer on the model in a folder; `kinds` are the settings that name a model folder, with
    the class of model each must hold; `tracked` TRL's names of figures, and ours (`*` stands for any reward),
    `averaged` those whose mean over the training is kept; `choose` gives the run without the rows of which nothing is
    learned, and counts them; `measure` measures a policy by its answers.
    """

    name: str
    trainer: Callable[[Run, str], Trainer]
    data: str
    kinds: dict[str, str]
    tracked: dict[str, str]
    averaged: tuple[str, ...] = ()
    choose: Choose | None = None
    measure: Measure | None = None

    def inputs(self, settings: params.Settings) -> list[Path]:
        """The models and data sets it is made from."""
        used = [getattr(settings.own, setting) for setting in self.kinds]
        return [Path(path) for path in (*used, self.data, *([HELD_OUT_PROMPTS] if self.measure else []))]


@dataclass(frozen=True)
class Run:
    """What a stage script needs to construct its trainer."""

    settings: params.Settings
    hardware: Hardware
    tokenizer: PreTrainedTokenizerBase
    train_rows: Dataset
    eval_rows: Dataset
    output_dir: Path
    name: str  # for trackers: the run's folder and the stage
    callbacks: list[TrainerCallback] = field(default_factory=list)
    memory: memory.Stage | None = None  # what it is expected to take; None of an architecture that is not known

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the stage's TRL config: what is decided here, and TRL's own from params.yaml."""
        settings = self.settings
        return {
            "output_dir": str(self.output_dir),
            "learning_rate": settings.lr,
            "seed": settings.own.seed,
            "per_device_train_batch_size": settings.own.micro_batch,
            "gradient_accumulation_steps": settings.own.batch // (settings.own.micro_batch * settings.processes),
            "report_to": settings.run.report_to,
            "run_name": self.name,
            "save_strategy": "no",  # resume.Checkpoints says when
            "logging_nan_inf_filter": False,  # guards.Finite stops at the first
            "disable_tqdm": True,
            "ddp_find_unused_parameters": False,  # there are none; to look costs time in each step
            **self.hardware.arguments,
            **settings.trl,
        }

    @property
    def loading(self) -> models.Loading:
        """How the model it trains is loaded."""
        lora = self.settings.lora
        four_bit = DTYPES[self.hardware.precision] if lora and lora.load_in_4bit else None
        return models.Loading(self.settings.own.attn_implementation, self.hardware.kernels == "liger", four_bit)

    @property
    def asked(self) -> models.Loading:
        """How a model is loaded that it only asks: its reference, or its judge."""
        return replace(self.loading, four_bit=None, frozen=DTYPES[self.hardware.precision])

    def policy(self, folder: str) -> PreTrainedModel:
        """The model of a folder, to answer: alone on the device, without trainer, adapters or whatever it learns with.

        So every policy is measured in one way, with as much memory for as many answers at once.
        """
        how = replace(self.asked, frozen=DTYPES[self.hardware.answers])
        return models.load_policy(folder, how).to(self.hardware.kind)

    def lora(self, task: str) -> LoraConfig | None:
        """The adapters to train in place of the weights, if any; of a classifier (SEQ_CLS) its head is trained too."""
        from peft import LoraConfig

        chosen = self.settings.lora
        if chosen is None:
            return None
        return LoraConfig(
            task_type=task,
            r=chosen.rank,
            lora_alpha=chosen.alpha,
            lora_dropout=chosen.dropout,
            target_modules=chosen.targets,
        )


def main(stage: Stage) -> None:
    """Run a stage from the command line.

    What the user can mend ends it with one message and exit status 2, a signal with 128 and its number.
    """
    with reported(), launch.one_voice():
        settings = params.stage(stage.name)
        launch.require(settings.processes)
        for setting, kind in stage.kinds.items():
            models.check_kind(getattr(settings.own, setting), kind, f"{stage.name}.{setting}")
        root = repository.root()
        for written in (Path("models"), Path("metrics", stage.name), root / "runs", root / ".llmrl"):
            require_writable(written)
        inputs, code = stage.inputs(settings), repository.code(stage.name)
        made_by = models.provenance(settings.tracked, inputs, code, settings.packages)
        # The figures before training, which a checkpoint keeps, are by this protocol.
        place = checkpoints.place(stage.name, made_by | {"answers": asdict(settings.answers)})
        with (
            interruption.heard(settings.run.grace, lambda: checkpoints.progress(place)) as stop,
            locks.experiment(place, stage.name),
            locks.device(stage.name),
        ):
            # torch and TRL cost seconds: from here on they are needed. They make half a million objects that stay;
            # looking through these for garbage, again and again and once more at the end, would cost two seconds.
            gc.disable()
            from llmrl import runs

            gc.freeze()
            gc.enable()
            with runs.opened(settings) as folder:
                run_stage(stage, settings, made_by, place, folder, stop)


def run_stage(
    stage: Stage,
    settings: params.Settings,
    made_by: dict[str, Any],
    place: Path,
    folder: Folder,
    stop: interruption.Stop,
) -> None:
    """Train, save and measure: models/<stage> and metrics/<stage>."""
    from llmrl import console, hardware, tracking

    if launch.first():
        checkpoints.clean()
    with folder.phase("loading"):
        run, too_long = prepared(stage, settings, folder)
        counts = {"rows": len(run.train_rows), "rows_too_long": too_long}
        out = Path("metrics", stage.name) if launch.first() else folder.path / "metrics"
        figures = tracking.Figures(stage.name, stage.tracked, stage.averaged, out, **counts)
        run.callbacks.extend([figures.callback, *folder.callbacks])
    folder.terminal.show(console.costs(run))
    parameters = run.memory.parameters if run.memory else None
    machine = run.hardware
    about = {"kind": machine.kind, "answers_in": machine.answers, "cudnn_attention": hardware.cudnn_attention()}
    folder.write(device=str(machine), **about, parameters=parameters)
    store = checkpoints.Store(place, str(run.hardware))
    if launch.first():
        store.open()
    launch.wait()
    work = Work(stage, run, figures, folder, store, stop)
    if not store.trained.exists():
        work.train(made_by | {"device": run.hardware.kind})
    work.finish()
    if launch.first() and (dvc := interruption.dvc()) is not None:
        checkpoints.clean_when_recorded(place, dvc)


def prepared(stage: Stage, settings: params.Settings, folder: Folder) -> tuple[Run, int]:
    """What the trainer is constructed from, and the number of rows left out for their length."""
    from llmrl import data, hardware

    own = settings.own
    machine = hardware.detect(settings)
    launch.join(machine.kind)
    config = json.loads((Path(settings.own.init) / "config.json").read_text())
    shape = memory.Shape.of(config)
    combinations.require(settings, config, shape is not None, machine.kind)
    expected = None
    if shape:
        liger = machine.kernels == "liger"
        expected = memory.Stage(shape, settings, machine.precision, machine.kind, machine.answers, liger)
    if expected:
        fit.require(expected, *machine.room(settings.run.memory_gib))
    tokenizer = models.load_tokenizer(settings.own.init)
    limit = own.max_prompt_length if stage.name == "grpo" else memory.option(settings, "max_length")
    train_rows, eval_rows, too_long = data.load(Path(stage.data), tokenizer, limit)
    eval_rows = eval_rows.select(range(whole_batches(len(eval_rows), settings)))
    name = f"{folder.id}-{stage.name}"
    return Run(settings, machine, tokenizer, train_rows, eval_rows, folder.path, name, memory=expected), too_long


def require_writable(folder: Path) -> None:
    """Write and remove a file, before hours of training end in being refused to. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def whole_batches(rows: int, settings: params.Settings) -> int:
    """How many held-out rows TRL's evaluation gets: it takes the mean over batches, so a smaller last one would weigh
    too much. Of fewer rows than a batch, all.
    """
    generations = settings.trl.get("num_generations_eval", settings.trl.get("num_generations", 1))
    batch = max(1, settings.trl.get("per_device_eval_batch_size", 8) * settings.processes // generations)
    rows = min(rows, settings.own.eval_rows or rows)
    return rows - rows % batch or rows


@dataclass(frozen=True)
class Work:
    """A stage at work: `train` ends with a trained model in the store, `finish` with that measured and in its place."""

    stage: Stage
    run: Run
    figures: Figures
    folder: Folder
    store: checkpoints.Store
    stop: interruption.Stop

    def train(self, made_by: dict[str, Any]) -> None:
        """Train, from the last checkpoint where there is one."""
        from llmrl import console, guards, resume, sample

        run, settings, folder, store = self.run, self.run.settings, self.folder, self.store
        resumed = store.newest()
        known = resumed or models.is_product(settings.own.init)  # measured when the run began, or the model was made
        answered = {} if known else self.answered("before", settings.own.init)
        if self.stage.choose:
            run, counts = self.stage.choose(run, store, folder)
            self.figures.counts |= counts
        with folder.phase("loading the model"):
            self.keep_completions()
            trainer = self.trainer(replace(run, output_dir=store.unfinished), settings.own.init)
        (folder.path / "sample.txt").write_text(sample.text(trainer, run.tokenizer), encoding="utf-8")
        folder.terminal.show(console.work(run, trainer, self.figures.counts, resumed))
        before = self.recall(resumed) if resumed else self.before(trainer) | answered

        def so_far() -> dict[str, Any]:
            return {"before": before, "points": self.figures.points, "counts": self.figures.counts}

        trainer.add_callback(guards.Finite(trainer, self.stage.name))
        trainer.add_callback(resume.Checkpoints(trainer, store, self.stop, settings.run, resumed, so_far))
        with self.stop.after_step():
            with folder.phase("training", spinner=False):
                trainer.train(resume_from_checkpoint=resumed and str(resumed))
            steps, last = trainer.state.global_step, trainer.state.max_steps
            if steps == last:
                with folder.phase("saving"):
                    if launch.first():
                        written = store.unfinished / "trained"
                        models.save(trainer.model, settings.own.init, written / "model", made_by, settings.lora)
                        product = repository.digest(written / "model")
                        store.keep(written, "trained", so_far() | {"steps": steps, "product": product})
                    launch.wait()
            elif not self.stop.asked:
                raise RuntimeError(f"stopped at step {steps} of {last}")
        if launch.first():
            store.limit(0)

    def finish(self) -> None:
        """Measure the model as saved and loaded again, as what is reported is what is shipped, and give it its name."""
        from llmrl import console

        gc.collect()
        kept = checkpoints.state(self.store.trained)
        if not self.figures.points:
            self.folder.terminal.show(f"{self.stage.name}: the model is trained; what is left is to measure it")
            self.recall(self.store.trained)
        unfinished, out = Path(f"models/.{self.stage.name}"), Path(f"models/{self.stage.name}")
        if launch.first():
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(self.store.trained / "model", unfinished)
        launch.wait()
        with self.folder.phase("measuring after"):
            trainer = self.trainer(evaluating(self.run, "after"), str(unfinished))
            after = self.figures.closing(evaluated(trainer))
            del trainer
            gc.collect()
        after |= self.answered("after", str(unfinished))
        if not launch.first():
            return
        if lost := [name for name in kept["before"] if name not in after]:
            shutil.rmtree(unfinished)
            raise InputError(
                f"{self.stage.name}: the training diverged: {', '.join(lost)} of the trained model is not finite. "
                f"Lower train.lr or {self.stage.name}.lr_scale in params.yaml; models/{self.stage.name} was not made."
            )
        self.figures.write(kept["steps"], kept["before"], after)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
        self.folder.terminal.show(console.outcome(self.run, kept["before"], self.figures.during(), after))

    def trainer(self, run: Run, init: str) -> Trainer:
        trainer = self.stage.trainer(run, init)
        settle(trainer)
        return trainer

    def keep_completions(self) -> None:
        """Have GRPO's trainer, which writes completions where it writes checkpoints, write them to the run's folder."""
        if self.stage.name == "grpo" and launch.first():
            (self.folder.path / "completions").mkdir()
            (self.store.unfinished / "completions").symlink_to(self.folder.path / "completions")

    def before(self, trainer: Trainer) -> dict[str, Any]:
        """TRL's evaluation of the model it starts from: the trainer's own, where that can be evaluated before training.

        accelerate never gives a model that was evaluated to several processes: each would train its own. One in 4 bit
        computes unlike the folder it came from, and unlike what it will be once it is saved.
        """
        init = self.run.settings.own.init
        with self.folder.phase("measuring before"):
            if self.run.settings.processes > 1 or self.run.loading.four_bit:
                trainer = self.trainer(evaluating(self.run, "before", self.figures.callback), init)
            found = self.figures.closing(evaluated(trainer))
            del trainer
            gc.collect()  # a trainer refers to itself, and would keep its model
        return found

    def recall(self, kept: Path) -> dict[str, Any]:
        """The figures before training, with the curves drawn and the rows counted so far, as an earlier process left
        them.
        """
        state = checkpoints.state(kept)
        self.figures.counts |= state["counts"]
        for step, values in state["points"]:
            self.figures.draw(step, values)
        return state["before"]

    def answered(self, when: str, folder: str) -> dict[str, Any]:
        """The figures of a policy's answers to the held-out prompts. All of these go to the run's folder, and a few to
        metrics/.
        """
        from llmrl import data

        if not self.stage.measure or not launch.first():
            return {}
        run = self.run
        with self.folder.phase(f"answering {when}"):
            prompts = data.read(Path(HELD_OUT_PROMPTS))
            given = (run.tokenizer, prompts, run.settings.answers, run.hardware.answers)
            measured = self.stage.measure(run.policy(folder), *given)
            gc.collect()  # a model with Liger's kernels refers to itself
        self.folder.keep(f"answers_{when}", measured.rows)
        self.figures.samples(measured.rows)
        return {"answers": measured.figures}


def settle(trainer: Trainer) -> None:
    """Have a trainer as it shall be where TRL and transformers have no option for it."""
    import transformers
    from accelerate.utils import AutocastKwargs

    models.keep_small_updates(trainer.model)
    models.keep_one_hook(trainer.model)
    # A forward pass casts each matrix once; to keep the casts until it ends takes half of what the weights do.
    trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    trainer.remove_callback(transformers.PrinterCallback)  # the terminal has its progress bar


def evaluated(trainer: Trainer) -> dict[str, float]:
    """The figures of TRL's evaluation, in the precision of the training.

    transformers has accelerate see to that, but not where it finds a model that accelerate knows: DPO's reference or
    GRPO's judge. The policy's log-probabilities would then be those of float32, beside a reference's of bfloat16.
    """
    with trainer.accelerator.autocast():
        return trainer.evaluate()


def evaluating(run: Run, when: str, *callbacks: TrainerCallback) -> Run:
    """The run of a trainer that only evaluates a whole model: it reports to nobody, its completions have a folder of
    their own.
    """
    quiet, whole = replace(run.settings.run, report_to="none"), replace(run.settings.own, lora=None)
    settings = replace(run.settings, run=quiet, own=whole)
    one_row = run.train_rows.select(range(1))  # a trainer must have some
    return replace(
        run, settings=settings, train_rows=one_row, callbacks=list(callbacks), output_dir=run.output_dir / when
    )
