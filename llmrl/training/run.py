"""What a stage script needs to construct its trainer."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.models.loading import Loading, load_policy

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from llmrl.training.hardware import Hardware
    from llmrl.training.rows import LeftOut
    from llmrl.training.settings import Settings


@dataclass(frozen=True)
class Run:
    """One run of a stage: its settings, what the machine has for them, and the rows."""

    settings: Settings
    hardware: Hardware
    tokenizer: PreTrainedTokenizerBase
    eval_rows: Dataset
    left_out: LeftOut  # of the held-out rows
    output_dir: Path
    name: str  # for trackers: the run's folder and the stage
    callbacks: list[TrainerCallback] = field(default_factory=list)
    train_rows: Dataset = None  # as soon as it is to be trained

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
            "save_strategy": "no",  # session/resume.py says when
            "logging_nan_inf_filter": False,  # session/guards.py stops at the first
            "disable_tqdm": True,
            "use_cpu": self.hardware.kind == "cpu",
            "bf16": self.hardware.precision == "bf16",
            "fp16": self.hardware.precision == "fp16",
            **settings.ours,
            **copy.deepcopy(settings.trl),  # TRL takes items out of a map that it is given
        }

    @property
    def loading(self) -> Loading:
        lora = self.settings.own.lora
        four_bit = self.hardware.precision if lora and lora.load_in_4bit else None
        return Loading(self.settings.own.attn_implementation, self.hardware.kernels == "liger", four_bit)

    @property
    def asked(self) -> Loading:
        """How a model is loaded that it only asks: its reference, or its judge."""
        return replace(self.loading, four_bit=None, frozen=self.hardware.precision)

    @property
    def reference(self) -> Loading:
        """The same of DPO's reference; in float32 where it follows the policy, in steps that rounding would undo."""
        return replace(self.asked, frozen=None) if self.settings.trl.get("sync_ref_model") else self.asked

    def policy(self, folder: str) -> PreTrainedModel:
        """The model of a folder, to answer: alone on the device, without trainer, adapters or whatever it learns with.

        So every policy is measured in one way, with as much memory for as many answers at once.
        """
        how = replace(self.asked, frozen=self.hardware.answers)
        return load_policy(folder, how).to(self.hardware.kind)

    def lora(self, task: str) -> LoraConfig | None:
        """The adapters to train in place of the weights, if any."""
        chosen = self.settings.own.lora
        return chosen.config(task) if chosen else None
