"""A stage at work: the training attended, models/<stage> saved, its figures measured.

models/<stage> takes its name only when the last figure has been measured. A run whose training had ended goes on from
the trained model; and a model that DVC's cache has is not trained again to be measured.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.text import Text

from llmrl import folders, repository
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.measuring import held_out
from llmrl.measuring.answers import policy_name
from llmrl.measuring.figures import Figures, has_curve
from llmrl.memory import auto, formula
from llmrl.memory.shape import Shape, numbers
from llmrl.models import DTYPES, loading, saving
from llmrl.params import on_model
from llmrl.plan import costs, fit
from llmrl.progress import Progress
from llmrl.session import (
    allocator,
    checkpoints,
    commit,
    edits,
    gates,
    guards,
    interruption,
    locks,
    provenance,
    record,
    resume,
    sample,
    screen,
    tripwires,
)
from llmrl.training import hardware, loop, processes, rows
from llmrl.training.run import Run

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

    from llmrl.params import Experiment
    from llmrl.session.interruption import Stop
    from llmrl.training.settings import Settings


LARGE = 10_000_000  # parameters from which on a CPU holes between tensors are worth the time that filling them takes
HEEDED = 0.5  # the share of what adapters add below which it is said how much rounding leaves
PRECISIONS = {dtype: precision for precision, dtype in DTYPES.items()}


def run_stage(experiment: Experiment, name: str, build: loop.Build, stop: Stop) -> None:
    """Train, save and measure: models/<name> and metrics/<name>."""
    asked_for, recorded = experiment.stages[name], edits.snapshot(name)
    settings = auto.resolved(asked_for, config_in(asked_for))  # before anything is recorded, or named, by its settings
    for later in experiment.stages.values() if STAGES[name].answers else ():  # which are made after data/prompts
        rows.require_solutions(later)
    if STAGES[name].answers and experiment.data.preference.sampled:
        rows.require_judged("data.preference.source: sampled")
    tokenizer = loading.load_tokenizer(settings.own.init)
    with Progress(f"{name}: reading inputs", screen.console(settings.run)) as shown:
        eval_rows, left_out = rows.evaluated_on(settings, tokenizer, shown.counting)
        if STAGES[name].answers:  # what stands in the way of measuring is said before training
            held_out.answerable(settings, tokenizer, shown.counting)
            if "reward_model" in STAGES[name].models:
                list(held_out.ancestors(settings))
        made_by = provenance.made_by(settings, eval_rows)
    place = checkpoints.place(name, made_by)
    stop.goes_on = lambda: checkpoints.progress(place)
    with locks.alone_in(place, name), locks.device(name), record.opened(settings) as folder:
        with folder.phase("loading"):
            machine = hardware.detect(settings)
            processes.join(machine.kind)
            auto.require_alike(asked_for, settings, machine.kind)
            shape = Shape.of(config_in(settings))
            if machine.kind == "cpu" and shape and numbers(shape.tensors()) > LARGE:
                allocator.returns_large_blocks()
        run = Run(settings, machine, tokenizer, eval_rows, left_out, folder.path, folder.id)
        Work(experiment, run, build, made_by, recorded, folder, checkpoints.Store(place, str(machine)), stop).do()


def config_in(settings: Settings) -> dict[str, Any]:
    """The config.json of the model that a stage starts from."""
    return json.loads(Path(settings.own.init, "config.json").read_text(encoding="utf-8"))


@dataclass
class Work:
    """A stage at work; it also attends its training (training/loop.py), and decides no byte of that."""

    experiment: Experiment
    run: Run
    build: loop.Build
    made_by: dict[str, Any]
    recorded: dict[str, Any]  # by DVC, if nothing is edited meanwhile
    folder: record.Folder
    store: checkpoints.Store
    stop: Stop
    checkpoint: Path | None = None  # from which it goes on

    def __post_init__(self) -> None:
        self.settings, self.name, self.phase = self.run.settings, self.run.settings.stage, self.folder.phase
        out = Path("metrics", self.name) if processes.first() else self.folder.path / "metrics"
        self.figures = Figures(self.name, out)
        self.stage, self.seen = STAGES[self.name], self.figures.seen
        self.run = replace(self.run, callbacks=[self.figures, *self.folder.callbacks])

    def do(self) -> None:
        """Train, unless this very model is trained already; measure it, and give it its name."""
        if processes.first():
            checkpoints.clean()
            self.store.open()
            if interruption.asked_for() and checkpoints.is_recorded(self.store.place):
                self.store.drop(self.store.trained)  # to train it anew
        processes.wait()
        model, said = self.known()
        planned, machine = self.planned(refuse=model is None), self.run.hardware
        cudnn = torch.backends.cuda.cudnn_sdp_enabled()
        about = {"kind": machine.kind, "cudnn_attention": cudnn}
        about |= {"answers_in": machine.answers, "answers_by": machine.engine}
        facts = {"device": str(machine)} | auto.became(self.experiment.stages[self.name], self.settings)
        if self.stage.answers:
            facts["answers"] = f"{machine.answers}, by {machine.engine}"
        if self.settings.trl.get("use_vllm"):
            about["completions_by"] = f"vllm {self.made_by['versions']['vllm']}"
            facts["completions"] = f"by {about['completions_by']}: no two runs draw the same, nor does one that goes on"
        data = costs.prepared(self.experiment.data)
        self.folder.write(device=str(machine), **about, parameters=planned and planned.parameters, data=asdict(data))
        taken = costs.said(planned, data, str(machine)) if planned and model is None else {}
        self.folder.terminal.show(screen.costs(self.name, facts | taken))
        if model is None:
            self.train()
            model = self.known()[0] or {}
        else:
            self.folder.terminal.show(said)
            self.recall(json.loads(model[folders.TRAINING].read_text(encoding="utf-8")))
        gc.collect()
        self.measure(model)

    def known(self) -> tuple[dict[str, Path] | None, str]:
        """The files of this very model, where an earlier process or DVC's cache has it trained already; and words."""
        if (trained := self.store.trained / "model").exists():
            files = {str(path.relative_to(trained)): path for path in trained.rglob("*") if path.is_file()}
            return files, f"{self.name}: the model is trained; what is left is to measure it"
        ask = processes.first() and not interruption.asked_for()
        found, *_ = processes.gathered(provenance.cached(f"models/{self.name}", self.made_by) if ask else None)
        said = f"{self.name}: this very model is trained already, and in DVC's cache: it is measured anew, not trained"
        if found:
            made = json.loads(found[folders.PROVENANCE].read_text(encoding="utf-8"))
            here = self.made_by["versions"] | {"device": self.run.hardware.kind}
            there = made["versions"] | {"device": made["device"]}
            other = ", ".join(f"{name} {there[name]}" for name in there if there[name] != here.get(name))
            said += f" (it was made with {other})" if other else ""
        return found, said

    def planned(self, refuse: bool) -> formula.Planned | None:
        """The stage as memory and time are reckoned; None of an architecture that is not known.

        Raises InputError where the settings do not go with the model or the device and, to refuse, where it would not
        fit in run.memory_gib or, on CUDA, in what the device has.
        """
        settings, machine, gib = self.settings, self.run.hardware, self.settings.run.memory_gib
        config = config_in(settings)
        shape = Shape.of(config)
        on_model.check_model_and_device(settings, config, shape is not None, machine.kind)
        on_model.check_architecture(settings)
        on_model.check_reward_model(self.experiment.stages)
        if shape is None:
            return None
        free, card = torch.cuda.mem_get_info() if machine.kind == "cuda" else (None, None)
        found = formula.on_hardware(machine, settings, shape, card)
        limit, whose = gib and gib * fit.GIB, "run.memory_gib"
        if gib is None and machine.kind == "cuda":
            limit, whose = free, f"{machine.name} that are free"
        if refuse and (said := fit.shortage(found, limit, whose)):
            raise InputError(f"{said}\nNothing was loaded, nothing changed.")
        return found

    def train(self) -> None:
        """Train, from the last checkpoint where there is one: the trained model is in the store."""
        self.checkpoint = self.store.newest()
        if self.checkpoint:
            self.recall(checkpoints.state(self.checkpoint)["seen"])
        if self.stage.generates and processes.first():
            # TRL writes completions where it writes checkpoints.
            (self.folder.path / "completions").mkdir()
            (self.store.unfinished / "completions").symlink_to(self.folder.path / "completions")
        loop.train(self.run, self.build, self, self.store.unfinished, self.checkpoint)
        if processes.first():
            self.store.limit(0)

    def recall(self, seen: dict[str, Any]) -> None:
        """What an earlier process saw of the training, its curves drawn again."""
        vars(self.seen).update(seen)
        for step, point in self.seen.curves:
            self.figures.draw(step, self.figures.named(point))

    def judged(self, judge: Callable[[rows.Counting], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """What `judge` gives: kept with the checkpoints, so that a run that goes on need not judge again."""
        kept = self.store.folder / "judged" / "prompts.parquet"
        if processes.first() and not kept.exists():
            with self.phase("judging prompts") as shown:
                written = self.store.unfinished / "judged"
                written.mkdir()
                pq.write_table(pa.Table.from_pylist(judge(shown.counting)), written / kept.name)
                self.store.keep(written, written.name, {})
        processes.wait()
        shutil.copy(kept, self.folder.path)
        return pq.read_table(kept).to_pylist()

    def loaded(self, run: Run, trainer: Trainer, counts: dict[str, int], left_out: rows.LeftOut) -> None:
        """The trainer is there, for so many rows, others left out."""
        self.seen.rows |= counts
        (self.folder.path / "sample.txt").write_text(sample.text(trainer, run.tokenizer), encoding="utf-8")
        both = left_out + run.left_out
        self.folder.terminal.show(screen.work(run, trainer, self.seen.rows | both.counts, self.checkpoint))
        if both.refused:
            self.folder.terminal.show(Text(f"refused: {both.reasons}"))  # as it stands: a reason may have brackets

    def measured(self, before: dict[str, float]) -> None:
        self.seen.before = self.figures.tracked(before)

    @contextmanager
    def training(self, trainer: Trainer) -> Iterator[list[TrainerCallback]]:
        """What watches the training within; then what was trained is saved, if that went to its end."""
        given = (trainer, self.store, self.stop, self.settings.run, self.checkpoint, self.seen)
        saving = self.folder.progress.saving
        signal = [guards.Signal(self.settings.run)] if self.stage.generates else []
        with self.stop.after_step():  # a signal waits for the end of the step, and for what is saved
            yield [guards.Finite(trainer, self.name), *signal, resume.Checkpoints(*given, saving)]
            steps, last = trainer.state.global_step, trainer.state.max_steps
            if steps < last:
                assert self.stop.asked, f"stopped at step {steps} of {last}"
                return
            with self.phase("saving"):
                if processes.first():
                    self.seen.steps = steps
                    written = self.store.unfinished / "trained"
                    made_by = self.made_by | {"device": self.run.hardware.kind}
                    records = {folders.PROVENANCE: made_by, folders.TRAINING: asdict(self.seen)}
                    self.tell_rounding(trainer.model)
                    loop.save_trained(trainer, self.run, written / "model", records)
                    self.store.keep(written, "trained", {})
                processes.wait()

    def tell_rounding(self, model: Any) -> None:
        """Say where much of what adapters have learned is lost by rounding."""
        lora, answers = self.settings.own.lora, self.run.hardware.answers
        if lora is None:
            return
        places = [(PRECISIONS[lora.merge], "lora.merge, in which the model is saved")]
        places += [(answers, "answers.precision, in which its answers are measured")] if self.stage.answers else []
        shares = {one: saving.left_by_rounding(model, one) for one in {place for place, _ in places} - {"fp32"}}
        for precision, setting in places:
            if (share := shares.get(precision)) is not None and share < HEEDED:
                left = f"{share:.0%} of what the adapters add to the weights is left ({setting})"
                said = f"rounded to {precision}, {left}; float32 keeps all of it: docs/reproducibility.md"
                self.folder.terminal.show(Text(said, "yellow"))

    def measure(self, model: dict[str, Path]) -> None:
        """Measure the model as saved and loaded again, as what is reported is what is shipped, and give it its name."""
        out = Path(f"models/{self.name}")
        # Of several processes the first writes; all read from where it does.
        with repository.replaced(out) if processes.first() else nullcontext(out.with_name(f".{out.name}")) as folder:
            with self.phase("copying the model"):
                for name, file in model.items() if processes.first() else ():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, folder / name)
                processes.wait()
            quiet = replace(self.run, callbacks=[self.folder.progress])
            given = (quiet, self.build, self.figures, str(folder), self.phase)
            before, after, tables = held_out.before_and_after(*given)
            if not processes.first():
                return
            if lost := [name for name in before if name not in after]:
                raise InputError(
                    f"{self.name}: the training diverged: {', '.join(lost)} of the trained model is not finite. "
                    f"Lower train.lr or {self.name}.lr_scale in params.yaml; models/{self.name} was not made."
                )
            gates.require_met(self.name, self.figures.during() | after, self.settings.run.gates)
            self.figures.write(before, after, tables, self.run.left_out.counts)
            self.require_unedited()
        with self.phase("hashing the model"):
            made = repository.digest(out)
        self.folder.write(model=made)
        self.folder.terminal.show(screen.outcome(self.run, before, self.figures.during(), after))
        if unseen := [name for name in after if name not in before and has_curve(name, after[name])]:
            said = (
                f"{', '.join(unseen)}: not recorded when this model was trained, so with no curve and no figure before;"
            )
            self.folder.terminal.show(f"{said} `dvc repro --force` trains it anew.")
        for wire in self.tripped(before, after, tables):
            self.folder.terminal.show(Text("\n".join(wire.said(self.name)), "yellow"))
        if warning := commit.warning(self.name, made):
            self.folder.terminal.show(Text(warning))

    def tripped(
        self, before: dict[str, Any], after: dict[str, Any], tables: held_out.Tables
    ) -> list[tripwires.Tripwire]:
        """What looks wrong of the stage, its answers set against those of the policy it started from."""
        figures = {f"{name}_before": value for name, value in before.items()} | self.figures.during() | after
        curves = tripwires.by_figure((step, self.figures.named(point)) for step, point in self.seen.curves)
        policies: held_out.Tables = {}
        with suppress(InputError):  # as many as there are
            policies |= {table["policy"][0].as_py(): table for table in held_out.ancestors(self.settings)}
        init = policy_name(self.settings.own.init)
        groups = self.settings.own.batch / self.settings.option("num_generations") if self.stage.generates else 0
        return tripwires.tripped(self.name, figures, curves, policies | tables, init, groups)

    def require_unedited(self) -> None:
        """Raise InputError where settings or code are others than when it started (llmrl/session/edits.py)."""
        then = "has the trained model but to measure; with the change it runs anew."
        edits.require_unedited(self.recorded, edits.snapshot(self.name), self.name, "its model", then)
