"""What came of it: the policies of an experiment side by side, and whether each stage helped.

Figures are over the held-out prompts, and what a stage gained over the policy it started from is told prompt by prompt.
Where nothing changed, one in twenty figures differs all the same: a stage is judged by one alone, its right sampled
answers. To judge it by the greedy ones as well, each at 95 %, would find a change in 7 to 9 of 100 such stages.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llmrl.graph import STAGES
from llmrl.lineage.outdated import UNRECORDED
from llmrl.measuring.answers import made_of, policy_name
from llmrl.measuring.intervals import wilson
from llmrl.report.curves import COLOURS
from llmrl.report.document import Block, Chart, Grid, Section, Words
from llmrl.report.measures import (
    TITLES,
    Measured,
    difference,
    gain_in,
    in_common,
    measured,
    number,
    so_many,
    with_ends,
)
from llmrl.report.samples import not_there
from llmrl.report.statistics import Interval, prompts_needed, rounded

if TYPE_CHECKING:
    from llmrl.report.recorded import Recorded

TITLE = "What came of it"
WAYS = ("sampled", "greedy")  # by the first that is known a stage is judged
RANKED = "accuracy"
ANSWERING = [stage for stage in STAGES if STAGES[stage].answers]
RANKING = [stage for stage in STAGES if STAGES[stage].sides == 2]
NAN = math.nan
ENDED = "those that dvc.lock has recorded, as its last run ended before it had any, or is under way"


def what_came_of_it(experiment: Recorded) -> Section:
    """The section of the report."""
    found, notes = measured(experiment)
    said: list[Block] = []
    stale = outdated_stages(experiment)
    for stage in ANSWERING:
        said += [as_outdated(block) if stage in stale else block for block in helped(experiment, found, stage)]
    said += [Words(f"{stage}: its figures are {why}.", "bad") for stage, why in stale.items()]
    said += [Words(note, "bad") for note in [*notes, *contradicted(experiment, found)]]
    figures = {policy: figures_of(experiment, found, policy) for policy in policies_of(experiment, found)}
    if any(WAYS[0] in of for of in figures.values()):
        said.append(drawn(figures))
    if figures:
        said.append(side_by_side(experiment, found, figures))
        said += by_task(experiment, [*figures])
    if gains := gains_of(experiment, found):
        said.append(gains)
    return Section("outcome", TITLE, said)


def outdated_stages(experiment: Recorded) -> dict[str, str]:
    """The four stages whose figures are of another run, and why. One that a gate stopped has drawn curves, and has no
    figures: its answers are those of the run that is recorded.
    """
    return {
        stage: ENDED if why == UNRECORDED and not experiment.figures.get(stage) else why
        for stage, why in experiment.outdated.items()
        if stage in STAGES and (experiment.figures.get(stage) or experiment.locks.get(stage))
    }


def as_outdated(block: Block) -> Block:
    """A verdict by figures that are of another run than what lies beside them: what was good in that is not in this."""
    if not isinstance(block, Words) or block.tone == "note":
        return block
    return Words(f"By outdated figures: {block.text}", "note" if block.tone == "good" else block.tone)


# --- figures ---------------------------------------------------------------------------------------------------------


def policies_of(experiment: Recorded, found: dict[str, Measured]) -> list[str]:
    """All of which anything is known, in the order of training."""
    names = []
    for stage in ANSWERING:
        if "answers_before" in experiment.figures.get(stage, {}):
            names.append(started_from(experiment, stage))
        if "answers" in experiment.figures.get(stage, {}):
            names.append(stage)
    return [*dict.fromkeys([*names, *found])] if set(names) - found.keys() else [*found]


def told_by_answers(experiment: Recorded, stage: str) -> dict[str, Any]:
    """What the answers of a stage's policy were made of; empty of those that do not tell."""
    table = experiment.tables.get(stage, {}).get("after")
    return {} if table is None else made_of(table)


def started_from(experiment: Recorded, stage: str) -> str:
    """The policy that a stage started from: as its answers tell, else by the settings."""
    settings = experiment.params.get(stage, {})
    return policy_name(told_by_answers(experiment, stage).get("init") or settings.get("init") or "models/base")


def closing(experiment: Recorded, policy: str) -> dict[str, Any]:
    """The figures of a policy's answers in metrics/."""
    if policy in STAGES:
        return experiment.figures.get(policy, {}).get("answers", {})
    of = (experiment.figures.get(stage, {}) for stage in ANSWERING if started_from(experiment, stage) == policy)
    return next((one["answers_before"] for one in of if "answers_before" in one), {})


def figures_of(experiment: Recorded, found: dict[str, Measured], policy: str) -> dict[str, Interval]:
    """The figures of a policy with their intervals over prompts: from its answers, else from metrics/, which have none
    of some.
    """
    if policy in found:
        names = [name for name in TITLES if len(found[policy].known(name))]
        return {name: found[policy].figure(name) for name in names}
    of = closing(experiment, policy)
    figures = {}
    for name in [name for name in TITLES if name in of]:
        slack = of.get(f"{name}_ci95") or NAN  # of revisions before there were both ends; 0 of 0 right is no interval
        ends = (of.get(f"{name}_low", of[name] - slack), of.get(f"{name}_high", of[name] + slack))
        if name in WAYS and "n" in of and (name == "greedy" or math.isnan(ends[0])):
            ends = wilson(of[name], of["n"])
        figures[name] = float(of[name]), float(ends[0]), float(ends[1])
    scores = experiment.figures.get("grpo", {}).get("scores", {})
    return figures | ({"score": (scores[policy], NAN, NAN)} if policy in scores else {})


def contradicted(experiment: Recorded, found: dict[str, Measured]) -> list[str]:
    """Figures in metrics/ that are not those of the answers beside them, a sentence a policy."""
    said = []
    for policy, one in found.items():
        of = closing(experiment, policy)
        names = [name for name in TITLES if name in of and len(one.known(name))]
        wrong = [name for name in names if not math.isclose(of[name], one.figure(name)[0], abs_tol=1e-6)]
        told = ", ".join(f"{name} {number(name, of[name])}, not {number(name, one.figure(name)[0])}" for name in wrong)
        if told:
            said.append(
                f"metrics/ says of {policy} what its answers do not: {told}. `make verify` tells what was changed."
            )
    return said


def side_by_side(experiment: Recorded, found: dict[str, Measured], figures: dict[str, dict[str, Interval]]) -> Grid:
    """The table: a column a policy, a row a figure."""
    stale = outdated_stages(experiment)
    rows = [["prompts with a solution", *(judged_of(experiment, found, policy) for policy in figures)]]
    for name in [name for name in TITLES if any(name in of for of in figures.values())]:
        rows.append([TITLES[name], *(with_ends(name, of.get(name, (NAN,) * 3)) for of in figures.values())])
    caption = (
        "Means over the held-out prompts, in brackets their 95 % intervals over prompts. What is right is a share of "
        "the prompts with a solution; ended, format, tokens, repetition and score are of sampled answers to all."
    )
    pairs = {policy: share for policy in figures if (share := ranked_right(experiment, policy))}
    if pairs:
        rows.append(
            ["held-out pairs ranked right", *(with_ends(RANKED, pairs.get(one, (NAN,) * 3)) for one in figures)]
        )
        numbers = [f" (n = {n:,})" for policy in pairs if (n := experiment.figures[policy].get("n"))]
        caption += (
            " A held-out pair is ranked right where DPO has made the chosen answer likelier by more than the other, "
            f"with the interval over pairs{''.join(numbers)}."
        )
    return Grid(
        ["", *(f"{policy} (outdated)" if policy in stale else policy for policy in figures)],
        rows,
        caption,
    )


def by_task(experiment: Recorded, policies: list[str]) -> list[Grid]:
    """What is right of each task of reasoning-gym, where the held-out prompts are not all of one."""
    told = {policy: closing(experiment, policy).get("by_task", {}) for policy in policies}
    prompts = {task: of["n"] for tasks in told.values() for task, of in tasks.items()}
    rows = []
    for task, n in sorted(prompts.items()):
        for way in WAYS:
            ends = [[of.get(task, {}).get(f"{way}{end}", NAN) for end in ("", "_low", "_high")] for of in told.values()]
            rows.append([f"{task} (n = {n:,}), {TITLES[way]}", *(with_ends(way, (a, b, c)) for a, b, c in ends)])
    return [Grid(["", *policies], rows, "The same of each task, by its own scorer.")] if rows else []


def ranked_right(experiment: Recorded, stage: str) -> Interval | None:
    """The share of held-out pairs whose chosen answer a stage's model scores higher, with its interval over pairs;
    without ends where it is not known of how many. None of what ranks none.
    """
    of = experiment.figures.get(stage, {}) if stage in RANKING else {}
    if RANKED not in of:
        return None
    return of[RANKED], *(wilson(of[RANKED], of["n"]) if of.get("n") else (NAN, NAN))


def judged_of(experiment: Recorded, found: dict[str, Measured], policy: str) -> str:
    """How many prompts its right answers are counted over."""
    n = len(found[policy].known("greedy")) if policy in found else closing(experiment, policy).get("n")
    return "–" if n is None else f"{n:,}"


# --- what each stage gained ------------------------------------------------------------------------------------------


def helped(experiment: Recorded, found: dict[str, Measured], stage: str) -> list[Block]:
    """Whether a stage helped, in a sentence; or why it cannot be said, and what would tell."""
    if stage not in found:
        return not_there(experiment, stage, f"Answers of {stage}")
    init = started_from(experiment, stage)
    if reason := incomparable(experiment, found, stage):
        return [Words(f"{stage}: {reason}.", "note")]
    before, after = found[init], found[stage]
    gains = {way: gain for way in WAYS if (gain := gain_in(before, after, way)).n}
    if not gains:
        return [
            Words(f"{stage}: no held-out prompt has a solution, so that nothing tells which answers are right.", "note")
        ]
    (way, gain), *others = gains.items()
    figures = " and ".join(f"{difference(name, one)} {name}" for name, one in gains.items())
    seen = f"right answers {figures}, over {so_many(gain.n, 'prompt')}, against {init}"
    told = {name: one.low > 0 for name, one in others if one.told}  # whether they got better
    if not gain.told:
        aside = "".join(
            f" It is judged by its {way} answers; the {name} ones got {'better' if better else 'worse'}."
            for name, better in told.items()
        )
        could = could_tell(prompts_needed(*in_common(before, after, way)))
        return [Words(f"Whether {stage} helped cannot be told with n = {gain.n:,}: {seen}.{aside}{could}", "note")]
    up = gain.low > 0
    if contrary := [name for name, better in told.items() if better != up]:
        better, worse = (way, contrary[0]) if up else (contrary[0], way)
        return [Words(f"{stage} helped {better} answers and made {worse} ones worse: {seen}.")]
    if up:
        return [Words(f"{stage} helped: {seen}.", "good")]
    return [Words(f"{stage} did not help, it made answers worse: {seen}.", "bad")]


def could_tell(needed: int | None) -> str:
    """Of how many prompts a difference like that would be told; empty where no number of them would do."""
    if not needed:
        return ""
    return (
        f" To tell a difference as large in 4 of 5 cases takes about {rounded(needed):,} prompts "
        "(`data.prompts.eval_rows`)."
    )


def incomparable(experiment: Recorded, found: dict[str, Measured], stage: str) -> str | None:
    """Why a stage cannot be set against what it started from, where it cannot."""
    init = started_from(experiment, stage)
    if init not in found:
        return f"answers of {init}, from which it started, are not recorded: what it gained is not known"
    deps = {dep["path"]: dep.get("md5") for dep in experiment.locks.get(stage, {}).get("deps", ())}
    began = told_by_answers(experiment, stage).get("init_model") or deps.get(f"models/{init}")
    here = made_of(experiment.policies()[init]).get("model") or experiment.hash(f"models/{init}")
    if began and here and began != here:
        return (
            f"it started from another {init} than the one whose answers are here, and cannot be compared with these: "
            "`dvc repro` gives those of the one"
        )
    if not {*found[init].asked} & {*found[stage].asked}:
        return f"{init}, from which it started, was asked other prompts"
    return None


def gains_of(experiment: Recorded, found: dict[str, Measured]) -> Grid | None:
    """The table of gains: a column a stage, over the policy that it started from."""
    stages = [stage for stage in ANSWERING if stage in found and not incomparable(experiment, found, stage)]
    if not stages:
        return None
    pairs = [(found[started_from(experiment, stage)], found[stage]) for stage in stages]
    rows = [["prompts in common", *(f"{len(set(before.asked) & set(after.asked)):,}" for before, after in pairs)]]
    for name in TITLES:
        gains = [gain_in(before, after, name) for before, after in pairs]
        if any(gain.n for gain in gains):
            rows.append([TITLES[name], *(difference(name, gain) for gain in gains)])
    return Grid(
        ["gain", *(f"{stage} over {started_from(experiment, stage)}" for stage in stages)],
        rows,
        "Differences prompt by prompt, in brackets the 95 % interval of their mean over prompts: of shares a paired "
        "bootstrap (Efron & Tibshirani 1993; Koehn 2004) with the pseudo-observations of Agresti & Min (2005), else "
        f"Student's. A stage is judged by its right {WAYS[0]} answers alone, as each of these leaves 0 out in one of "
        "twenty cases in which nothing changed. Another seed is not in it: three of them tell "
        "(`dvc exp run --queue -S train.seed=1,2,3`).",
    )


def drawn(figures: dict[str, dict[str, Interval]]) -> Chart:
    """Right answers by policy, sampled and greedy."""
    values = [
        {"policy": policy, "answers": way}
        | {what: end for what, end in zip(("share", "low", "high"), of[way], strict=True) if math.isfinite(end)}
        for policy, of in figures.items()
        for way in WAYS
        if way in of
    ]
    x = {"field": "policy", "type": "nominal", "sort": None, "axis": {"title": None, "labelAngle": 0}}
    colour = {"field": "answers", "type": "nominal", "scale": {"domain": [*WAYS], "range": COLOURS[: len(WAYS)]}}
    beside = {"field": "answers", "type": "nominal", "sort": [*WAYS]}
    y = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": "share of right answers"}
    drawing = {
        "data": {"values": values},
        "encoding": {"x": x, "xOffset": beside, "color": colour},
        "layer": [
            {"mark": "bar", "encoding": {"y": y | {"field": "share"}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": {"value": "#888"}},
            },
        ],
    }
    words = "; ".join(
        f"{policy} " + " and ".join(f"{with_ends(way, of[way])} {way}" for way in WAYS if way in of)
        for policy, of in figures.items()
    )
    return Chart("Right answers", drawing, f"Share of right answers, with 95 % intervals over prompts: {words}.")
