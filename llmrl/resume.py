"""Exact resume: a run that continues from a checkpoint ends in the same bytes as one that was never disturbed.

TRL's trainers restore weights, optimizer, scheduler and random state themselves. What they leave out is kept beside:
the window of losses since the last log, the means TRL has not logged yet, the tokens seen, GRPO's place between two
generations and in its sampler. All of these are attributes of the trainer; a version that moves one is refused.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
import trl
from transformers import TrainerCallback

from llmrl import checkpoints, launch
from llmrl.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import Trainer

    from llmrl.interruption import Stop
    from llmrl.params import Run

ATTRIBUTES = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_metrics", "_total_train_tokens")
OF_GRPO = ("_step", "_buffered_inputs")


class Checkpoints(TrainerCallback):
    """Writes a checkpoint now and then, and when the run is asked to stop; restores what the trainer does not.

    `resumed` is the checkpoint the trainer resumes from; `measured` gives what else a continued run must know.
    """

    def __init__(
        self,
        trainer: Trainer,
        store: checkpoints.Store,
        stop: Stop,
        settings: Run,
        resumed: Path | None,
        measured: Callable[[], dict[str, Any]],
    ) -> None:
        self.trainer, self.store, self.stop, self.settings = trainer, store, stop, settings
        self.resumed, self.measured = resumed, measured
        self.saved = (0, 0.0)  # step and time of the last checkpoint

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        batches = train_dataloader.batch_sampler
        sampler = getattr(batches, "batch_sampler", batches).sampler  # of several processes, each has its share
        require(self.trainer, sampler)
        launch.require_shared(self.trainer.model_wrapped)
        self.saved = (state.global_step, time.monotonic())
        if self.resumed is None:
            return
        trainer, left_out = self.trainer, checkpoints.state(self.resumed)["trainer"][launch.rank()]
        trainer._tr_loss = torch.tensor(left_out["loss"], device=args.device)
        trainer._total_loss_scalar = left_out["total_loss"]
        trainer._globalstep_last_logged = left_out["last_logged"]
        trainer._total_train_tokens = left_out["tokens"]
        for mode, means in left_out["means"].items():
            trainer._metrics[mode].update(means)
        if isinstance(trainer, trl.GRPOTrainer):
            trainer._step = left_out["micro_step"]
            for _epoch in range(int(state.epoch) if sampler.shuffle else 0):
                # Each epoch draws its order from one generator, which begins anew with the process.
                torch.randperm(sampler.num_samples, generator=sampler.generator)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == state.max_steps or not self.exact():
            return
        due, asked = launch.any_of(self.due(state.global_step), bool(self.stop.asked))
        if asked:
            self.stop.ask()
        control.should_save = due or asked
        control.should_training_stop = control.should_training_stop or asked

    def exact(self) -> bool:
        """Whether a run could resume exactly from here: no checkpoint has the completions GRPO is working through."""
        if not isinstance(self.trainer, trl.GRPOTrainer):
            return True
        args = self.trainer.args
        return self.trainer._step % (args.steps_per_generation * args.num_iterations) == 0

    def due(self, step: int) -> bool:
        last_step, last_time = self.saved
        steps, seconds = self.settings.save_interval
        return step - last_step >= steps and time.monotonic() - last_time >= seconds

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, step = self.trainer, state.global_step
        left_out = {
            "loss": trainer._tr_loss.item(),
            "total_loss": trainer._total_loss_scalar,
            "last_logged": trainer._globalstep_last_logged,
            "tokens": trainer._total_train_tokens,
            "means": {mode: dict(means) for mode, means in trainer._metrics.items()},
            "micro_step": getattr(trainer, "_step", None),
        }
        kept = self.measured() | {"trainer": launch.gathered(left_out)}  # all have written their part by now
        if launch.first():
            self.store.keep(self.store.unfinished / f"checkpoint-{step}", f"step-{step}", kept)
            self.store.limit(self.settings.save_total_limit)
        self.saved = (step, time.monotonic())


def require(trainer: Trainer, sampler: Any) -> None:
    """Raise InputError where this version of transformers or TRL keeps elsewhere what an exact resume restores."""
    missing = [name for name in ATTRIBUTES if not hasattr(trainer, name)]
    if isinstance(trainer, trl.GRPOTrainer):
        missing += [name for name in OF_GRPO if not hasattr(trainer, name)]
        if type(sampler).__name__ != "RepeatSampler":
            missing.append("RepeatSampler")
    if missing:
        raise InputError(
            f"A run could not be resumed exactly: this version of transformers or TRL has no {', '.join(missing)}. "
            "`make setup` installs the versions this was tested with."
        )
