"""What is done in a training, in which order: all that decides the bytes of a model but the trainer's construction.

    trainer -> its evaluation -> the training -> the saved model

Who attends a training (work.py) shows, records and keeps checkpoints, decides no byte of it, and is handed in.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.graph import STAGES
from llmrl.models import saving
from llmrl.training import order, rows
from llmrl.training.run import Run

if TYPE_CHECKING:
    from transformers import Trainer

    from llmrl.work import Work

Build = Callable[[Run, str], "Trainer"]  # a stage script's: TRL's trainer on the model in a folder


def train(run: Run, build: Build, attendant: Work, store: Path, checkpoint: Path | None) -> None:
    """Train, from a checkpoint where there is one, and write checkpoints into `store`; the attendant has the trained
    model saved.
    """
    init = run.settings.own.init
    with attendant.phase("tokenising") as shown:
        train_rows, left_out = rows.trained_on(run.settings, run.tokenizer, shown.counting)
    run = replace(run, train_rows=train_rows)
    counts = {"rows": len(train_rows)} | left_out.counts
    if STAGES[run.settings.stage].generates and (bounds := run.settings.own.pass_rate):
        from llmrl.training import difficulty

        table = attendant.judged(partial(difficulty.judged, run))
        run, by_side = difficulty.choose(run, bounds, table)
        counts |= by_side
    with attendant.phase("loading the model"):
        trainer = constructed(build, replace(run, output_dir=store), init)
    attendant.loaded(run, trainer, counts, left_out)
    if checkpoint is None:
        # accelerate never gives a model that was evaluated to several processes: each would train its own. One in 4 bit
        # computes unlike the folder it came from, and unlike what it will be once it is saved; and one for which vLLM
        # generates answers by another engine than every policy is measured with.
        apart = run.settings.processes > 1 or run.loading.four_bit or run.settings.trl.get("use_vllm")
        with attendant.phase("measuring before"):
            attendant.measured(evaluation(run, build, init, "before") if apart else evaluated(trainer))
    with attendant.training(trainer) as callbacks:
        for callback in (*callbacks, *order.like_lengths(trainer, run.settings)):
            trainer.add_callback(callback)
        with attendant.phase("training"):
            trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


def save_trained(trainer: Trainer, run: Run, out: Path, records: dict[str, Any]) -> None:
    """Write what was trained into `out`, whole, with records beside it."""
    saving.save(trainer.model, run.settings.own.init, out, records, run.settings.own.lora)


def constructed(build: Build, run: Run, folder: str) -> Trainer:
    """A trainer as it shall be where TRL and transformers have no option for it."""
    import transformers
    from accelerate.utils import AutocastKwargs

    trainer = build(run, folder)
    model: Any = trainer.model
    # TRL makes adapters on weights in 4 bit bfloat16, which rounds most updates of a small learning rate away.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # Where checkpointing is switched on, transformers adds a hook to the embedding each time and removes none, and the
    # trainers of DPO and GRPO switch it at every micro-batch: thousands of them, each called in every forward pass. TRL
    # has set the one that is needed, of a model with adapters; where the embedding is trained none is.
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    whole.enable_input_require_grads = lambda: None
    # A forward pass casts each matrix once; to keep the casts until it ends takes half of what the weights do.
    trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    trainer.remove_callback(transformers.PrinterCallback)  # the terminal has its progress bar
    return trainer


def evaluation(run: Run, build: Build, folder: str, when: str) -> dict[str, float]:
    """TRL's evaluation of the whole model in a folder, by a trainer that does nothing else: it reports to nobody, and
    its completions, which are not vLLM's, have a folder of their own.
    """
    quiet, whole = replace(run.settings.run, report_to="none"), replace(run.settings.own, lora=None)
    trl = {name: value for name, value in run.settings.trl.items() if name != "use_vllm"}
    alone = replace(
        run,
        settings=replace(run.settings, run=quiet, own=whole, trl=trl),
        train_rows=run.eval_rows.select(range(1)),  # a trainer must have some
        output_dir=run.output_dir / when,
    )
    trainer = constructed(build, alone, folder)
    found = evaluated(trainer)
    del trainer
    gc.collect()  # a trainer refers to itself, and would keep its model
    return found


def evaluated(trainer: Trainer) -> dict[str, float]:
    """The figures of TRL's evaluation, in the precision of the training.

    transformers has accelerate see to that, but not where it finds a model that accelerate knows: DPO's reference or
    GRPO's judge. The policy's log-probabilities would then be those of float32, beside a reference's of bfloat16.
    """
    with trainer.accelerator.autocast():
        return trainer.evaluate()
