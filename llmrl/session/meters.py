"""What a run takes of memory and energy, phase by phase.

Memory is the most that was taken while a phase lasted: of a GPU as torch counts it, else of the process, whose peak
Linux counts anew when told to (clear_refs in https://docs.kernel.org/filesystems/proc.html).

Energy is what the devices' own counters say, in joules: of the NVIDIA cards that train, since the Volta
(nvmlDeviceGetTotalEnergyConsumption, https://docs.nvidia.com/deploy/nvml-api/), not of a slice of one, which has no
counter of its own; of the processors' packages by RAPL (https://docs.kernel.org/power/powercap/powercap.html), whose
counters most systems let root alone read. They count whatever goes on there, not this run alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pynvml
import torch

from llmrl import devices
from llmrl.session import screen
from llmrl.training import processes

POWERCAP = Path("/sys/class/powercap")
# A counter of 32 bits, in units of 61 µJ, begins anew after 262 kJ: five minutes of a package that takes 800 W.
OFTEN = 60.0  # seconds between two looks

Sizes = dict[str, float]  # GiB, by what they are of


class Meters:
    """Of one run; to be closed with it."""

    def __init__(self) -> None:
        self.peak: Sizes = {}  # of the run so far
        self.energy = Energy(POWERCAP)
        self.begin()

    def begin(self) -> None:
        """A phase begins."""
        self.before = self.look()
        self.anew = counted_anew()
        self.joules = self.energy.read()

    def end(self) -> tuple[Sizes, dict[str, float]]:
        """A phase ends: its peak of memory, and the joules that it took, by device; of either what can be told."""
        peak, joules = self.look(), self.energy.read()
        told = self.anew or peak != self.before  # else what a phase before took was more, or as much
        taken = {name: round(value - self.joules[name], 1) for name, value in joules.items() if name in self.joules}
        return peak if told else {}, taken

    def look(self) -> Sizes:
        """The peak since it was last counted anew."""
        now = screen.peaks()
        self.peak = {name: max(size, self.peak.get(name, 0.0)) for name, size in now.items()}
        return now

    def close(self) -> Sizes:
        """The peak of the whole run."""
        self.energy.close()
        self.look()
        return self.peak


def counted_anew() -> bool:
    """Have the peak of memory counted from now on; whether it is."""
    if torch.cuda.is_available():
        if torch.cuda.is_initialized():  # to ask for more would choose a device
            torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # this is no Linux, or one that does not let it
        return False
    return True


class Energy:
    """The joules that were taken since this was made, by device. No counter that fails stops anything: it is left out.

    A look costs some ten microseconds a counter.
    """

    def __init__(self, powercap: Path) -> None:
        packages = [zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1]  # AMD's, too
        self.counters: dict[str, list[Callable[[], float]]] = {"gpu": counted_cards(), "cpu": []}
        self.lock, self.closed = threading.Lock(), threading.Event()
        for zone in packages:
            try:
                if (zone / "name").read_text().startswith("package"):  # psys has the packages in it
                    self.counters["cpu"].append(Package(zone).joules)
            except (OSError, ValueError):
                continue
        if self.counters["cpu"]:
            threading.Thread(target=self.look_often, daemon=True).start()

    def read(self) -> dict[str, float]:
        """Joules by device: gpu, cpu."""
        with self.lock:
            found = {}
            for name, counters in self.counters.items():
                try:
                    if counters:
                        found[name] = sum(counter() for counter in counters)
                except (OSError, ValueError, pynvml.NVMLError):
                    self.counters[name] = []
            return found

    def look_often(self) -> None:
        while not self.closed.wait(OFTEN):
            self.read()

    def close(self) -> None:
        self.closed.set()


class Package:
    """The counter of a processor's package, which begins anew where it is full."""

    def __init__(self, zone: Path) -> None:
        self.file, self.range = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
        self.last, self.taken = int(self.file.read_text()), 0

    def joules(self) -> float:
        """Joules since this was made."""
        now = int(self.file.read_text())
        self.taken += now - self.last if now >= self.last else now + self.range - self.last
        self.last = now
        return self.taken / 1e6


def counted_cards() -> list[Callable[[], float]]:
    """The counters of the cards that this machine's processes train on; none where one has none."""
    names = devices.visible()[: processes.devices() or 0]
    if not all(name.startswith("GPU-") for name in names):
        return []
    try:
        pynvml.nvmlInit()
        counters = [partial(joules_of, pynvml.nvmlDeviceGetHandleByUUID(name)) for name in names]
        for counter in counters:
            counter()
    except pynvml.NVMLError:  # no driver, or a card before the Volta
        return []
    return [*counters]


def joules_of(card: Any) -> float:
    """What a card has taken since its driver was loaded, by NVML's handle of it."""
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3)
