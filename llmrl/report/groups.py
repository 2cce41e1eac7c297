"""Experiments as columns: those that differ in seeds alone are one, and what one column has over another.

There are two kinds of noise, and each interval says which it is over. *Prompts*: others would have been answered
otherwise. *Seeds*: the same training with another seed gives another model; of this nothing is known from one training.

Over seeds the interval is Student's of their means, and with that over prompts it is combined by the method of variance
estimates recovery (Zou & Donner 2008): in simulations of two to five seeds it covers in 94 to 100 of 100 cases, where
that over prompts alone does in as few as 30, and a bootstrap of seeds and prompts in 69
(tests/report/test_statistics.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrl.fields import as_yaml
from llmrl.graph import STAGES
from llmrl.lineage.outdated import UNRECORDED
from llmrl.report.document import Block, Words
from llmrl.report.measures import NUMBERS, Measured, measured, so_many
from llmrl.report.outcome import ENDED, RANKED, RANKING, figures_of, outdated_stages, policies_of, ranked_right
from llmrl.report.recorded import Recorded
from llmrl.report.statistics import (
    LEVEL,
    Floats,
    Interval,
    of_numbers,
    of_shares,
    paired,
    prompts_needed,
    rounded,
    seeds_needed,
    student,
    together,
)

SEEDS = ("seed", "data_seed")  # the last part of a setting's name
RESULTLESS = ("run", "launch")  # sections that change no result
NOTHING: Interval = (math.nan, math.nan, math.nan)
Settings = dict[str, Any]  # by dotted name; the hashes of code and raw data by path


# --- columns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """An experiment with the figures of its policies."""

    experiment: Recorded
    seeds: tuple[tuple[str, Any], ...]  # those that differ between the experiments compared
    measured: dict[str, Measured]
    figures: dict[str, dict[str, Interval]]  # by policy and name

    def answers(self, policy: str, name: str) -> Measured | None:
        """A policy's, where they tell this figure."""
        found = self.measured.get(policy)
        return found if found and len(found.known(name)) else None


@dataclass(frozen=True)
class Column:
    """Experiments that differ in seeds alone: one column."""

    name: str
    members: list[Member]

    def having(self, policy: str, name: str) -> list[Member]:
        """Those that have a figure of a policy."""
        return [one for one in self.members if name in one.figures.get(policy, {})]

    def means(self, policy: str, name: str) -> Floats:
        """(seeds,) figures."""
        return np.array([one.figures[policy][name][0] for one in self.having(policy, name)])

    def figure(self, policy: str, name: str) -> tuple[Interval, bool]:
        """The mean over seeds with its interval, and whether that covers seeds; else it is over prompts alone."""
        members = self.having(policy, name)
        if len(members) < 2:
            return (members[0].figures[policy][name] if members else NOTHING), False
        mean, low, high = across = of_numbers(self.means(policy, name))
        same = same_prompts([one.answers(policy, name) for one in members])
        if unvarying(across):
            return pooled_figure(members, policy, name) if same else members[0].figures[policy][name], False
        if same:  # else each seed has prompts of its own
            mean, low, high = together(pooled_figure(members, policy, name), (0.0, low - mean, high - mean))
        return ((mean, low, high) if name in NUMBERS else (mean, max(0.0, low), min(1.0, high))), True


@dataclass(frozen=True)
class Difference:
    """What one group has over another in one figure."""

    interval: Interval
    seeds: int  # that the interval covers; 0: it is over prompts alone
    prompts: int  # that both answered; 0: they are others, or it is not known of each what came of it
    needed: str = ""  # what could tell a difference as large; empty where nothing could
    alike: int = 0  # seeds that all say exactly the same, from which no interval over seeds can be had
    apart: bool = False  # they have no seed in common, and one a single training: it is what a seed makes, too

    @property
    def over(self) -> str:
        """What its interval is over."""
        prompts = so_many(self.prompts, "prompt") if self.prompts else "unpaired prompts"
        if self.seeds:
            return f"over {prompts} and {self.seeds} seeds"
        if self.apart:
            return f"over {prompts} alone, of different seeds"
        return f"over {prompts} alone" + (f", as {self.alike} seeds say exactly the same" if self.alike else "")


def grouped(experiments: list[Recorded]) -> tuple[list[Column], list[str], list[Block]]:
    """The columns, the settings by which they differ, and what was left out."""
    settings = [deciding(one.params, one.locks) for one in experiments]
    every = dict.fromkeys(name for one in settings for name in one)
    varying = [name for name in every if is_seed(name) and len({as_yaml(one.get(name)) for one in settings}) > 1]
    differing = differing_names(settings)
    said: list[Block] = []
    members: dict[str, list[Member]] = {}
    same: dict[str, str] = {}
    for one, of in zip(experiments, settings, strict=True):
        made = as_yaml([of, *(one.hash(f"models/{stage}") for stage in STAGES)])
        if made in same:
            said.append(
                Words(f"{one.revision} is {same[made]} again, the same settings and models: it counts once.", "note")
            )
            continue
        same[made] = one.revision
        member, notes = member_of(one, tuple((name, of.get(name)) for name in varying))
        said += notes
        members.setdefault(as_yaml({name: of.get(name, "default") for name in differing}), []).append(member)
    groups = [Column(called(json.loads(key), several), several) for key, several in members.items()]
    return groups, differing, said


def member_of(experiment: Recorded, seeds: tuple[tuple[str, Any], ...]) -> tuple[Member, list[Block]]:
    """The figures of an experiment but those of another run, and what was left out."""
    found, notes = measured(experiment)
    said: list[Block] = [Words(f"{experiment.revision}: {note}", "bad") for note in notes]
    stale = outdated_stages(experiment)
    out = {stage for stage, why in stale.items() if why not in (UNRECORDED, ENDED)}
    for stage, why in stale.items():
        left = "left out, as its figures are" if stage in out else "its figures may change: they are"
        said.append(Words(f"{experiment.revision}, {stage}: {left} {why}.", "bad"))
    kept = {policy: one for policy, one in found.items() if policy not in out}
    figures = {
        policy: figures_of(experiment, kept, policy) for policy in policies_of(experiment, found) if policy not in out
    }
    for stage in [stage for stage in RANKING if stage not in out]:
        if share := ranked_right(experiment, stage):
            figures.setdefault(stage, {})[RANKED] = share
    if lacking := [policy for policy in figures if policy not in kept and policy != "reward"]:
        text = f"answers of {', '.join(lacking)} are not here: nothing is compared prompt by prompt."
        said.append(Words(f"{experiment.revision}: {text}", "note"))
    return Member(experiment, seeds, kept, figures), said


def deciding(params: dict[str, Any], locks: dict[str, dict[str, Any]]) -> Settings:
    """The settings by their dotted names, and by path the hash of what else it is made from: code, and raw data."""
    made = [out["path"] for entry in locks.values() for out in entry.get("outs", ())]
    raw: dict[str, set[str]] = {}  # of stages that have not run since one hash, of others another
    for dep in [dep for entry in locks.values() for dep in entry.get("deps", ())]:
        if not any(dep["path"] == out or dep["path"].startswith(f"{out}/") for out in made):
            raw.setdefault(dep["path"], set()).add(str(dep.get("md5")))
    return flat({name: value for name, value in params.items() if name not in RESULTLESS}) | {
        path: " ".join(sorted(hashes)) for path, hashes in raw.items()
    }


def flat(tree: dict[str, Any], within: str = "") -> Settings:
    """Its leaves by their dotted names.

    >>> flat({"dpo": {"beta": 0.1, "loss_type": ["sigmoid"]}, "launch": "python"})
    {'dpo.beta': 0.1, 'dpo.loss_type': ['sigmoid'], 'launch': 'python'}
    """
    found: Settings = {}
    for name, value in tree.items():
        found |= flat(value, f"{within}{name}.") if isinstance(value, dict) and value else {f"{within}{name}": value}
    return found


def is_seed(name: str) -> bool:
    """Whether a setting is a seed, by its dotted name."""
    return name.rpartition(".")[2] in SEEDS


def under(by: str, name: str) -> bool:
    """Whether a setting is the one that was named, or one of that map."""
    return name == by or name.startswith(f"{by}.")


def differing_names(several: list[Settings], but: str = "") -> list[str]:
    """The settings in which they differ, but for seeds and the one named."""
    names = dict.fromkeys(name for settings in several for name in settings)
    absent = object()
    return [
        name
        for name in names
        if not is_seed(name)
        and not (but and under(but, name))
        and any(one.get(name, absent) != several[0].get(name, absent) for one in several)
    ]


def called(settings: Settings, members: list[Member]) -> str:
    """What a column is called: its settings where these are few, else its first experiment."""
    if 0 < len(settings) <= 2 and not any("/" in name for name in settings):
        return ", ".join(
            f"{name} = {value if isinstance(value, str) else as_yaml(value)}" for name, value in settings.items()
        )
    more = f" and {len(members) - 1} more" if len(members) > 1 else ""
    return f"{members[0].experiment.revision}{more}"


def same_prompts(answers: Iterable[Measured | None]) -> bool:
    """Whether all were asked the same, as far as is known."""
    first, *others = answers
    return first is not None and all(one is not None and one.asked == first.asked for one in others)


def pooled(members: list[Member], policy: str, name: str) -> Floats:
    """(prompts,) mean over the seeds, whose prompts are the same; NaN where one of them has none."""
    return np.mean([one.measured[policy].values[name] for one in members], axis=0)


def pooled_figure(members: list[Member], policy: str, name: str) -> Interval:
    """Its mean with the interval over prompts alone."""
    values = pooled(members, policy, name)
    known = values[np.isfinite(values)]
    if name in NUMBERS:
        return of_numbers(known)
    return of_shares(known, len(members) * members[0].measured[policy].answers_of(name))


def unvarying(over_seeds: Interval) -> bool:
    """Whether several seeds say the same, so that Student's interval has no width: by chance, where few prompts are
    asked, and no proof that the next would.
    """
    return math.isclose(over_seeds[1], over_seeds[2], abs_tol=1e-9)


# --- differences -----------------------------------------------------------------------------------------------------


def over(one: Column, other: Column, policy: str, name: str, level: float = LEVEL) -> Difference | None:
    """What a group has over another; None where either has no such figure.

    Prompt by prompt where the prompts are the same, and seed by seed over the seeds that both have: a training without
    a partner is left out, where there are pairs.
    """
    mine, theirs = one.having(policy, name), other.having(policy, name)
    if not mine or not theirs:
        return None
    if matched := seed_by_seed(mine, theirs):
        mine, theirs = [my for my, _ in matched], [their for _, their in matched]
        one, other = Column(one.name, mine), Column(other.name, theirs)
    seeds = min(len(mine), len(theirs))
    apart = seeds == 1 and not matched
    gains = np.array([my.figures[policy][name][0] - their.figures[policy][name][0] for my, their in matched])
    if matched:
        across = of_numbers(gains, level)
    else:
        across = together(
            of_numbers(one.means(policy, name), level), negative(of_numbers(other.means(policy, name), level))
        )
    alike = seeds if unvarying(across) else 0
    varying = seeds > 1 and not alike
    if same_prompts([member.answers(policy, name) for member in (*mine, *theirs)]):
        before, after = pooled(theirs, policy, name), pooled(mine, policy, name)
        known = np.isfinite(before) & np.isfinite(after)
        gain = paired(before[known], after[known], level, shares=name not in NUMBERS)
        if not varying:
            needed = prompts_needed(before[known], after[known], level)
            could = f"About {rounded(needed):,} prompts could" if needed else ""
            return Difference(gain[:3], 0, gain.n, could, alike, apart)
        interval = together(gain[:3], (0.0, across[1] - across[0], across[2] - across[0]))
        return Difference(interval, seeds, gain.n, more_seeds(gains, (gain.high - gain.low) / 2, level))
    if varying and matched and all(same_prompts(one.answers(policy, name) for one in pair) for pair in matched):
        return Difference(across, seeds, 0, more_seeds(gains, 0.0, level))  # whose prompts vary with the seeds
    (my, seeded), (their, too) = one.figure(policy, name), other.figure(policy, name)
    mean, low, high = together(my, negative(their))
    wider = student(level, math.inf) / student(LEVEL, math.inf)
    interval = (mean, mean - wider * (mean - low), mean + wider * (high - mean))
    return Difference(interval, seeds if seeded and too else 0, 0, alike=alike, apart=apart)


def seed_by_seed(mine: list[Member], theirs: list[Member]) -> list[tuple[Member, Member]]:
    """Those of two columns with equal seeds. None where that is one, of several each: all tell more than one pair."""
    partners = {
        seeds: [one for one in theirs if one.seeds == seeds] for seeds in dict.fromkeys(one.seeds for one in mine)
    }
    found = [(member, partners[member.seeds].pop(0)) for member in mine if partners[member.seeds]]
    return found if len(found) > 1 or min(len(mine), len(theirs)) == 1 else []


def without_partner(one: Column, other: Column, policy: str, name: str) -> list[str]:
    """The trainings, by their revisions, that a difference of two columns leaves out."""
    mine, theirs = one.having(policy, name), other.having(policy, name)
    kept = {member.experiment.revision for pair in seed_by_seed(mine, theirs) for member in pair}
    return [revision for one in (*mine, *theirs) if kept and (revision := one.experiment.revision) not in kept]


def negative(interval: Interval) -> Interval:
    figure, low, high = interval
    return -figure, -high, -low


def more_seeds(gains: Floats, slack: float, level: float) -> str:
    """How many seeds could tell, beside a slack over prompts."""
    seeds = seeds_needed(gains, slack, level) if len(gains) > 1 and gains.mean() else None
    return f"About {seeds} seeds each could" if seeds else ""
