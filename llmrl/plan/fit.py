"""Whether a stage fits in the memory there is and, where not, the least change of its settings that would."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmrl.memory import formula
from llmrl.memory.formula import Planned, needed
from llmrl.params import combinations
from llmrl.training.settings import Lora

if TYPE_CHECKING:
    from llmrl.data.settings import Source

GIB = 2**30
LORA = {"rank": 16, "alpha": 32}
# Bytes that are resident on a CPU beside a stage's tensors: Python, torch, TRL and their libraries, before a model is
# loaded (bench.resident). Of a GPU's memory they take nothing; run.memory_gib is of tensors.
PROCESS = 9 * GIB // 10

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
        # A smaller share of the device for vLLM: fewer completions at once.
        f"{stage}.vllm_gpu_memory_utilization": smaller_shares(planned),
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


def smaller_shares(planned: Planned) -> list[float]:
    """The smaller shares of the device with which vLLM still starts, the largest first; none where it has none."""
    if not (planned.card and formula.vllm(planned)):
        return []
    least = formula.total(formula.vllm_for(planned, longest(planned))) / planned.card
    given = planned.settings.option("vllm_gpu_memory_utilization")
    return [share / 20 for share in range(19, 0, -1) if least <= share / 20 < given]


def longest(planned: Planned) -> int:
    """The tokens of the longest sequence for which vLLM makes room, or it does not start."""
    return planned.settings.option("vllm_max_model_length") or planned.shape.positions


def too_small(planned: Planned) -> str | None:
    """Why vLLM would not start with its share of the device; None where it would, as far as it can be told."""
    if not (planned.card and formula.vllm(planned)):
        return None
    given, least = planned.settings.option("vllm_gpu_memory_utilization"), formula.vllm_for(planned, longest(planned))
    if formula.total(least) <= given * planned.card:
        return None
    weights, cache = map(size, least.values())
    return (
        f"params.yaml: grpo.vllm_gpu_memory_utilization: {given:g} of {size(planned.card)} is too little: vLLM's "
        f"weights take {weights}, and a cache for one sequence of {longest(planned):,} tokens {cache}. Write more, or "
        f"vllm_max_model_length: {formula.length(planned.settings)}."
    )


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


def larger(stages: list[Planned], limit: float, prompts: Source) -> dict[str, int]:
    """The most completions and answers that could be generated at once in `limit` bytes, where that is more than the
    settings have and the number of held-out prompts is known. No more are any faster than all there are.
    """
    found = dict[str, int]()
    for one in stages:
        settings, own, at_once = one.settings, one.settings.own, one.settings.answers.batch
        values = {"answers.batch": doubles(at_once, (prompts.eval_rows or 0) * settings.answers.samples)}
        if one.stage.generates:
            group, now = settings.option("num_generations"), settings.option("generation_batch_size") or own.batch
            of_all = math.lcm(group, own.micro_batch * settings.processes)
            values[f"{one.settings.stage}.generation_batch_size"] = [
                n for n in range(of_all, own.batch + 1, of_all) if n > now and own.batch % n == 0
            ]
        for key, more in values.items() if one.stage.answers else ():
            most = max((n for n in more if needed(changed(one, {key: n})) <= limit), default=0)
            found[key] = min(found.get(key, most), most)  # answers.batch is of all stages
    return {key: most for key, most in found.items() if most}


def doubles(number: int, most: int) -> list[int]:
    """Twice of it, four times, …: up to the first that is at least the most that is of use.

    >>> doubles(64, 200)
    [128, 256]
    """
    times = range(1, max(0, -(-most // number) - 1).bit_length() + 1)
    return [number * 2**power for power in times]


def breakdown(planned: Planned) -> str:
    """What the stage is expected to take, the moment at which it takes most, and what takes most of that."""
    moment, parts = formula.fullest(planned)
    largest = ", ".join(f"{part} {size(held)}" for part, held in sorted(parts.items(), key=lambda one: -one[1])[:3])
    return f"{size(formula.total(parts))} in tensors ({moment}: {largest}{and_the_process(planned.kind)})"


def and_the_process(kind: str) -> str:
    """What is resident beside the tensors on a kind of device, in words to add."""
    return f"; beside them the process, {size(PROCESS)}" if kind == "cpu" else ""


def shortage(planned: Planned, limit: float | None, of: str) -> str | None:
    """Why the stage cannot start with at most the `limit` bytes of `of`, and what would fit; None where it can."""
    if said := too_small(planned):
        return said
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
    taken = f"{planned.settings.stage} is expected to take {breakdown(planned)}, more than the {size(limit)} of {of}."
    return f"{taken} {answer}"


def size(number: float) -> str:
    """Bytes in a unit that suits them.

    >>> size(1.5 * 2**30), size(2**20)
    ('1.50 GiB', '1.00 MiB')
    """
    return f"{number / GIB:.2f} GiB" if number >= 0.1 * GIB else f"{number / 2**20:.2f} MiB"
