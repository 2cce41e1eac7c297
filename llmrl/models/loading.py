"""Model folders: loading them to train, to compare with or to measure, in float32 but for what is said.

A folder of models/ is whole by itself and loads with plain `from_pretrained`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import transformers

from llmrl.models import DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Safetensors alone, as a pickle runs what is in it; a model's own code never; nothing from the network.
LOADING = {"dtype": "float32", "local_files_only": True, "use_safetensors": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Loading:
    """How a model is brought into memory: with which attention, by transformers' name (None: the model's own choice),
    whether Liger's kernels compute its layers, and whether the matrices of these are kept in 4 bit, to be multiplied in
    the precision `four_bit`, or, of a model that is not trained, in the precision `frozen`.
    """

    attention: str | None = None
    liger: bool = False
    four_bit: str | None = None  # fp32 | bf16 | fp16
    frozen: str | None = None  # likewise

    def load(self, kind: Any, folder: str, **more: Any) -> PreTrainedModel:
        """The model of a folder, in float32 but for what is said; `kind` is one of transformers' Auto classes."""
        if self.four_bit:
            more["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=DTYPES[self.four_bit],
            )
        if self.attention == "varlen":
            from llmrl.models import attention  # noqa: F401 - gives transformers the one of this name

        model = kind.from_pretrained(folder, attn_implementation=self.attention, **LOADING, **more)
        for module in model.modules():
            # Of weights in 4 bit, on such a CPU, the first evaluation would arrange them anew: no gradient passes them.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        if self.liger:
            from liger_kernel.transformers import _apply_liger_kernel_to_instance

            # Norms, rotation and the feed-forward part; the head's loss is TRL's.
            _apply_liger_kernel_to_instance(model, cross_entropy=False, fused_linear_cross_entropy=False)
        if self.frozen:
            freeze(model, self.frozen)
        return model


PLAIN = Loading()


def freeze(model: PreTrainedModel, precision: str) -> None:
    """Have a model not be trained, and its layers' matrices be in the precision they are multiplied in: the same
    products of half the bytes.
    """
    import torch

    model.requires_grad_(False)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(getattr(torch, DTYPES[precision]))


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # No warning of rows that are longer than it says: `max_length` decides, and leaves out and counts them.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def load_policy(folder: str, how: Loading = PLAIN) -> PreTrainedModel:
    """A model that answers, in float32 but for what `how` says."""
    return how.load(transformers.AutoModelForCausalLM, folder)


def load_classifier(folder: str, seed: int, how: Loading = PLAIN) -> PreTrainedModel:
    """A model that gives one score, in float32 but for what `how` says; on a policy's body its head is new, drawn by
    `seed`.
    """
    import torch

    class Head(torch.nn.Linear):
        """In float32, whatever the precision of the rest, which would round two close scores to one."""

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            with torch.autocast(states.device.type, enabled=False):
                return super().forward(states.float())

    transformers.set_seed(seed)
    model = how.load(transformers.AutoModelForSequenceClassification, folder, num_labels=1)
    model.score.__class__ = Head  # its weights and their names are as before
    return model
