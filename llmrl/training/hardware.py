"""What this machine can do, and what follows for a training: device, precision, threads."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.models import PLAIN, ROPE_TYPES, attends_to_all

if TYPE_CHECKING:
    from llmrl.training.settings import Settings

TRITON = (7, 0)  # the compute capability from which its kernels run


@dataclass(frozen=True)
class Hardware:
    """One device, and what is decided for it. Weights are kept in float32; `precision` is that of the arithmetic in
    training (autocast), `answers` that in which every policy answers, decoded by `engine`; `kernels` compute norms,
    rotation and the feed-forward part.
    """

    kind: str  # cpu | cuda | mps
    name: str
    precision: str  # fp32 | bf16 | fp16
    kernels: str = "torch"  # or liger
    answers: str = "fp32"
    engine: str = "transformers"  # or cuda_graphs
    optimizer: str = "adamw_torch_fused"

    def __str__(self) -> str:
        return f"{self.name}, {self.precision}; {self.optimizer}, layers by {self.kernels}"


def detect(settings: Settings) -> Hardware:
    """The device a stage runs on, and what is decided for it: what is asked or, for `auto` and None, the best it has.

    Sets how torch allocates and attends, and its number of threads, which decides the last bits of sums on a CPU.
    Raises InputError where the device lacks what is asked.
    """
    allocate(vllm=bool(settings.trl.get("use_vllm")))
    import torch
    import transformers
    from transformers.utils.import_utils import enable_tf32

    # None of torch's attention is to be cuDNN's, which torch prefers on an H100 or B200 for padded rows in half
    # precision: its gradients are not finite at some lengths (https://github.com/pytorch/pytorch/issues/196678), and it
    # plans for each new length, as every generated token has. The others are flash, memory-efficient and plain.
    torch.backends.cuda.enable_cudnn_sdp(False)
    own = settings.own
    # As the trainer does, but from the first product on: prompts are answered before there is one, and cuBLAS keeps the
    # workspace that it begins with.
    if settings.trl.get("full_determinism"):
        transformers.enable_full_determinism(own.seed)
    if settings.trl.get("tf32"):
        enable_tf32(True)
    if own.threads:
        torch.set_num_threads(own.threads)
    liger = False
    if torch.cuda.is_available():
        kind, name = "cuda", torch.cuda.get_device_name()
        has = {"fp32": True, "fp16": True, "bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
        best, liger = "bf16" if has["bf16"] else "fp16", torch.cuda.get_device_capability() >= TRITON
    elif torch.backends.mps.is_available():
        kind, name, best = "mps", "Apple GPU", "fp32"
        has = {"fp32": True, "fp16": False, "bf16": False}
    else:
        # bf16 pays on a CPU from some 8 M parameters, and only on chips that have it: never by default.
        kind, name, best = "cpu", f"CPU, {torch.get_num_threads()} threads", "fp32"
        has = {"fp32": True, "fp16": False, "bf16": torch.cpu._is_avx512_bf16_supported()}
    answering = settings.answers.precision if STAGES[settings.stage].answers else "auto"
    asked = {"precision": own.precision, "answers.precision": answering}
    for setting, value in asked.items():
        if value != "auto" and not has[value]:
            raise InputError(f"params.yaml: {setting}: {value} is not to be had on {name}; auto gives {best}.")
    training, answers = (best if value == "auto" else value for value in asked.values())
    if own.kernels == "liger" and not liger:
        raise InputError(f"params.yaml: kernels: liger's need CUDA, from Volta on, not {name}; auto gives torch.")
    layers = "liger" if liger and own.kernels != "torch" else "torch"
    return Hardware(kind, name, training, layers, answers, engine_on(settings, kind), settings.option("optim"))


def engine_of(settings: Settings, kind: str, plain: bool) -> str:
    """What decodes answers on such a device, by a model that attends plainly (`attends_to_all`) or not."""
    asked = settings.answers.engine
    # Whether recorded kernels give the same bytes again under full_determinism was not seen yet (docs/gpu.md).
    exact = settings.trl.get("full_determinism") and asked == "auto"
    return "cuda_graphs" if kind == "cuda" and plain and asked != "transformers" and not exact else "transformers"


def engine_on(settings: Settings, kind: str) -> str:
    """The same of the model that a stage starts from. Raises InputError where it cannot be what is asked."""
    if not STAGES[settings.stage].answers:
        return "transformers"
    config = json.loads((Path(settings.own.init) / "config.json").read_text(encoding="utf-8"))
    engine = engine_of(settings, kind, attends_to_all(config))
    if settings.answers.engine == "cuda_graphs" != engine:
        is_of = f"{settings.own.init} is of type {config.get('model_type')}"
        lacking = is_of if kind == "cuda" else f"it would run on {kind}"
        raise InputError(
            f"params.yaml: answers.engine: cuda_graphs needs CUDA, and a model of type {', '.join(PLAIN)} that attends "
            f"to all that came before, its rope_type one of {', '.join(ROPE_TYPES)}: {lacking}. auto takes "
            "transformers there."
        )
    return engine


def allocate(vllm: bool) -> None:
    """Have torch's memory on CUDA grow where it lies: tensors of many lengths leave holes between them otherwise.

    Read when CUDA is first used. vLLM switches this off around the memory it lets go of while it sleeps, but knows
    torch's older name for it alone.
    """
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    if not any(name in os.environ for name in names):
        os.environ.update(dict.fromkeys(names if vllm else names[:1], "expandable_segments:True"))
