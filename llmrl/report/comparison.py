"""Two or more experiments side by side: which is better, by how much, and whether that is more than noise.

Experiments that differ in seeds alone are one column, and one is called better only beyond an interval that covers
both prompts and seeds (groups.py), by one figure, as a stage is judged (outcome.py). Several pairs are compared at
levels at which all intervals hold at once.
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
    Column,
    Difference,
    Member,
    Settings,
    deciding,
    differing_names,
    grouped,
    is_seed,
    over,
    under,
    without_partner,
)
from llmrl.report.measures import TITLES, difference, number, with_ends
from llmrl.report.outcome import RANKED, WAYS
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
    judges = len({one.experiment.hash("models/reward") for group in groups for one in group.members if has_scores(one)})
    if judges > 1:
        rows = [(policy, name) for policy, name in rows if name != "score"]
        text = f"Scores are left out: {judges} reward models gave them, and those of one say nothing beside another's."
        notes.append(Words(text, "note"))
    said: list[Block] = []
    judged = [(policy, way) for policy, way in rows if way in WAYS and all(one.having(policy, way) for one in groups)]
    policy = judged[-1][0] if judged else ""
    ways = [way for way in WAYS if (policy, way) in judged]
    if ways and len(groups) > 1:
        said += verdicts(groups, policy, ways)
    elif len(groups) > 1:
        said.append(
            Words("They have no policy in common whose right answers are known: none can be called better.", "note")
        )
    else:
        said.append(Words("They differ in seeds alone, if at all: their spread is what a seed makes."))
    ranked = ranked_by(groups, policy, ways[0]) if ways else groups
    alone = left_out(ranked, rows)
    if alone or any(len(group.members) == 1 for group in groups):
        said.append(Command(THREE, "trains with three seeds, which tell what a seed makes"))
    said += [*notes, *alone, what_differs(groups, differing), figures_grid(groups, rows)]
    if len(groups) > 1:
        said.append(differences_grid(ranked, rows))
    if any(len(group.members) > 1 for group in groups):
        said.append(each_seed(groups, rows))
    return Section("comparison", TITLE, said)


def has_scores(member: Member) -> bool:
    """Whether a reward model has scored any of its answers."""
    return any("score" in figures for figures in member.figures.values())


def left_out(ranked: list[Column], rows: list[tuple[str, str]]) -> list[Block]:
    """Which trainings the differences of the best group from each other one do without, a sentence each."""
    best, *others = ranked
    said: list[Block] = []
    for other in others:
        found: dict[str, dict[str, None]] = {}  # of which policies, by the trainings
        for policy, name in rows:
            if not same_models(best, other, policy) and (alone := without_partner(best, other, policy, name)):
                found.setdefault(", ".join(alone), {})[policy] = None
        between = f"{best.name} and {without_setting(other.name, best.name)}"
        said += [
            Words(
                f"Differences in {', '.join(policies)} between {between} are over the seeds that both have, "
                f"without {alone}.",
                "note",
            )
            for alone, policies in found.items()
        ]
    return said


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


def verdicts(groups: list[Column], policy: str, ways: list[str]) -> list[Block]:
    """Of the best group against each of the others: whether it is better, a sentence each; by the first of the ways,
    what the others say is said too.
    """
    best, *others = ranked_by(groups, policy, ways[0])
    said: list[Block] = []
    level = level_of(groups)
    for other in others:
        gain = over(best, other, policy, ways[0], level)
        ahead = not gain or gain.interval[0] >= 0  # over the seeds that both have it may be behind
        first, second = (best, other) if ahead else (other, best)
        versus = f"{first.name} {{}} {without_setting(second.name, first.name)}"
        found = {way: one for way in ways if (one := over(first, second, policy, way, level))}
        if same_models(best, other, policy):
            said.append(Words(f"{versus.format('makes the same models as')}: {policy} has the same bytes.", "note"))
        elif found:
            said.append(judgement(versus, policy, found))
    return said


def judgement(versus: str, policy: str, by_way: dict[str, Difference]) -> Words:
    """Whether one is better than the other by the first way, and what could tell where that cannot be told."""
    (way, found), *others = by_way.items()
    told = {name: one.interval[1] > 0 for name, one in others if one.interval[1] > 0 or one.interval[2] < 0}
    seen = "; ".join(
        f"{name} {number(name, one.interval[0], sign=True)} ({with_over(name, one)})" for name, one in by_way.items()
    )
    seen = f"right answers of {policy}, {seen}"
    if found.apart:
        why = "they have no seed in common, and one of them a single training"
        return Words(f"Whether {versus.format('is better than')} cannot be told over seeds, as {why}: {seen}.", "note")
    if not found.interval[1] > 0:  # nor where no interval is known
        aside = "".join(
            f" It is judged by {way} answers; the {name} ones are {'better' if better else 'worse'}."
            for name, better in told.items()
        )
        could = f" {found.needed} tell a difference as large, in 4 of 5 cases." if found.needed else ""
        return Words(f"Whether {versus.format('is better than')} cannot be told: {seen}.{aside}{could}", "note")
    worse = "".join(f", and worse by its {name} ones" for name, better in told.items() if not better)
    by = f" by its {way} answers{worse}" if worse else ""
    if found.seeds:
        return Words(f"{versus.format('is better than')}{by}: {seen}.", "plain" if worse else "good")
    unsure = "Seeds are not covered: whether another seed would say the same cannot be told."
    return Words(f"{versus.format('did better than')}{by}: {seen}. {unsure}", "note")


def with_over(way: str, found: Difference) -> str:
    """The ends of a difference's interval, and over what that is."""
    _, low, high = (number(way, figure, sign=True) for figure in found.interval)
    return "no interval is known" if math.isnan(found.interval[1]) else f"{low} to {high}, {found.over}"


def without_setting(name: str, like: str) -> str:
    """A group's name without the setting's where the other's has that.

    >>> without_setting("dpo.beta = 0.3", "dpo.beta = 0.1"), without_setting("slower", "main")
    ('0.3', 'slower')
    """
    key, is_, value = name.partition(" = ")
    return value if is_ and " = " not in value and like.startswith(f"{key} = ") else name


def same_models(one: Column, other: Column, policy: str) -> bool:
    """Whether a policy has the same bytes in both: at the seeds that both have, or whatever the seed, as a base has."""
    made = [
        {member.seeds: member.experiment.hash(f"models/{policy}") for member in column.members}
        for column in (one, other)
    ]
    every = {*made[0].values(), *made[1].values()}
    common = made[0].keys() & made[1].keys()
    return None not in every and (
        len(every) == 1 or (bool(common) and all(made[0][seeds] == made[1][seeds] for seeds in common))
    )


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
        "or three say little of the next: it is wide), of a single one, or where all seeds say exactly the same, over "
        "prompts alone (of pairs, over pairs).",
    )


def spread(name: str, means: Floats) -> str:
    """Standard deviation and range over seeds."""
    if len(means) < 2:
        return "–"
    return f"{number(name, means.std(ddof=1))} sd, {number(name, means.min())} to {number(name, means.max())}"


def differences_grid(ranked: list[Column], rows: list[tuple[str, str]]) -> Grid:
    """What the best group has over each other, in every figure."""
    best, *others = ranked
    cells, kinds = list[list[str]](), dict[str, None]()
    for policy in dict.fromkeys(policy for policy, _ in rows):
        same = [same_models(best, other, policy) for other in others]
        if all(same):
            cells.append([policy, *["same model"] * len(others)])
            continue
        for name in [name for of, name in rows if of == policy]:
            found = [over(best, other, policy, name, level_of(ranked)) for other in others]
            kinds |= dict.fromkeys(one.over for one in found if one)
            line = ["–" if one is None else difference(name, one.interval) for one in found]
            line = ["same model" if of else cell for of, cell in zip(same, line, strict=True)]
            cells.append([titled(policy, name), *line])
    at_once = ", of which those of a row hold at once in 95 of 100 cases" if len(others) > 1 else ""
    over_what = "; ".join(kinds) or "none is known"
    return Grid(
        [f"{best.name} over", *(without_setting(other.name, best.name) for other in others)],
        cells,
        f"Differences with {100 * level_of(ranked):.3g} % intervals{at_once}: {over_what}. Prompt by prompt where the "
        "prompts are the same, and seed by seed over the seeds that both have; where these are none, or one of several "
        f"each, between the means over all. Which is better is judged by the right {WAYS[0]} "
        "answers of the last policy alone, as each of these leaves 0 out in one of twenty cases without a difference.",
    )


def each_seed(groups: list[Column], rows: list[tuple[str, str]]) -> Grid:
    """Right answers of every experiment, by the way by which a policy is judged alone: a terminal shows no more."""
    members = [(group, one) for group in groups for one in group.members]
    way = {policy: name for name in reversed(WAYS) for policy, known in rows if known == name}
    shown = [(policy, name) for policy, name in rows if name in (way.get(policy), RANKED)]
    cells = [
        [
            f"{without_setting(group.name, groups[-1].name)}: " * (len(groups) > 1) + one.experiment.revision,
            *(with_ends(name, one.figures.get(policy, {}).get(name, (math.nan,) * 3)) for policy, name in shown),
        ]
        for group, one in members
    ]
    caption = "Every experiment by itself, with 95 % intervals over prompts alone (of pairs, over pairs)."
    return Grid(["each seed", *(titled(policy, name) for policy, name in shown)], cells, caption, folded=True)
