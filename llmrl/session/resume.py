"""Exact resume: a run that continues from a checkpoint ends in the same bytes as one that was never disturbed.

TRL's trainers restore weights, optimizer, scheduler and random state themselves. What they leave out is kept beside:
the window of losses since the last log, the means TRL has not logged yet, the tokens seen, GRPO's place between two
generations and in its sampler, a reference that follows the policy. All of these are attributes of the trainer; a
version that moves one is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import trl
from safetensors.torch import load_model, save_model
from transformers import TrainerCallback

from llmrl import environment
from llmrl.errors import InputError
from llmrl.measuring.figures import Seen
from llmrl.session import checkpoints
from llmrl.session.interruption import Stop
from llmrl.session.settings import RunSettings
from llmrl.training import processes

if TYPE_CHECKING:
    from transformers import Trainer

ATTRIBUTES = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_metrics", "_total_train_tokens")
OF_GRPO = ("_step", "_buffered_inputs")
REFERENCE = "reference.safetensors"


@dataclass(eq=False)
class Checkpoints(TrainerCallback):
    """Writes a checkpoint now and then, and when the run is asked to stop; restores what the trainer does not."""

    trainer: Trainer
    store: checkpoints.Store
    stop: Stop
    settings: RunSettings
    resumed: Path | None  # the checkpoint the trainer resumes from
    seen: Seen  # of the training, what a continued run must know
    saving: Callable[[Any], None]  # shows that a checkpoint is about to be written
    saved: tuple[int, float] = (0, 0.0)  # step and time of the last checkpoint

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        trainer, batches = self.trainer, train_dataloader.batch_sampler
        sampler = getattr(batches, "batch_sampler", batches).sampler  # of several processes, each has its share
        require_restorable(trainer, sampler)
        processes.require_shared(trainer.model_wrapped)
        self.saved = (state.global_step, time.monotonic())
        if self.resumed is None:
            return
        left_out = checkpoints.state(self.resumed)["trainer"][processes.rank()]
        trainer._tr_loss = torch.tensor(left_out.pop("_tr_loss"), device=args.device)
        for mode, means in left_out.pop("_metrics").items():
            trainer._metrics[mode].update(means)
        vars(trainer).update(left_out)
        if getattr(args, "sync_ref_model", False):
            load_model(trainer.accelerator.unwrap_model(trainer.ref_model), self.resumed / REFERENCE)
        if isinstance(trainer, trl.GRPOTrainer):
            for _epoch in range(int(state.epoch) if sampler.shuffle else 0):
                # Each epoch draws its order from one generator, which begins anew with the process.
                torch.randperm(sampler.num_samples, generator=sampler.generator)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        of_grpo = isinstance(self.trainer, trl.GRPOTrainer)
        within_generation = of_grpo and self.trainer._step % (args.steps_per_generation * args.num_iterations) > 0
        if state.global_step == state.max_steps or within_generation:
            return  # no checkpoint has the completions that GRPO is working through
        (steps, seconds), (last_step, last_time) = self.settings.save_interval, self.saved
        due = state.global_step - last_step >= steps and time.monotonic() - last_time >= seconds
        due, asked = processes.any_of(due, bool(self.stop.asked))
        if asked:
            self.stop.ask()
        control.should_save = due or asked
        if control.should_save:
            self.saving(state)
        control.should_training_stop = control.should_training_stop or asked

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        names = (*ATTRIBUTES, "_step") if isinstance(self.trainer, trl.GRPOTrainer) else ATTRIBUTES
        left_out = {name: getattr(self.trainer, name) for name in names}
        left_out["_tr_loss"] = self.trainer._tr_loss.item()
        kept = {"seen": asdict(self.seen), "trainer": processes.gathered(left_out)}  # all have written theirs by now
        if processes.first():
            written = self.store.unfinished / f"checkpoint-{step}"
            if getattr(args, "sync_ref_model", False):
                save_model(self.trainer.accelerator.unwrap_model(self.trainer.ref_model), str(written / REFERENCE))
            self.store.keep(written, f"step-{step}", kept)
            self.store.limit(self.settings.save_total_limit)
        self.saved = (step, time.monotonic())


def require_restorable(trainer: Trainer, sampler: Any) -> None:
    """Raise InputError where this version of transformers or TRL keeps elsewhere what an exact resume restores."""
    of_grpo = isinstance(trainer, trl.GRPOTrainer)
    missing = [name for name in ATTRIBUTES + OF_GRPO * of_grpo if not hasattr(trainer, name)]
    if of_grpo and type(sampler).__name__ != "RepeatSampler":
        missing.append("RepeatSampler")
    if missing:
        raise InputError(
            f"A run could not be resumed exactly: this version of transformers or TRL has no {', '.join(missing)}. "
            f"{environment.remedy()}"
        )
