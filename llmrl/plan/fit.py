"""Whether a stage fits in the memory there is and, where not, the least change of its settings that would."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from llmrl.params import combinations
from llmrl.plan import memory
from llmrl.plan.memory import Planned, needed
from llmrl.training.settings import Lora

GIB = 2**30
LORA = {"rank": 16, "alpha": 32}

Changes = dict[str, Any]  # settings, as in sft.micro_batch, and their new values


def levers(planned: Planned) -> dict[str, list[Any]]:
    """The settings that can be changed, the cheapest first, each with its other values from the mildest on."""
    settings, own, stage = planned.settings, planned.settings.own, planned.settings.stage
    generation, group = [], 1  # completions of a group are generated together
    if planned.stage.generates:
        group, at_once = settings.option("num_generations"), settings.option("generation_batch_size") or own.batch
        generation = [n for n in range(at_once - group, 0, -group) if own.batch % n == 0]
        group = settings.option("num_generations_eval") or group
    return {
        # Fewer sequences at once: the same sums in another order.
        f"{stage}.micro_batch": [*range(own.micro_batch - 1, 0, -1)],
        # Fewer completions at once: other random numbers.
        f"{stage}.generation_batch_size": generation,
        # Fewer held-out rows at once: TRL averages over other batches.
        f"{stage}.per_device_eval_batch_size": halves(settings.option("per_device_eval_batch_size"), group),
        # Fewer answers at once, in every stage: other random numbers.
        "answers.batch": halves(settings.answers.batch, settings.answers.samples),
        # Activations computed twice instead of kept: a third more arithmetic.
        f"{stage}.gradient_checkpointing": [True],
        # An optimizer that keeps next to nothing: another optimizer.
        f"{stage}.optim": ["adafactor"],
        # Adapters in place of the weights: another training.
        f"{stage}.lora": [] if planned.lora else [LORA],
    }


def halves(number: int, multiple: int) -> list[int]:
    """Half of it, a quarter, …: whole multiples.

    >>> halves(20, 4)
    [8, 4]
    """
    whole = number // multiple
    return [whole // 2**power * multiple for power in range(1, whole.bit_length())]


def changed(planned: Planned, changes: Changes) -> Planned:
    """The stage with other values of some settings."""
    settings = planned.settings
    for key, value in changes.items():
        section, name = key.split(".")
        if section == "answers":
            settings = replace(settings, answers=replace(settings.answers, **{name: value}))
        elif hasattr(settings.own, name):
            new: dict[str, Any] = {name: Lora(**value) if name == "lora" else value}
            settings = replace(settings, own=replace(settings.own, **new))
        else:
            settings = replace(settings, trl=settings.trl | {name: value})
    return replace(planned, settings=settings)


def changes(planned: Planned, limit: float) -> Changes:
    """What to change so that the stage takes at most `limit` bytes; where nothing is enough, all that helps."""
    made: Changes = {}

    def reached(made: Changes) -> float:  # no number is enough where the batches do not go together
        settings = (one := changed(planned, made)).settings
        wrong = combinations.batches(settings.stage, settings.trl | vars(settings.own), settings.processes)
        return math.inf if any(wrong) else needed(one)

    least, values = reached(made), levers(planned)
    for key in values:  # each as far as it goes, until it is enough …
        for value in values[key] if least > limit else ():
            if (taken := reached(made | {key: value})) <= least:
                made, least = made | {key: value}, taken
    for key in reversed([*made]):  # … and back, the dearest first, to the mildest that is enough beside the others
        without = {other: value for other, value in made.items() if other != key}
        milder = (without, *(made | {key: value} for value in values[key]))
        made = next(one for one in milder if reached(one) <= max(limit, least))
    return made


def breakdown(planned: Planned) -> str:
    """What the stage is expected to take, the moment at which it takes most, and what takes most of that."""
    moment, parts = memory.fullest(planned)
    largest = ", ".join(f"{part} {size(held)}" for part, held in sorted(parts.items(), key=lambda one: -one[1])[:3])
    return f"{size(memory.total(parts))} in tensors ({moment}: {largest})"


def shortage(planned: Planned, limit: float | None, of: str) -> str | None:
    """Why the stage cannot start with at most the `limit` bytes of `of`, and what would fit; None where it can."""
    if limit is None or needed(planned) <= limit:
        return None
    made = changes(planned, limit)
    # As `dvc exp run` takes them; ++ adds what params.yaml does not have in that place.
    written = {key: json.dumps(value).replace('"', "").replace(" ", "") for key, value in made.items()}
    options = " ".join(f"-S '++{key}={value}'" for key, value in written.items())
    least = needed(changed(planned, made))
    answer = f"This would fit, at {size(least)}:\n  dvc exp run {options}"
    if least > limit:
        answer = "No setting is enough" + (f": with {options} it still takes {size(least)}." if made else ".")
    said = f"{planned.settings.stage} is expected to take {breakdown(planned)}, more than the {size(limit)} of {of}."
    return f"{said} {answer}"


def size(number: float) -> str:
    """Bytes in a unit that suits them.

    >>> size(1.5 * 2**30), size(2**20)
    ('1.50 GiB', '1.00 MiB')
    """
    return f"{number / GIB:.2f} GiB" if number >= 0.1 * GIB else f"{number / 2**20:.2f} MiB"
