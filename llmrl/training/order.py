"""Rows of like length together: an optimizer step sees the rows that it would, and computes less of padding.

    the rows of a step as drawn  ->  sorted by length  ->  cut into micro-batches

A micro-batch is padded to its longest row, and what a step learns of its rows is a sum over them, in whichever
micro-batches they come. The last bits of the sum differ. Where it is no such sum, rows come as they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from torch.utils.data import Sampler
from transformers import TrainerCallback

from llmrl.training.rows import BATCH

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from llmrl.training.settings import Settings

# DPO's losses that are no mean over pairs: of a micro-batch's tokens, or of pairs as they rank within it.
WITHIN = {"sft", "aot", "aot_unpaired"}


class ByLength(Sampler[int]):
    """The rows that a sampler draws, those of each step longest first: what takes most memory comes while no gradients
    are held yet.

    `step` rows are an optimizer step's, and `held` of them the devices hold at once. Fewer than that, at an epoch's
    end, stay there as drawn: they weigh more in a mean over micro-batches, or are dropped. So do, with `fills`, the
    first: accelerate fills several processes' last micro-batches up with them.
    """

    def __init__(self, drawn: Any, lengths: Sequence[int], step: int, held: int, fills: bool) -> None:
        self.drawn, self.lengths = drawn, lengths
        self.step, self.held, self.fills = step, held, fills

    def __len__(self) -> int:
        return len(self.drawn)

    def __iter__(self) -> Iterator[int]:
        rows = list(self.drawn)
        for first in range(0, len(rows), self.step):
            step = rows[first : first + self.step]
            start = self.held if self.fills and first == 0 else 0
            end = len(step) - len(step) % self.held
            yield from step[:start]
            yield from sorted(step[start:end], key=self.lengths.__getitem__, reverse=True)
            yield from step[max(start, end) :]

    def set_epoch(self, epoch: int) -> None:
        """Have an epoch's order drawn, as accelerate does before each."""
        self.drawn.set_epoch(epoch)


@dataclass(eq=False)
class LikeLengths(TrainerCallback):
    """Has a trainer's batches drawn so."""

    settings: Settings

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        held = self.settings.own.micro_batch * self.settings.processes
        rows = train_dataloader.dataset
        given = (widths(rows), self.settings.own.batch, held, self.settings.processes > 1)
        train_dataloader.set_sampler(ByLength(train_dataloader.get_sampler(), *given))


def widths(rows: Dataset) -> Sequence[int]:
    """The tokens to which each row pads a batch, as TRL has made it: of a pair, those of its longer side."""
    found: list[int] = []
    for batch in rows.with_format("arrow").iter(BATCH):
        names = [name for name in batch.column_names if name.endswith("_ids")]
        tokens = {name: pc.list_value_length(batch[name]).to_numpy() for name in names}
        if "input_ids" not in tokens:
            sides = np.maximum(tokens["chosen_ids"], tokens["rejected_ids"])
            tokens["input_ids"] = sides + tokens.get("prompt_ids", 0)  # which the reward model's sides begin with
        found += tokens["input_ids"].tolist()
    return found


def like_lengths(trainer: Trainer, settings: Settings) -> list[TrainerCallback]:
    """The callback that has rows of like length together, where a step has several micro-batches, their order was left
    to chance, and it changes no result but in its last bits.
    """
    several = settings.own.batch > settings.own.micro_batch * settings.processes
    by_chance = settings.option("train_sampling_strategy") == "random"
    return [LikeLengths(settings)] if several and by_chance and is_sum(trainer, settings) else []


def is_sum(trainer: Any, settings: Settings) -> bool:
    """Whether the loss of a step is a sum over its rows, whatever micro-batches they come in.

    GRPO is left alone: TRL pads every completion to the longest of a whole round.
    """
    option = settings.option
    if option("neftune_noise_alpha"):  # noise scaled by the padded width
        return False
    if settings.stage == "reward":
        return True
    if trainer.aux_loss_enabled:  # experts are balanced within a micro-batch
        return False
    if settings.stage == "sft":  # over the tokens of the step; else the mean of each micro-batch, or process, counts
        alone = settings.processes == 1 or option("average_tokens_across_devices")
        return trainer.model_accepts_loss_kwargs and alone and not option("packing")
    return settings.stage == "dpo" and WITHIN.isdisjoint(option("loss_type"))
