"""What this machine can do, and what follows for a training: device, precision, threads."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrl.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Hardware:
    """One device. Weights are kept in float32; `precision` is that of the arithmetic (autocast)."""

    kind: str  # cpu | cuda | mps
    name: str
    precision: str  # fp32 | bf16 | fp16
    threads: int

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device(self.kind)

    @property
    def arguments(self) -> dict[str, Any]:
        """What transformers' TrainingArguments must be told."""
        return {
            "use_cpu": self.kind == "cpu",
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
            "dataloader_pin_memory": self.kind == "cuda",
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
        return [name for name in visible.split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    listed = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
    return subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()


def detect(precision: str, threads: int | None) -> Hardware:
    """The device a stage runs on, with the asked precision or, for `auto`, the fastest its chip has.

    Sets torch's number of threads, which decides the last bits of sums on a CPU. Raises InputError where the chip
    lacks the precision.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        kind, name = "cuda", torch.cuda.get_device_name()
        has = {"fp32": True, "fp16": True, "bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
        best = "bf16" if has["bf16"] else "fp16"
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
    return Hardware(kind, name, chosen, torch.get_num_threads())
