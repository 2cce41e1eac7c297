"""The GPUs of this machine, asked of the driver's own tool: torch costs seconds, and would fix its choice of device at
its first look.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

PATIENCE = 30.0  # seconds for nvidia-smi: where no daemon keeps the driver loaded, each card costs a second or two
CARD = re.compile(r"^GPU (\d+): (.+) \(UUID: (GPU-\S+)\)((?:\n\s+MIG .+)*)", re.MULTILINE)
SLICE = re.compile(r"MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-\S+)\)")


@dataclass(frozen=True)
class Card:
    """A GPU as `nvidia-smi -L` lists it."""

    index: str
    name: str
    uuid: str
    # What can be computed on: MIG's slices, each with its profile, as a cut card takes no work itself; else the card.
    devices: dict[str, str]

    def has(self, device: str) -> bool:
        """Whether a device is of this card; a slice also by the name that it had before drivers gave it its own."""
        return device in self.devices or device.startswith(f"MIG-{self.uuid}/")


@dataclass(frozen=True)
class Machine:
    """The device that a stage would use, and what could not be asked of it."""

    kind: str  # cpu | cuda | mps
    name: str
    precision: str = "fp32"  # for `auto`
    memory: int | None = None  # bytes that are free; None: no limit
    total: int | None = None  # bytes, of a GPU, whoever has them; None: not told
    unknown: tuple[str, ...] = ()
    generation: int = 0  # of a GPU: the first number of its compute capability


def visible() -> list[str]:
    """The GPUs this process may use, each by the one name that all processes have for it; none where there is none.

    CUDA_VISIBLE_DEVICES takes these names, and is read as CUDA does: up to the first entry that is nothing to it.
    """
    # CUDA counts from the fastest card, nvidia-smi along the bus: of unlike cards a number would mean two. Set even
    # against the environment, as no other order can be asked for without CUDA. Read when CUDA is first used.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return [device for card in cards() for device in card.devices]
    names = list(takewhile(bool, (whole(name.strip()) for name in given.split(","))))
    return names if len(set(names)) == len(names) else []  # with one repeated CUDA sees none at all


def whole(name: str) -> str:
    """The one name of what may be called by its number or its UUID's beginning; none, where that is nothing to CUDA."""
    if not name or name.startswith("-"):
        return ""
    if not cards():  # nobody is there to ask, as in some containers; CUDA may know it all the same
        return name
    if name.startswith("MIG-"):
        return name if any(card.has(name) for card in cards()) else ""
    found = [card for card in cards() if name == card.index or (name.startswith("GPU-") and card.uuid.startswith(name))]
    return next(iter(found[0].devices)) if len(found) == 1 else ""  # of a cut card CUDA takes the first slice


@cache  # asked once: it takes up to seconds, and PATIENCE where it hangs
def cards() -> list[Card]:
    """The GPUs of this machine."""
    return [
        Card(index, name, uuid, {device: profile for profile, device in SLICE.findall(slices)} or {uuid: ""})
        for index, name, uuid, slices in CARD.findall(driver("-L"))
    ]


def driver(*question: str) -> str:
    """What the driver's own tool answers; nothing where it is missing, fails, or hangs, which is said on stderr."""
    try:
        asked = Popen(("nvidia-smi", *question), stdout=PIPE, stderr=DEVNULL, text=True)
        said, _ = asked.communicate(timeout=PATIENCE)
    except OSError:  # there is none
        return ""
    except TimeoutExpired:
        asked.kill()  # and not waited for: what hangs in the driver does not end by that either
        print(f"nvidia-smi has not answered for {PATIENCE:g} s: it is waited for no longer", file=sys.stderr)
        return ""
    return said if asked.returncode == 0 else ""  # why it failed it says on stdout, too


def machine() -> Machine:
    """This machine, with the first of its devices: a card, or a slice of one."""
    device = next(iter(visible()), "")
    card = next((card for card in cards() if card.has(device)), None) if device else None
    if card is None and platform.system() == "Darwin" and platform.machine() == "arm64":
        return Machine("mps", "Apple GPU")
    if card is None:
        named = f"CUDA_VISIBLE_DEVICES names {device}, of which nvidia-smi says nothing"
        return Machine("cpu", "CPU", unknown=(named,) if device else ())
    question = ("-i", card.uuid, "--query-gpu=compute_cap,memory.free,memory.total", "--format=csv,noheader,nounits")
    answer = driver(*question).partition("\n")[0] or ", ".join(["no answer"] * 3)
    capability, free, has = (part.strip(" []") for part in answer.split(","))  # [N/A], [Insufficient Permissions]
    name, memory, total, unknown = card.name, None, None, []
    profile = card.devices.get(device, "")
    if device == card.uuid and free.isdecimal():
        memory = int(free) * 2**20
    elif device == card.uuid:
        unknown = [f"nvidia-smi on its free memory: {free}"]
    elif size := re.search(r"(\d+)gb", profile):  # 1g.10gb has 10 GiB, or up to an eighth less
        name, memory = f"MIG {profile} of {card.name}", int(size[1]) * 2**30
        total = memory - memory // 8
        unknown = [f"that is the most {profile} can have, nvidia-smi does not tell what is free"]
    else:
        name, unknown = f"{device} of {card.name}", ["nvidia-smi does not tell its memory"]
    if device == card.uuid and has.isdecimal():
        total = int(has) * 2**20
    generation = capability.partition(".")[0]
    if not generation.isdecimal():
        unknown.append(f"nvidia-smi on its compute capability: {capability}, so fp16 is assumed, which all cards have")
        generation = "0"
    precision = "bf16" if int(generation) >= 8 else "fp16"
    return Machine("cuda", name, precision, memory, total, tuple(unknown), int(generation))
