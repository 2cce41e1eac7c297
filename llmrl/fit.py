"""Whether a stage fits in the memory there is and, where not, the least change of its settings that would.

Changes come in the order of what they cost: first those that change only which numbers are added when.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from llmrl import combinations
from llmrl.errors import InputError
from llmrl.memory import Stage

GIB = 2**30
LORA = {"rank": 16, "alpha": 32}

Changes = dict[str, Any]  # settings, as in sft.micro_batch, and their new values
Lever = Callable[[Stage], list[Changes]]  # what can be changed, from the mildest on


def total(stage: Stage) -> int:
    """The bytes expected at the moment at which most is held."""
    return sum(stage.peak()[1].values())


def changed(stage: Stage, changes: Changes) -> Stage:
    """The stage with other values of some settings."""
    for key, value in changes.items():
        settings, name = stage.settings, key.split(".")[1]
        if key.startswith("answers."):
            settings = replace(settings, answers=replace(settings.answers, **{name: value}))
        elif name in {field.name for field in fields(settings.own)}:
            settings = replace(settings, own=replace(settings.own, **{name: value}))
        else:
            settings = replace(settings, trl=settings.trl | {name: value})
        stage = replace(stage, settings=settings)
    return stage


def together(made: dict[Lever, Changes]) -> Changes:
    """The changes as one; of a setting that is changed twice, the later value."""
    return {key: value for change in made.values() for key, value in change.items()}


def taken(stage: Stage) -> float:
    """The bytes expected; no number is enough where the batches do not go together."""
    settings = stage.settings
    chosen = vars(settings.own) | settings.trl
    return math.inf if any(combinations.batches(settings.stage, chosen, settings.processes)) else total(stage)


def micro_batch(stage: Stage) -> list[Changes]:
    """Fewer sequences at once: the same sums in another order."""
    return [{f"{stage.settings.stage}.micro_batch": n} for n in range(stage.settings.own.micro_batch - 1, 0, -1)]


def generation(stage: Stage) -> list[Changes]:
    """Fewer completions at once, in whole groups, and micro-batches that they fill: other random numbers."""
    own, group, processes = stage.settings.own, int(stage.option("num_generations")), stage.settings.processes
    if stage.settings.stage != "grpo" or "steps_per_generation" in stage.settings.trl:
        return []
    found = []
    for n in range(int(stage.settings.trl.get("generation_batch_size", own.batch)) - group, 0, -group):
        if own.batch % n == 0:
            micro = math.gcd(own.micro_batch, n // processes)
            also = {} if micro == own.micro_batch else {"grpo.micro_batch": micro}
            found.append({"grpo.generation_batch_size": n} | also)
    return found


def evaluation(stage: Stage) -> list[Changes]:
    """Fewer held-out rows at once: TRL averages over other batches."""
    options, group = stage.settings.trl, 1
    if stage.settings.stage == "grpo":
        group = int(options.get("num_generations_eval", stage.option("num_generations")))
    batch = int(stage.option("per_device_eval_batch_size"))
    return [{f"{stage.settings.stage}.per_device_eval_batch_size": n} for n in halves(batch, group)]


def answers(stage: Stage) -> list[Changes]:
    """Fewer answers at once, in every stage: other random numbers."""
    protocol = stage.settings.answers
    return [{"answers.batch": n} for n in halves(protocol.batch, protocol.samples)]


def checkpointing(stage: Stage) -> list[Changes]:
    """Activations computed twice instead of kept: a third more arithmetic."""
    return [{f"{stage.settings.stage}.gradient_checkpointing": True}]


def adafactor(stage: Stage) -> list[Changes]:
    """An optimizer that keeps next to nothing: another optimizer."""
    return [{f"{stage.settings.stage}.optim": "adafactor"}]


def lora(stage: Stage) -> list[Changes]:
    """Adapters in place of the weights: another training."""
    return [] if stage.settings.lora else [{f"{stage.settings.stage}.lora": LORA}]


LEVERS: tuple[Lever, ...] = (micro_batch, generation, evaluation, answers, checkpointing, adafactor, lora)


def halves(number: int, multiple: int) -> list[int]:
    """Half of it, a quarter, …: whole multiples.

    >>> halves(20, 4)
    [8, 4]
    """
    found: list[int] = []
    while (number := number // 2 // multiple * multiple) >= multiple:
        found.append(number)
    return found


def changes(stage: Stage, limit: float) -> Changes:
    """What to change so that the stage takes at most `limit` bytes; where nothing is enough, all that helps."""
    made: dict[Lever, Changes] = {}
    least, before = float(total(stage)), math.inf
    while limit < least < before:  # what helps little at first may help more once another moment takes less
        before = least
        for lever in LEVERS:
            others = {other: value for other, value in made.items() if other != lever}
            for value in lever(changed(stage, together(others))):
                one = others | {lever: value}
                if least > limit and (reached := taken(changed(stage, together(one)))) < least:
                    made, least = one, reached
    for lever in [*made] if least <= limit else []:  # what a later change has made needless
        rest = {other: value for other, value in made.items() if other != lever}
        milder = [rest, *(rest | {lever: value} for value in lever(changed(stage, together(rest))))]
        made = next((one for one in milder if taken(changed(stage, together(one))) <= limit), made)
    return together(made)


def options(made: Changes) -> str:
    """The changes as `dvc exp run` takes them; ++ adds what params.yaml does not have in that place."""
    return " ".join(f"-S '++{key}={written(value)}'" for key, value in made.items())


def written(value: Any) -> str:
    """A value as an option of `dvc exp run`."""
    return json.dumps(value).replace('"', "").replace(" ", "")


def summary(stage: Stage) -> str:
    """What the stage is expected to take, the moment at which it takes most, and what takes most of that."""
    moment, parts = stage.peak()
    largest = ", ".join(f"{part} {size(taken)}" for part, taken in sorted(parts.items(), key=lambda one: -one[1])[:3])
    return f"{size(total(stage))} in tensors ({moment}: {largest})"


def refusal(stage: Stage, limit: float, of: str) -> str | None:
    """Why the stage cannot start with so many bytes, and what would fit; None where it fits. `of` says whose."""
    if total(stage) <= limit:
        return None
    said = f"{stage.settings.stage} is expected to take {summary(stage)}, more than the {size(limit)} of {of}."
    made = changes(stage, limit)
    least = total(changed(stage, made))
    if least > limit:
        with_all = f": with {options(made)} it still takes {size(least)}" if made else ""
        return f"{said} No setting is enough{with_all}."
    return f"{said} This would fit, at {size(least)}:\n  dvc exp run {options(made)}"


def require(stage: Stage, limit: float | None, of: str) -> None:
    """Raise InputError where the stage is expected to take more than `limit` bytes."""
    if limit is not None and (said := refusal(stage, limit, of)):
        raise InputError(f"{said}\nNothing was loaded, nothing changed.")


def size(number: float) -> str:
    """Bytes in a unit that suits them.

    >>> size(1.5 * 2**30), size(2**20)
    ('1.50 GiB', '1.00 MiB')
    """
    return f"{number / GIB:.2f} GiB" if number >= 0.1 * GIB else f"{number / 2**20:.2f} MiB"
