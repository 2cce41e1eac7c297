"""What this machine can do, and what follows for a training: device, precision, threads."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from llmrl.errors import InputError

OPTIMIZER = "adamw_torch_fused"  # TRL's own; on all three kinds of device one kernel updates all weights
TRITON = (7, 0)  # the compute capability from which its kernels run


@dataclass(frozen=True)
class Hardware:
    """One device, and what is decided for it. Weights are kept in float32; `precision` is that of the arithmetic
    (autocast); `kernels` compute norms, rotation and the feed-forward part.
    """

    kind: str  # cpu | cuda | mps
    name: str
    precision: str  # fp32 | bf16 | fp16
    kernels: str = "torch"  # or liger
    optimizer: str = OPTIMIZER

    def __str__(self) -> str:
        return f"{self.name}, {self.precision}; {self.optimizer}, layers by {self.kernels}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What transformers' TrainingArguments must be told."""
        return {
            "use_cpu": self.kind == "cpu",
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
            "optim": self.optimizer,
            "dataloader_pin_memory": self.kind == "cuda",
            # Rows are tokenised beforehand and in memory: to put a batch together takes less than to send it.
            "dataloader_num_workers": 0,
        }

    def room(self, gib: float | None) -> tuple[float | None, str]:
        """The bytes a stage may take, and who says so: the setting run.memory_gib or, on CUDA, what the device has."""
        import torch

        if gib is not None:
            return gib * 2**30, "run.memory_gib"
        return (torch.cuda.mem_get_info()[0] if self.kind == "cuda" else None), f"{self.name} that are free"


def devices() -> list[str]:
    """The GPUs this process may use, by the names that CUDA_VISIBLE_DEVICES takes; none where there is none.

    Asked of the driver's own tool: torch would fix its choice of device at its first look.
    """
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    return driver("--query-gpu=uuid")


def driver(*question: str) -> list[str]:
    """What the driver's own tool answers, a line a GPU; none where it is missing, or fails, which it says on stdout."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ("nvidia-smi", *question, "--format=csv,noheader,nounits")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def detect(precision: str, kernels: str, threads: int | None, optimizer: str | None) -> Hardware:
    """The device a stage runs on, and what is decided for it: what is asked or, for `auto` and None, the best it has.

    Sets torch's number of threads, which decides the last bits of sums on a CPU. Raises InputError where the device
    lacks what is asked.
    """
    # Tensors of many lengths leave holes between them otherwise. Read when CUDA is first used.
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # its older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    import torch

    if threads:
        torch.set_num_threads(threads)
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
    chosen = best if precision == "auto" else precision
    if not has[chosen]:
        raise InputError(f"params.yaml: precision: {chosen} is not to be had on {name}; auto gives {best}.")
    if kernels == "liger" and not liger:
        raise InputError(f"params.yaml: kernels: liger's need CUDA, from Volta on, not {name}; auto gives torch.")
    layers = "liger" if liger and kernels != "torch" else "torch"
    return Hardware(kind, name, chosen, layers, optimizer or OPTIMIZER)
