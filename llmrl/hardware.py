"""What this machine can do, and what follows for a training: device, precision, threads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from llmrl.errors import InputError

if TYPE_CHECKING:
    from llmrl.sections import Settings

OPTIMIZER = "adamw_torch_fused"  # TRL's own; on all three kinds of device one kernel updates all weights
TRITON = (7, 0)  # the compute capability from which its kernels run
PATIENCE = 30.0  # seconds for nvidia-smi: where no daemon keeps the driver loaded, each card costs a second or two
CARD = re.compile(r"GPU (\d+): (.+) \(UUID: (GPU-\S+)\)")
SLICE = re.compile(r"\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-\S+)\)")


@dataclass(frozen=True)
class Hardware:
    """One device, and what is decided for it. Weights are kept in float32; `precision` is that of the arithmetic in
    training (autocast), `answers` that in which every policy answers; `kernels` compute norms, rotation and the
    feed-forward part.
    """

    kind: str  # cpu | cuda | mps
    name: str
    precision: str  # fp32 | bf16 | fp16
    kernels: str = "torch"  # or liger
    answers: str = "fp32"
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
            # Rows are tokenised beforehand and in memory: to put a batch together takes less than to send it, and
            # pinned memory helps only who does something else meanwhile.
            "dataloader_pin_memory": False,
            "dataloader_num_workers": 0,
        }

    def room(self, gib: float | None) -> tuple[float | None, str]:
        """The bytes a stage may take, and who says so: the setting run.memory_gib or, on CUDA, what the device has."""
        import torch

        if gib is not None:
            return gib * 2**30, "run.memory_gib"
        return (torch.cuda.mem_get_info()[0] if self.kind == "cuda" else None), f"{self.name} that are free"


@dataclass(frozen=True)
class Card:
    """A GPU as `nvidia-smi -L` lists it; `slices` is what MIG has cut it into, the profile of each by its name."""

    index: str
    name: str
    uuid: str
    slices: dict[str, str]

    @property
    def devices(self) -> list[str]:
        """What can be computed on: the slices where there are some, as a cut card takes no work itself."""
        return list(self.slices) or [self.uuid]

    def has(self, device: str) -> bool:
        """Whether a device is of this card; a slice also by the name that it had before drivers gave it its own."""
        return device in self.devices or device.startswith(f"MIG-{self.uuid}/")


def devices() -> list[str]:
    """The GPUs this process may use, each by the one name that all processes have for it; none where there is none.

    CUDA_VISIBLE_DEVICES takes these names, and is read as CUDA does: up to the first entry that is nothing to it.
    """
    # CUDA counts from the fastest card, nvidia-smi along the bus: of unlike cards a number would mean two. Set even
    # against the environment, as no other order can be asked for without CUDA. Read when CUDA is first used.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return [device for card in cards() for device in card.devices]
    names = list(takewhile(bool, (whole(name.strip()) for name in visible.split(","))))
    return names if len(set(names)) == len(names) else []  # with one repeated CUDA sees none at all


def whole(name: str) -> str:
    """The one name of what CUDA_VISIBLE_DEVICES may also call by its number or by a UUID's beginning; none, where that
    is nothing to CUDA.
    """
    if not name or name.startswith("-"):
        return ""
    if not cards():  # nobody is there to ask, as in some containers; CUDA may know it all the same
        return name
    if name.startswith("MIG-"):
        return name if any(card.has(name) for card in cards()) else ""
    found = [card for card in cards() if name == card.index or (name.startswith("GPU-") and card.uuid.startswith(name))]
    return found[0].devices[0] if len(found) == 1 else ""  # of a cut card CUDA takes the first slice


@cache  # asked once: it takes up to seconds, and PATIENCE where it hangs
def cards() -> list[Card]:
    """The GPUs of this machine.

    Asked of the driver's own tool: torch would fix its choice of device at its first look.
    """
    found: list[Card] = []
    for line in driver("-L"):
        if card := CARD.match(line):
            found.append(Card(card[1], card[2], card[3], {}))
        elif found and (piece := SLICE.match(line)):
            found[-1].slices[piece["uuid"]] = piece["profile"]
    return found


def driver(*question: str) -> list[str]:
    """What the driver's own tool answers, by lines; none where it is missing, hangs, or fails, which it says on stdout.

    That it hangs is said on stderr.
    """
    if not shutil.which("nvidia-smi"):
        return []
    asked = subprocess.Popen(("nvidia-smi", *question), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said, _ = asked.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        asked.kill()  # and not waited for: what hangs in the driver does not end by that either
        print(f"nvidia-smi has not answered for {PATIENCE:g} s: it is waited for no longer", file=sys.stderr)
        return []
    return said.splitlines() if asked.returncode == 0 else []


def detect(settings: Settings) -> Hardware:
    """The device a stage runs on, and what is decided for it: what is asked or, for `auto` and None, the best it has.

    Sets how torch allocates and attends, and its number of threads, which decides the last bits of sums on a CPU.
    Raises InputError where the device lacks what is asked.
    """
    allocate(vllm=bool(settings.trl.get("use_vllm")))
    import torch

    without_cudnn()
    settle(settings)
    own = settings.own
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
    answering = "auto" if settings.stage == "reward" else settings.answers.precision
    asked = {"precision": own.precision, "answers.precision": answering}
    for setting, value in asked.items():
        if value != "auto" and not has[value]:
            raise InputError(f"params.yaml: {setting}: {value} is not to be had on {name}; auto gives {best}.")
    training, answers = (best if value == "auto" else value for value in asked.values())
    if own.kernels == "liger" and not liger:
        raise InputError(f"params.yaml: kernels: liger's need CUDA, from Volta on, not {name}; auto gives torch.")
    layers = "liger" if liger and own.kernels != "torch" else "torch"
    return Hardware(kind, name, training, layers, answers, settings.trl.get("optim") or OPTIMIZER)


def allocate(vllm: bool) -> None:
    """Have torch's memory on CUDA grow where it lies: tensors of many lengths leave holes between them otherwise.

    Read when CUDA is first used. vLLM switches this off around the memory it lets go of while it sleeps, but knows
    torch's older name for it alone.
    """
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    if not any(name in os.environ for name in names):
        os.environ.update(dict.fromkeys(names if vllm else names[:1], "expandable_segments:True"))


def settle(settings: Settings) -> None:
    """Have torch multiply as the trainer will, from the first product on: prompts are answered before there is one, and
    cuBLAS keeps the workspace that it begins with.
    """
    import transformers
    from transformers.utils.import_utils import enable_tf32

    if settings.trl.get("full_determinism"):
        transformers.enable_full_determinism(settings.own.seed)
    if settings.trl.get("tf32"):
        enable_tf32(True)


def without_cudnn() -> None:
    """Have none of torch's attention be cuDNN's, which torch prefers on an H100 or B200 for padded rows in half
    precision: its gradients are not finite at some lengths (https://github.com/pytorch/pytorch/issues/196678), and it
    plans for each new length, as every generated token has. The others are flash, memory-efficient and plain.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def cudnn_attention() -> bool:
    """Whether torch may choose cuDNN's attention."""
    import torch

    return torch.backends.cuda.cudnn_sdp_enabled()
