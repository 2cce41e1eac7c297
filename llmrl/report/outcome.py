"""What came of it: the policies of an experiment side by side, and whether each stage helped.

Figures are over the held-out prompts, and what a stage gained over the policy it started from is told prompt by prompt.
With so many figures one in twenty differs by chance: a stage is judged by its right answers alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.graph import STAGES
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
    with_ends,
)
from llmrl.report.samples import not_there
from llmrl.report.statistics import Interval, prompts_needed, rounded

if TYPE_CHECKING:
    from llmrl.report.recorded import Recorded

TITLE = "What came of it"
WAYS = ("sampled", "greedy")
ANSWERING = [stage for stage in STAGES if STAGES[stage].answers]
RANKING = [stage for stage in STAGES if STAGES[stage].sides == 2]
NAN = math.nan


def what_came_of_it(experiment: Recorded) -> Section:
    """The section of the report."""
    found, notes = measured(experiment)
    said: list[Block] = []
    for stage in ANSWERING:
        said += helped(experiment, found, stage)
    said += [Words(f"{stage}: its figures are {why}.", "bad") for stage, why in outdated_stages(experiment).items()]
    said += [Words(note, "bad") for note in [*notes, *contradicted(experiment, found)]]
    figures = {policy: figures_of(experiment, found, policy) for policy in policies_of(experiment, found)}
    if any(WAYS[0] in of for of in figures.values()):
        said.append(drawn(figures))
    if figures:
        said.append(side_by_side(experiment, found, figures))
    if gains := gains_of(experiment, found):
        said.append(gains)
    return Section("outcome", TITLE, [*said, *pairs_ranked(experiment)])


def outdated_stages(experiment: Recorded) -> dict[str, str]:
    """The four stages whose figures are of another run, and why."""
    return {stage: why for stage, why in experiment.outdated.items() if stage in STAGES}


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


def started_from(experiment: Recorded, stage: str) -> str:
    """The policy that a stage started from."""
    return Path(experiment.params.get(stage, {}).get("init") or "models/base").name


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
        slack = of.get(f"{name}_ci95", NAN)  # of revisions before there were both ends
        ends = (of.get(f"{name}_low", of[name] - slack), of.get(f"{name}_high", of[name] + slack))
        if name == "greedy" and "n" in of:
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
    return Grid(
        ["", *(f"{policy} (outdated)" if policy in stale else policy for policy in figures)],
        rows,
        "Means over the held-out prompts, in brackets their 95 % intervals over prompts. What is right is a share of "
        "the prompts with a solution; ended, format, tokens, repetition and score are of sampled answers to all.",
    )


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
    n = gains[WAYS[0]].n
    up = [way for way, gain in gains.items() if gain.low > 0]
    down = [way for way, gain in gains.items() if gain.high < 0]
    figures = " and ".join(f"{difference(way, gain)} {way}" for way, gain in gains.items())
    over = f"right answers {figures}, over {init} and {n:,} prompts"
    if up and down:
        return [Words(f"{stage} helped {up[0]} answers and made {down[0]} ones worse: {over}.")]
    if up:
        return [Words(f"{stage} helped: {over}.", "good")]
    if down:
        return [Words(f"{stage} did not help, it made answers worse: {over}.", "bad")]
    needed = {way: prompts_needed(*in_common(before, after, way)) for way in gains}
    return [Words(f"Whether {stage} helped cannot be told with n = {n:,}: {over}.{could_tell(needed)}", "note")]


def could_tell(needed: dict[str, int | None]) -> str:
    """Of how many prompts differences like those would be told; empty where no number of them would do."""
    told = [f"about {rounded(n):,} prompts for {way} answers" for way, n in needed.items() if n]
    if not told:
        return ""
    return f" To tell a difference as large in 4 of 5 cases takes {', '.join(told)} (`data.prompts.eval_rows`)."


def incomparable(experiment: Recorded, found: dict[str, Measured], stage: str) -> str | None:
    """Why a stage cannot be set against what it started from, where it cannot."""
    init = started_from(experiment, stage)
    if init not in found:
        return f"answers of {init}, from which it started, are not recorded: what it gained is not known"
    deps = {dep["path"]: dep.get("md5") for dep in experiment.locks.get(stage, {}).get("deps", ())}
    began = deps.get(f"models/{init}")
    if began and began != experiment.hash(f"models/{init}"):
        return (
            f"it started from another {init} than the one here, so that nothing tells what it gained: `dvc repro` does"
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
        "Differences prompt by prompt, in brackets the 95 % interval of their mean over prompts: a paired bootstrap "
        "(Efron & Tibshirani 1993; Koehn 2004), of shares with the pseudo-observations of Agresti & Min (2005). "
        "Another seed is not in it: three of them tell (`dvc exp run --queue -S train.seed=1,2,3`).",
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


def pairs_ranked(experiment: Recorded) -> list[Block]:
    """How many of the held-out pairs are ranked right, by the reward model and by DPO's policy."""
    rows = []
    for stage in RANKING:
        of = experiment.figures.get(stage, {})
        if "accuracy" in of:
            n = of.get("n")
            ends = wilson(of["accuracy"], n) if n else (NAN, NAN)
            before = of.get("accuracy_before", NAN)
            after = with_ends("accuracy", (of["accuracy"], *ends))
            rows.append([stage, number("accuracy", before), after, f"{n:,}" if n else "–"])
    if not rows:
        return []
    return [
        Grid(
            ["held-out pairs ranked right", "before", "after", "pairs"],
            rows,
            "The share of pairs whose chosen answer scores higher, in brackets its 95 % interval over pairs. DPO's "
            "policy scores an answer by how much likelier it has become than it was: before, none has.",
        )
    ]
