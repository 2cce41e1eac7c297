"""Two or more experiments side by side: which is better, by how much, and whether that is more than noise.

Experiments that differ in seeds alone are one column, and one is called better only beyond an interval that covers
both prompts and seeds (groups.py). Several pairs are compared at levels at which all intervals hold at once.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path

import yaml
from ruamel.yaml import YAML

from llmrl import repository
from llmrl.errors import InputError
from llmrl.fields import as_yaml, meant
from llmrl.graph import STAGES
from llmrl.report.document import Block, Command, Grid, Section, Words
from llmrl.report.groups import (
    RANKED,
    Column,
    Difference,
    Settings,
    deciding,
    differing_names,
    grouped,
    is_seed,
    over,
    under,
)
from llmrl.report.measures import TITLES, difference, number, with_ends
from llmrl.report.outcome import WAYS
from llmrl.report.recorded import WORKSPACE, Recorded, experiment_at
from llmrl.report.statistics import LEVEL, Floats
from llmrl.session.commit import git

TITLE = "Side by side"
THREE = "dvc exp run --queue -S train.seed=1,2,3"


# --- which experiments -----------------------------------------------------------------------------------------------


def selected(by: str | None, revisions: list[str]) -> list[Recorded]:
    """The experiments to compare: those of the revisions, or with `by` those of all experiments that git knows, and of
    the revisions (without any, of the last commit), which differ from each other in that setting and in seeds alone.

    What is left out of these is said on stderr. Raises InputError where fewer than two are left, or none knows `by`.
    """
    asked = list(dict.fromkeys(revisions))
    if by is None:
        if len(asked) < 2:
            raise InputError(
                "To compare takes two revisions or more: `dvc exp list` has the experiments, by their names."
            )
        return [experiment_at(revision) for revision in asked]
    known = {revision: settings_at(revision) for revision in asked or ["HEAD"]}
    known |= {name: settings_at(commit) for name, commit in experiments().items() if name not in known}
    found = {revision: settings for revision, settings in known.items() if settings}
    every = {name for settings in found.values() for name in settings}
    if not any(under(by, name) for name in every):
        raise InputError(f"{by}: no experiment has such a setting.{meant(by, every)}")
    groups: dict[str, list[str]] = {}
    for revision, settings in found.items():
        rest = {name: value for name, value in settings.items() if not is_seed(name) and not under(by, name)}
        groups.setdefault(json.dumps(rest, sort_keys=True, default=str), []).append(revision)
    chosen = max(groups.values(), key=lambda group: (len(values_of(by, found, group)), len(group)))
    if len(values_of(by, found, chosen)) < 2:
        raise InputError(
            f"{by}: no two of {len(found)} experiments differ in it and in seeds alone. "
            f"`dvc exp run --queue -S {by}=…` with several values makes some."
        )
    for revision in [revision for revision in known if revision not in chosen]:
        why = differing_names([found[chosen[0]], found[revision]], by) if revision in found else []
        told = f"it also differs in {', '.join(why)}" if why else "nothing is recorded there"
        print(f"{revision} is left out: {told}.", file=sys.stderr)
    return [experiment_at(revision) for revision in chosen]


def experiments() -> dict[str, str]:
    """The experiments that git knows, with their commits: by their names, by the commit where two have one name."""
    listed = git("for-each-ref", "--format=%(refname:lstrip=-1) %(objectname)", "refs/exps/??/*/*") or ""
    named = [line.split() for line in listed.splitlines()]
    counts = Counter(name for name, _ in named)
    return {name if counts[name] == 1 else commit: commit for name, commit in named}


def settings_at(revision: str) -> Settings:
    """What decides an experiment's results at a revision, by what git has; empty where nothing is recorded there."""
    if revision == WORKSPACE:
        text = Path("params.yaml").read_text(encoding="utf-8")
        locks = [repository.load(lock) for lock in repository.LOCKS]
    else:
        commit = git("rev-parse", "--verify", "-q", f"{revision}^{{commit}}") or experiments().get(revision)
        if not commit:
            raise InputError(f"{revision}: neither a commit nor one of the experiments that `dvc exp list` has.")
        text = git("show", f"{commit}:./params.yaml") or "{}"
        locks = [yaml.load(git("show", f"{commit}:./{lock}") or "{}", yaml.CSafeLoader) for lock in repository.LOCKS]
    stages = {name: entry for lock in locks for name, entry in (lock or {}).get("stages", {}).items()}
    return deciding(YAML(typ="safe").load(text) or {}, stages) if stages else {}


def values_of(by: str, found: dict[str, Settings], group: list[str]) -> set[str]:
    """The different values of a setting, or map, in a group of experiments."""
    return {as_yaml({name: value for name, value in found[revision].items() if under(by, name)}) for revision in group}


# --- the section -----------------------------------------------------------------------------------------------------


def compared(experiments: list[Recorded]) -> Section:
    """The section of the report: verdicts, what differs, figures side by side, differences, each seed."""
    groups, differing, notes = grouped(experiments)
    rows = figure_rows(groups)
    said: list[Block] = []
    judged = [policy for policy, name in rows if name in WAYS and all(group.having(policy, name) for group in groups)]
    if judged and len(groups) > 1:
        for way in [way for way in WAYS if (judged[-1], way) in rows]:
            said += verdicts(groups, judged[-1], way)
    elif len(groups) > 1:
        said.append(
            Words("They have no policy in common whose right answers are known: none can be called better.", "note")
        )
    else:
        said.append(Words("They differ in seeds alone, if at all: their spread is what a seed makes."))
    if any(len(group.members) == 1 for group in groups):
        said.append(Command(THREE, "trains with three seeds, by which it is told what a seed makes"))
    said += [*notes, what_differs(groups, differing), figures_grid(groups, rows)]
    if len(groups) > 1:
        way = WAYS[0] if judged and (judged[-1], WAYS[0]) in rows else WAYS[-1]
        said.append(differences_grid(ranked_by(groups, judged[-1], way) if judged else groups, rows))
    if any(len(group.members) > 1 for group in groups):
        said.append(each_seed(groups, rows))
    return Section("comparison", TITLE, said)


def figure_rows(groups: list[Column]) -> list[tuple[str, str]]:
    """Of which policies and models there is which figure, in the order of training."""
    members = [one for group in groups for one in group.members]
    order = dict.fromkeys([policy for one in members for policy in one.measured])
    every = sorted(
        {policy for one in members for policy in one.figures} | order.keys(),
        key=lambda policy: [*STAGES].index(policy) if policy in STAGES else -1,
    )
    names = [RANKED, *TITLES]
    return [(policy, name) for policy in every for name in names if any(group.having(policy, name) for group in groups)]


def ranked_by(groups: list[Column], policy: str, name: str) -> list[Column]:
    """The groups, the best first."""
    return sorted(groups, key=lambda group: -group.means(policy, name).mean())


def level_of(groups: list[Column]) -> float:
    """Of an interval of one of all pairs of groups, so that all hold at once in 95 of 100 cases (Bonferroni)."""
    return 1 - (1 - LEVEL) / math.comb(len(groups), 2)


def verdicts(groups: list[Column], policy: str, way: str) -> list[Block]:
    """Of the best group against each of the others: whether it is better, a sentence each."""
    best, *others = ranked_by(groups, policy, way)
    said: list[Block] = []
    for other in others:
        versus = f"{best.name} {{}} {without_setting(other.name, best.name)}"
        found = over(best, other, policy, way, level_of(groups))
        if same_models(best, other, policy):
            said.append(Words(f"{versus.format('makes the same models as')}: {policy} has the same bytes.", "note"))
        elif found:
            said.append(judgement(versus, f"right answers of {policy}, {way}", way, found))
    return said


def judgement(versus: str, what: str, way: str, found: Difference) -> Words:
    """Whether one is better than the other, and what could tell where that cannot be told."""
    mean, low, high = (number(way, figure, sign=True) for figure in found.interval)
    seen = f"{what} {mean} ({low} to {high}, {found.over})"
    if found.interval[1] <= 0:
        could = f" {found.needed} tell a difference as large, in 4 of 5 cases." if found.needed else ""
        return Words(f"Whether {versus.format('is better than')} cannot be told: {seen}.{could}", "note")
    if found.seeds:
        return Words(f"{versus.format('is better than')}: {seen}.", "good")
    unsure = "Seeds are not covered: of one training each it cannot be told whether another seed would say the same."
    return Words(f"{versus.format('did better than')}: {seen}. {unsure}", "note")


def without_setting(name: str, like: str) -> str:
    """A group's name without the setting's where the other's has that.

    >>> without_setting("dpo.beta = 0.3", "dpo.beta = 0.1"), without_setting("slower", "main")
    ('0.3', 'slower')
    """
    key, is_, value = name.partition(" = ")
    return value if is_ and " = " not in value and like.startswith(f"{key} = ") else name


def same_models(one: Column, other: Column, policy: str) -> bool:
    """Whether a policy has the same bytes in both: seed by seed, or whatever the seed, as a base model has."""
    made = [
        {member.seeds: member.experiment.hash(f"models/{policy}") for member in column.members}
        for column in (one, other)
    ]
    every = {*made[0].values(), *made[1].values()}
    return None not in every and (made[0] == made[1] or len(every) == 1)


def what_differs(groups: list[Column], differing: list[str]) -> Grid:
    """The settings that differ, and which experiments each column has."""
    rows = [["experiments", *(", ".join(one.experiment.revision for one in group.members) for group in groups)]]
    for name in differing:
        of = [deciding(group.members[0].experiment.params, group.members[0].experiment.locks) for group in groups]
        # of code and raw data the hash, as much of it as git shows
        rows.append([name, *(str(one.get(name, "–"))[:7] if "/" in name else as_yaml(one.get(name)) for one in of)])
    for name in [name for name, _ in groups[0].members[0].seeds]:
        rows.append([name, *(", ".join(as_yaml(dict(one.seeds)[name]) for one in group.members) for group in groups)])
    return Grid(
        ["what differs", *headings(groups)], rows, "Settings, code and raw data in which they differ, and seeds."
    )


def headings(groups: list[Column]) -> list[str]:
    """The groups' names, with how many seeds each has."""
    return [f"{one.name}, {len(one.members)} seeds" if len(one.members) > 1 else one.name for one in groups]


def titled(policy: str, name: str) -> str:
    """What a row is called."""
    return f"{policy}: {'pairs ranked right' if name == RANKED else TITLES[name]}"


def figures_grid(groups: list[Column], rows: list[tuple[str, str]]) -> Grid:
    """All figures side by side."""
    cells = []
    for policy, name in rows:
        figures = [group.figure(policy, name)[0] for group in groups]
        cells.append([titled(policy, name), *(with_ends(name, figure) for figure in figures)])
        if name in (*WAYS, RANKED) and any(len(group.having(policy, name)) > 1 for group in groups):
            cells.append(["  its spread over seeds", *(spread(name, group.means(policy, name)) for group in groups)])
    return Grid(
        ["", *headings(groups)],
        cells,
        "Means over seeds. In brackets 95 % intervals: of a column of several seeds over prompts and seeds (two "
        "or three say little of the next: it is wide), of a single one over prompts alone (of pairs, over pairs).",
    )


def spread(name: str, means: Floats) -> str:
    """Standard deviation and range over seeds."""
    if len(means) < 2:
        return "–"
    return f"{number(name, means.std(ddof=1))} sd, {number(name, means.min())} to {number(name, means.max())}"


def differences_grid(ranked: list[Column], rows: list[tuple[str, str]]) -> Grid:
    """What the best group has over each other, in every figure; scores only where one reward model gave them."""
    best, *others = ranked
    judges = {one.experiment.hash("models/reward") for group in ranked for one in group.members}
    cells, kinds = list[list[str]](), dict[str, None]()
    for policy in dict.fromkeys(policy for policy, _ in rows):
        same = [same_models(best, other, policy) for other in others]
        if all(same):
            cells.append([policy, *["same model"] * len(others)])
            continue
        for name in [name for of, name in rows if of == policy and not (name == "score" and len(judges) > 1)]:
            found = [over(best, other, policy, name, level_of(ranked)) for other in others]
            kinds |= dict.fromkeys(one.over for one in found if one)
            line = ["–" if one is None else difference(name, one.interval) for one in found]
            line = ["same model" if of else cell for of, cell in zip(same, line, strict=True)]
            cells.append([titled(policy, name), *line])
    at_once = ", all of which hold at once in 95 of 100 cases" if len(others) > 1 else ""
    over_what = "; ".join(kinds) or "none is known"
    return Grid(
        [f"{best.name} over", *(without_setting(other.name, best.name) for other in others)],
        cells,
        f"Differences with {100 * level_of(ranked):.3g} % intervals{at_once}: {over_what}. Prompt by prompt where the "
        "prompts are the same, seed by seed where the seeds are.",
    )


def each_seed(groups: list[Column], rows: list[tuple[str, str]]) -> Grid:
    """Right answers of every experiment."""
    members = [(group, one) for group in groups for one in group.members]
    shown = [(policy, name) for policy, name in rows if name in (*WAYS, RANKED)]
    cells = [
        [
            f"{group.name}: {one.experiment.revision}",
            *(with_ends(name, one.figures.get(policy, {}).get(name, (math.nan,) * 3)) for policy, name in shown),
        ]
        for group, one in members
    ]
    caption = "Every experiment by itself, with 95 % intervals over prompts alone."
    return Grid(["", *(titled(policy, name) for policy, name in shown)], cells, caption, folded=True)
