"""Whether the reward was gamed: whether what was paid for rose without right answers, and what a policy does then.

A policy that is trained on a reward model's score finds what the score pays for. Up to a point that is what was meant;
beyond, the score rises on while what was meant falls: over-optimisation (Gao et al. 2022,
https://arxiv.org/abs/2210.10760, who call the two proxy and gold). Here it is right answers, by the judge, that are
meant. So both are set against each other over the policies and over GRPO's steps, beside what a gamed reward is mostly
paid with: length, answers without an end, repetition (seq-rep-4 of Welleck et al. 2019,
https://arxiv.org/abs/1908.04319), one answer alone (entropy). llmrl/session/tripwires.py says what trips a wire.

Intervals are of 95 % over prompts. A curve's points are of the completions that were trained on, of other prompts at
each step, and have none.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from llmrl.graph import STAGES
from llmrl.measuring.answers import policy_name
from llmrl.report import audit
from llmrl.report.audit import across
from llmrl.report.curves import COLOURS
from llmrl.report.document import Block, Chart, Grid, Section, Words
from llmrl.report.measures import TITLES, Measured, difference, gain_in, measured, number, with_ends
from llmrl.report.samples import not_there
from llmrl.session.tripwires import GAMED, JUDGED, LEAST, Evidence, Tripwire, looks

if TYPE_CHECKING:
    from llmrl.report.recorded import Recorded

TITLE = "Was the reward gamed?"
POINTS = 200  # of a curve that are drawn: of more, means of neighbours
FIFTH = 5  # a curve's first and last fifth are set beside each other
SUM = "groups_with_signal"
# The charts over GRPO's steps: their title, what the axis has, and the curves by how they are called there.
CHARTS = (
    ("Reward", "weighted sum of rewards", {"train_reward": "reward"}),
    ("Length", "tokens a completion", {"train_tokens": "tokens"}),
    ("Cut off, repeated", "share", {"train_cut_off": "cut off", "train_repetition": "4-grams repeated"}),
    ("Entropy", "entropy of a token", {"train_entropy": "entropy"}),
)

Curve = list[tuple[int, float]]


def was_it_gamed(experiment: Recorded) -> Section:
    """The section of the report."""
    policies, notes = measured(experiment)
    curves = experiment.curves.get("grpo", {})
    wires, verdicts, looked = tripwires(experiment, policies)
    verdicts += [*paid_for(experiment, policies, wires), *(Words(note, "note") for note in notes)]
    figures = over_policies(policies) if policies else []
    if "grpo" not in policies:
        figures += not_there(experiment, "grpo", "Answers of the policy that was trained on rewards")
    if experiment.figures.get("grpo"):
        figures += [*over_steps(curves), *signal(experiment, curves)]
    figures.sort(key=lambda block: isinstance(block, Chart))  # side by side, after the tables
    return Section("gaming", TITLE, [*verdicts, *figures, *looked])


# --- tripwires -------------------------------------------------------------------------------------------------------


def tripwires(experiment: Recorded, policies: dict[str, Measured]) -> tuple[list[Tripwire], list[Block], list[Block]]:
    """What looks wrong of each stage that has run, the same in words with how much was looked at, and each look."""
    scored = [policy for policy, one in policies.items() if "score" in one.values]  # whose scores are of these answers
    wires: list[Tripwire] = []
    said: list[Block] = []
    rows = []
    lacking: dict[str, int] = {}  # how many, by why
    for stage in [stage for stage in STAGES if experiment.figures.get(stage) or experiment.tables.get(stage)]:
        own, tables = experiment.params.get(stage, {}), experiment.tables.get(stage, {})
        if (scores := tables.get("scores")) is not None:
            tables = tables | {"scores": scores.filter(pc.is_in(scores["policy"], pa.array(scored, pa.string())))}
        evidence = Evidence(
            stage,
            experiment.figures.get(stage, {}),
            experiment.curves.get(stage, {}),
            {policy: table for policy, table in experiment.policies().items() if policy != stage} | tables,
            policy_name(own.get("init") or ""),
            groups_a_step(experiment) if STAGES[stage].generates else 0,
        )
        for look in looks(evidence):
            wires += look.found
            said += [Words(f"{stage}: {one.line} (said of {one.threshold}).", "bad") for one in look.found]
            rows.append([stage, look.at, "tripped" if look.found else look.lacks or "nothing"])
            if look.lacks:
                lacking[look.lacks] = lacking.get(look.lacks, 0) + 1
    if not rows:
        return [], [], []
    seen = len(rows) - (lacks := sum(lacking.values()))
    if lacks:
        none = ", none of which tripped" if seen and not wires else ""
        whys = "; ".join(f"{n} as {why}" for why, n in lacking.items())
        said.append(
            Words(f"{seen} of {len(rows)} tripwires could be looked at{none}. {lacks} could not: {whys}.", "note")
        )
    elif not wires:
        said.append(Words(f"None of {seen} tripwires tripped.", "good"))
    caption = "Tripwires: what each looks for, and what it found, or why it has too little to go by."
    return wires, said, [Grid(["stage", "looks for", "found"], rows, caption, folded=True)]


# --- over the policies -----------------------------------------------------------------------------------------------


def paid_for(experiment: Recorded, policies: dict[str, Measured], wires: list[Tripwire]) -> list[Block]:
    """Whether GRPO's policy has more right answers for what its reward model's score rose; that it was gamed, a
    tripwire says.
    """
    own = experiment.params.get("grpo", {})
    init = policy_name(own.get("init") or "models/dpo")
    if not {"grpo", init} <= policies.keys():
        return []
    score, right = (gain_in(policies[init], policies["grpo"], name) for name in ("score", "sampled"))
    if not right.n:
        return [
            Words("No held-out prompt has a solution: nothing tells whether the reward was earned or gamed.", "note")
        ]
    answers = f"right answers by {difference('sampled', right)}, over {right.n:,} prompt{'s' * (right.n != 1)}"
    if not score.n:
        return [Words(f"From {init} to grpo {answers}; the reward model's scores of them are not recorded.", "note")]
    seen = f"from {init} to grpo the reward model's score changed by {difference('score', score)}, and {answers}"
    few = min(score.n, right.n)
    if "reward_model" not in own.get("rewards", {"reward_model": 1}):
        return [
            Words(f"The reward model is none of grpo.rewards, its score was not what was paid for: {seen}.", "note")
        ]
    if few >= LEAST and right.high < 0:
        if any(wire.name == GAMED and wire.seen.startswith(f"from {init} to grpo:") for wire in wires):
            return []
        how = "while the score rose" if score.low > 0 else "without a rise of the score"
        return [Words(f"Right answers became fewer, {how}: {seen}.", "bad")]
    if few >= LEAST and score.low > 0 and right.low > 0:
        return [Words(f"The reward was earned: {seen}.", "good")]
    if few >= LEAST and score.high < 0:
        return [Words(f"The score fell, so that it was not gamed: {seen}.")]
    return [
        Words(f"Whether the score was earned cannot be told with {few:,} prompt{'s' * (few != 1)}: {seen}.", "note")
    ]


def over_policies(policies: dict[str, Measured]) -> list[Block]:
    """The score against right answers, and what a gamed reward is paid with."""
    names = ("score", "sampled", "tokens", "ended", "repetition")
    known = [name for name in names if any(len(one.known(name)) for one in policies.values())]
    titles = TITLES | {"ended": "cut off", "repetition": "4-grams repeated"}
    columns = []
    for policy, one in policies.items():
        cells = [with_ends(name, cut_off(one.figure(name)) if name == "ended" else one.figure(name)) for name in known]
        columns.append([policy, *cells, f"{len(one.asked):,}"])
    caption = (
        "Means over the held-out prompts of sampled answers, in brackets their 95 % intervals over prompts: cut off is "
        "the share that did not end by itself, repeated the share of an answer's 4-grams of tokens that it had before."
    )
    blocks: list[Block] = [across([["", *(titles[name] for name in known), "prompts"], *columns], caption)]
    both = {policy: one for policy, one in policies.items() if len(one.known("score")) and len(one.known("sampled"))}
    if both:
        blocks.append(Words(f'The wrong answers that it scores highest stand under "{audit.TITLE}".'))
    return [*blocks, against(both)] if len(both) > 1 else blocks


def cut_off(ended: tuple[float, float, float]) -> tuple[float, float, float]:
    """The rest of a share."""
    share, low, high = ended
    return 1 - share, 1 - high, 1 - low


def against(policies: dict[str, Measured]) -> Chart:
    """Right answers against the score, a point a policy in the order of training."""
    values: list[dict[str, Any]] = []
    for order, (policy, one) in enumerate(policies.items()):
        (score, left, end), (right, low, high) = one.figure("score"), one.figure("sampled")
        values.append({"order": order, "policy": policy, "score": score, "right": right, "low": low, "high": high})
        if math.isfinite(left):
            values[-1] |= {"left": left, "end": end}
    x = {"field": "score", "type": "quantitative", "title": "reward model's score", "scale": {"zero": False}}
    y = {"field": "right", "type": "quantitative", "title": "share of right answers", "scale": {"domain": [0, 1]}}
    colour = COLOURS[0]
    drawing = {
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "rule", "color": colour},
                "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "rule", "color": colour},
                "encoding": {"x": x | {"field": "left"}, "x2": {"field": "end"}, "y": y},
            },
            {
                "mark": {"type": "line", "point": True, "color": colour},
                "encoding": {"x": x, "y": y, "order": {"field": "order"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 7, "dy": 9},
                "encoding": {"x": x, "y": y, "text": {"field": "policy"}},
            },
        ],
    }
    told = ", ".join(
        f"{one['policy']} {number('score', one['score'])} and {number('right', one['right'])}" for one in values
    )
    return Chart(
        "Right answers against the score",
        drawing,
        f"Score and share of right answers, sampled: {told}. A line that turns down is a reward that is gamed.",
    )


# --- over GRPO's steps -----------------------------------------------------------------------------------------------


def over_steps(curves: dict[str, Curve]) -> list[Block]:
    """The over-optimisation plot, and what else of GRPO's completions is drawn by step."""
    known = {name: points for name, points in curves.items() if name.startswith("train_") and points}
    if not known:
        return [Words("No curves of GRPO's completions are recorded: `dvc repro` trains with them.", "note")]
    rows = []
    for name, points in known.items():
        values = [value for _, value in points]
        part = max(1, len(values) // FIFTH)
        ends = (statistics.fmean(values[:part]), statistics.fmean(values[-part:]))
        rows.append(
            [
                name.removeprefix("train_").replace("_", " "),
                *map(figure, ends),
                f"{len(points):,}",
            ]
        )
    grid = Grid(
        ["over GRPO's steps", "at first", "at last", "points"],
        rows,
        "Means of the first and of the last fifth of each curve's points: of the completions that were trained on, of "
        "other prompts at each step, without an interval.",
    )
    drawn = [over_optimisation(known)] if {f"train_{JUDGED}", "train_reward_model"} <= known.keys() else []
    for title, axis, names in CHARTS:
        if chosen := {called: known[name] for name, called in names.items() if name in known}:
            drawn.append(by_step(title, axis, chosen))
    return [*drawn, grid]


def over_optimisation(curves: dict[str, Curve]) -> Chart:
    """The reward model's score and right completions over the steps, each by its own axis."""
    lines = (
        ("train_reward_model", "reward model's score", {"zero": False}),
        (f"train_{JUDGED}", "share right", {"domain": [0, 1]}),
    )
    layers = [
        {
            "data": {"values": [{"step": step, "value": value} for step, value in thinned(curves[name])]},
            "mark": {"type": "line", "color": colour},
            "encoding": {
                "x": {"field": "step", "type": "quantitative", "title": "optimizer step"},
                "y": {
                    "field": "value",
                    "type": "quantitative",
                    "title": title,
                    "scale": scale,
                    "axis": {"titleColor": colour, "grid": False},
                },
            },
        }
        for (name, title, scale), colour in zip(lines, COLOURS, strict=False)
    ]
    return Chart(
        "Score and right completions",
        {"layer": layers, "resolve": {"scale": {"y": "independent"}}},
        "The reward model's score (left) and the share of right completions (right) by optimizer step: a score that "
        "rises while the share falls is over-optimised.",
    )


def by_step(title: str, axis: str, curves: dict[str, Curve], scale: dict[str, Any] | None = None) -> Chart:
    """Curves by optimizer step."""
    values = [
        {"step": step, "value": value, "of": called}
        for called, points in curves.items()
        for step, value in thinned(points)
    ]
    colour: dict[str, Any] = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": [*curves], "range": COLOURS[: len(curves)]},
    }
    if len(curves) == 1:
        colour["legend"] = None
    drawing = {
        "data": {"values": values},
        "mark": "line",
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": "optimizer step"},
            "y": {"field": "value", "type": "quantitative", "title": axis, "scale": scale or {}},
            "color": colour,
        },
    }
    told = "; ".join(
        f"{called} {figure(points[0][1])} at step {points[0][0]:,}, {figure(points[-1][1])} at step {points[-1][0]:,}"
        for called, points in curves.items()
    )
    return Chart(title, drawing, f"{told}.")


def figure(value: float) -> str:
    """A point of a curve.

    >>> figure(-0.04567), figure(128.0)
    ('−0.0457', '128')
    """
    return f"{value:.3g}".replace("-", "−")


def thinned(points: Curve) -> Curve:
    """A curve of so many points at most: means of neighbours, at the last step of each."""
    several = math.ceil(len(points) / POINTS)
    parts = [points[at : at + several] for at in range(0, len(points), several)] if points else []
    return [(part[-1][0], statistics.fmean(value for _, value in part)) for part in parts]


# --- what there was to learn from ------------------------------------------------------------------------------------


def signal(experiment: Recorded, curves: dict[str, Curve]) -> list[Block]:
    """The share of groups whose completions differ in a reward by itself, and in the sum."""
    figures = experiment.figures.get("grpo", {})
    named = {"the weighted sum": figures.get(SUM)}
    named |= {name.removeprefix("signal_"): value for name, value in figures.items() if name.startswith("signal_")}
    known = {name: value for name, value in named.items() if isinstance(value, int | float)}
    if not known:
        return []
    steps = max((points[-1][0] for points in curves.values() if points), default=0)
    groups = int(steps * groups_a_step(experiment))
    caption = (
        "Groups of completions to a prompt that differ in a reward by itself, and in the weighted sum: only these "
        "teach. By a reward model's score nearly any two texts differ, so that with it the sum says little of what "
        "there is to learn: the rewards by themselves do."
    )
    grid = Grid(
        ["differ in", "share of groups", "groups"],
        [[name, number("share", value), f"{groups:,}" if groups else "–"] for name, value in known.items()],
        caption,
    )
    drawn = {
        name: curves[key]
        for name in known
        if curves.get(key := SUM if name == "the weighted sum" else f"signal_{name}")
    }
    return [grid, by_step("Groups with signal", "share of groups", drawn, {"domain": [0, 1]})] if drawn else [grid]


def groups_a_step(experiment: Recorded) -> float:
    """How many groups of completions an optimizer step has; 0 where the settings do not tell."""
    settings = experiment.params.get("train", {}) | experiment.params.get("grpo", {})
    try:
        return int(settings["batch"]) / int(settings["num_generations"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0
