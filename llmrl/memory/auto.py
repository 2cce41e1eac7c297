"""`micro_batch: auto` and `gradient_checkpointing: auto`: what they become on a device, by the memory's formula.

As many sequences at once as fit: on an H100 it is launches that take the time, and a micro-batch takes as many whatever
its size (docs/memory.md). Activations are computed twice only where that holds more than WORTH times as many: it takes
a third more of everything else. What fits is reckoned by what the device has in all, never by what is free just then,
so that a run goes on with the numbers it began with.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import Any

import psutil

from llmrl import devices
from llmrl.devices import Machine
from llmrl.errors import InputError
from llmrl.fields import as_yaml
from llmrl.memory import formula
from llmrl.memory.shape import Shape
from llmrl.training import processes
from llmrl.training.settings import Settings

AUTO = "auto"
WRITTEN = {"micro_batch": "a number", "gradient_checkpointing": "true or false"}  # what they may be instead
# Bytes of a GPU that are never a tensor's: CUDA's context takes some 0.5 GiB, a screen up to as much.
RESERVE = 2**30
# Of the rest, what the formula may fill: on an H100 torch had reserved up to 1.07 times what it says.
OF_GPU = 0.9
# Of a machine's memory where a CPU computes: what kernels and allocators hold there is as much again.
OF_MACHINE = 0.5
WORTH = 2


def left_open(settings: Settings) -> list[str]:
    """Which of the two are `auto`."""
    return [name for name in WRITTEN if settings.deciding[name] == AUTO]


def resolved(settings: Settings, config: dict[str, Any], device: Machine | None = None) -> Settings:
    """The settings with what each `auto` becomes for a model of such a config.json on a device, by default the one that
    is here; where no number fits, with those that take the least.

    Raises InputError where there is nothing to go by: of an architecture, or a device, whose memory is not known.
    """
    if not (names := left_open(settings)):
        return settings
    device = device or devices.machine()
    if (shape := Shape.of(config)) is None:
        why = f"goes by the memory a model takes, which is not known of one of type {config.get('model_type')}"
        raise cannot_be(names, why)
    if (most := room(settings, device)) is None:
        why = f"goes by the memory of the device, of which nvidia-smi tells nothing ({device.name})"
        raise cannot_be(names, why, "set run.memory_gib, or ")
    sizes = fractions(settings) if "micro_batch" in names else [settings.own.micro_batch]
    ways = (False, True) if "gradient_checkpointing" in names else [settings.option("gradient_checkpointing")]
    taken = {(size, way): training(with_both(settings, size, way), shape, device) for size in sizes for way in ways}
    fitting = [both for both in taken if taken[both] <= most]
    if not fitting:  # of those that take the least, as the update may whatever the micro-batch, the largest
        return with_both(settings, *min(taken, key=lambda both: (taken[both], -both[0])))
    kept, anew = (max((size for size, way in fitting if way == twice), default=0) for twice in (False, True))
    return with_both(settings, *((anew, True) if anew > WORTH * kept else (kept, False)))


def became(asked_for: Settings, settings: Settings) -> dict[str, str]:
    """What each `auto` became, in words; a question mark where that is not known yet."""
    found = settings.deciding
    return {
        name.replace("_", " "): f"{'?' if found[name] == AUTO else as_yaml(found[name])} ({AUTO})"
        for name in left_open(asked_for)
    }


def cannot_be(names: list[str], why: str, else_: str = "") -> InputError:
    """That `auto` cannot be for these settings, why not, and what can."""
    instead = f"{else_}write {', and '.join(WRITTEN[name] for name in names)}"
    return InputError(f"params.yaml: {' and '.join(names)}: auto {why}. {instead[0].upper()}{instead[1:]}.")


def with_both(settings: Settings, micro_batch: int, checkpointing: bool) -> Settings:
    own = replace(settings.own, micro_batch=micro_batch)
    return replace(settings, own=own, trl=settings.trl | {"gradient_checkpointing": checkpointing})


def fractions(settings: Settings) -> list[int]:
    """The micro-batches that fill a process's share of a batch and, where completions are generated, of those that are
    at once, the smallest first.
    """
    at_once = settings.chosen.get("generation_batch_size") or settings.own.batch
    share = gcd(settings.own.batch, at_once) // settings.processes
    return [size for size in range(1, share + 1) if share % size == 0]


def training(settings: Settings, shape: Shape, device: Machine) -> int:
    """The bytes of the moment of an optimizer step at which most is held."""
    return max(map(formula.total, formula.step(formula.on_machine(device, settings, shape)).values()))


def room(settings: Settings, device: Machine) -> float | None:
    """The bytes that a process may fill: `run.memory_gib`, else a part of what the device has in all; None where that
    is not known.
    """
    if settings.run.memory_gib is not None:
        return settings.run.memory_gib * 2**30
    if device.kind == "cuda":
        return device.total and OF_GPU * (device.total - RESERVE)
    return OF_MACHINE * psutil.virtual_memory().total / settings.processes


def require_alike(asked_for: Settings, settings: Settings, kind: str) -> None:
    """Raise InputError where `auto` went by another device than the `kind` that torch has, or became something else in
    another process.
    """
    if not (names := left_open(asked_for)):
        return
    if (told := devices.machine().kind) != kind:
        why = f"went by {told}, the one device that nvidia-smi tells of, and torch would compute on {kind}"
        raise cannot_be(names, why)
    each = {", ".join(one.values()) for one in processes.gathered(became(asked_for, settings))}
    if len(each) > 1:
        raise cannot_be(names, f"became {' and '.join(sorted(each))} on devices that are not alike")
