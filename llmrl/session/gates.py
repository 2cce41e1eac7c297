"""Gates: the least that figures may be, `run.gates` of params.yaml, by their names in metrics.json: reward.accuracy,
sft.answers.sampled.

They are looked at when a stage has measured its figures, and decide nothing else: a stage that is done is not done
again for a gate, and one that stopped at a gate has its model trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmrl import started
from llmrl.errors import InputError
from llmrl.fields import Found, as_yaml, fits, meant
from llmrl.graph import STAGES

SHARES = ("greedy", "sampled", "ended", "marked")  # of the answers, beside pass_at_<k>
# Figures of which less is better, or neither; `*` is none of them.
LESS = ("loss", "rejected_logp", "answers.tokens", "answers.repetition", "answers.refused")


def require_met(stage: str, figures: dict[str, Any], gates: dict[str, float]) -> None:
    """Raise InputError where a figure of a stage is below its gate: by more than its 95 % interval, of one that has
    none as it stands. `figures` are those of the stage in its metrics.json.
    """
    own = {name.removeprefix(f"{stage}."): least for name, least in gates.items() if name.startswith(f"{stage}.")}
    if said := [text for name, least in own.items() if (text := missed(stage, name, least, figures))]:
        raise InputError(
            f"{stage}: {'; '.join(said)}. models/{stage} was not made; the trained model is kept: lower that gate or "
            f"take it out, and {started.again()} goes on without training."
        )


def missed(stage: str, name: str, least: float, figures: dict[str, Any]) -> str | None:
    """What is said of a figure that is below its gate, or that there is not."""
    section, _, last = name.rpartition(".")
    found = figures.get(section, {}) if section else figures
    asked = f"the {least:g} that run.gates in params.yaml asks"
    if not isinstance(value := found.get(last), int | float):
        measured = ", ".join(one for one, it in found.items() if fits(it, (int, float))) or "nothing"
        return (
            f"{stage}.{name} was not measured, so that it is not {asked} (measured of {section or stage}: {measured})"
        )
    high = found.get(f"{last}_high")
    if (value if high is None else high) >= least:
        return None
    interval = "no interval is known" if high is None else f"95 % interval {found[f'{last}_low']:.3f} to {high:.3f}"
    n = f", n = {found['n']}" if "n" in found else ""
    return f"{stage}.{name} is {value:.3f} ({interval}{n}), less than {asked}"


def known(rewards: Sequence[str], samples: int) -> Iterator[str]:
    """The figures that may have a gate: closing figures of which more is better."""
    for stage, table in STAGES.items():
        for theirs, ours in table.tracked.items():
            if theirs.startswith("eval_") and ours not in LESS:
                yield from (f"{stage}.{ours.replace('*', reward)}" for reward in (rewards if "*" in ours else ("",)))
        for ours in table.averaged:
            functions = [one for one in rewards if one != "reward_model"] if "*" in ours else [""]
            yield from (f"{stage}.{ours.replace('*', reward)}" for reward in functions)
        if table.answers:
            tries = (2**power for power in range(1, samples.bit_length()))
            yield from (f"{stage}.answers.{one}" for one in (*SHARES, *(f"pass_at_{k}" for k in tries)))
        if table.generates:
            yield from (f"{stage}.scores.{one}" for one in ("base", *STAGES) if one == "base" or STAGES[one].answers)


def wrong(gates: Any, rewards: Any, samples: Any) -> Found:
    """What no gate can be, of values of any type: of `grpo.rewards`, and `answers.samples`, the figures follow."""
    functions = [str(name) for name in rewards] if isinstance(rewards, dict) else []
    names = list(dict.fromkeys(known(functions, samples if fits(samples, (int,)) else 1)))
    for name, least in gates.items() if isinstance(gates, dict) else ():
        stage, _, figure = str(name).partition(".")
        if isinstance(least, dict):
            inner, value = next(iter(least.items()), ("accuracy", 0.6))
            yield (
                ("gates", name),
                f": a figure has one name: write {name}.{inner}: {as_yaml(value)}, with the point in it.",
            )
        elif stage in STAGES and figure in LESS:
            yield (
                ("gates", name),
                ": a gate is the least that a figure may be, and of this one less is better, or neither.",
            )
        elif name not in names:
            yield ("gates", name), f" is no figure of which more is better, as reward.accuracy is.{meant(name, names)}"
        elif fits(least, (int, float)) and least > 1 and is_share(figure):
            yield ("gates", name), f": {as_yaml(least)} is more than 1, the most that a share can be."


def is_share(figure: str) -> bool:
    """Whether a figure is a share of something, as its name tells."""
    return figure.startswith(("answers.", "signal_", "groups_")) or figure in ("accuracy", "token_accuracy")
