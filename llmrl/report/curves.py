"""The curves of all four stages as a report's section, of one revision or of several together.

The charts are those of `plots:` in dvc.yaml, as DVC gives them (Vega-Lite), templates of a user's own included. DVC
draws whatever lies in metrics/. Where another run made a stage's curves than what lies beside them, it is said here;
and where several revisions are compared, such a curve is left out: it is one of theirs, or of none.
"""

from __future__ import annotations

from itertools import cycle
from textwrap import wrap
from typing import Any

from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.lineage.outdated import UNRECORDED
from llmrl.report.document import Block, Chart, Drawing, Heading, Section, Words

COLOURS = ["#1f6fb4", "#e07b00", "#2a9d4a", "#c23b4e", "#7d5bbe", "#8a6240", "#46a5b8"]  # one a revision
DASHES = [[1, 0], [5, 3], [1, 2], [8, 3, 1, 3]]
TITLE = 28  # characters of a line of an axis's title, that it is not cut
SIZE = {"width": 350, "height": 220, "autosize": {"type": "fit", "contains": "padding"}}


def curves_of(outdated: dict[str, dict[str, str]]) -> Section:
    """DVC's charts under their stages: of `workspace` or any other revision, or of several together, each with what is
    outdated of it (llmrl.lineage.outdated).

    Raises InputError where DVC cannot read one.
    """
    revisions = list(outdated)
    views = dvc_charts(revisions)
    every = [one for one in revisions if any(one in drawn for charts in views.values() for _, _, drawn in charts)]
    blocks: list[Block] = []
    if not every:
        blocks.append(Words("There are no curves to draw yet: `dvc repro` makes them.", "note"))
    colours = dict(zip(every, cycle(COLOURS), strict=False))
    for stage, charts in views.items():
        drawn = [one for one in every if any(one in revisions for _, _, revisions in charts)]
        doubts = {revision: outdated[revision][stage] for revision in drawn if stage in outdated[revision]}
        other = {revision for revision, reason in doubts.items() if len(every) > 1 and reason != UNRECORDED}
        notes = [f"{one} is {'left out: it is ' if one in other else ''}{reason}." for one, reason in doubts.items()]
        drawings = {title: tidy(drawing, colours, other) for title, drawing, _ in charts}
        if notes or drawings:
            blocks.append(Heading(f"{STAGES[stage].title} ({stage})"))
            blocks += [Words(note, "bad") for note in notes]
            blocks += [
                Chart(f"{stage} {title}", sized(drawing), told(drawing, len(colours)))
                for title, drawing in drawings.items()
                if drawn_rows(drawing) != []
            ]
    return Section("curves", "Curves", blocks)


def dvc_charts(revisions: list[str]) -> dict[str, list[tuple[str, Drawing, list[str]]]]:
    """By stage: each chart's title, DVC's drawing of it, and the revisions that it has curves of."""
    from dvc.exceptions import DvcException
    from dvc.render.match import match_defs_renderers
    from dvc.repo import Repo

    views: dict[str, list[tuple[str, Drawing, list[str]]]] = {stage: [] for stage in STAGES}
    with Repo() as repo:
        try:
            # A chart's name begins with its stage's; so these leave out the charts that DVC makes of every single file.
            found = repo.plots.show(targets=list(STAGES), revs=revisions)
        except DvcException as error:
            raise InputError(f"{', '.join(revisions)}: {error}") from None
        for renderer, *_ in match_defs_renderers(found, templates_dir=repo.plots.templates_dir):
            stage, _, title = renderer.name.partition(" ")
            if stage in views and renderer.TYPE == "vega" and renderer.datapoints:
                views[stage].append((title, renderer.get_filled_template(), renderer.get_revs()))
    return views


def sized(drawing: Drawing) -> Drawing:
    """A drawing as large as the others; one of several side by side has no size of its own."""
    return drawing | SIZE if {"mark", "layer"} & drawing.keys() else drawing


def drawn_rows(drawing: Drawing) -> list[dict[str, Any]] | None:
    """What it draws; None where a template of a user's own has it in another place than DVC's."""
    return drawing.get("data", {}).get("values")


def tidy(drawing: Drawing, colours: dict[str, str], left_out: set[str]) -> Drawing:
    """A drawing without some of its revisions; by DVC's template `simple` in our colours, its curves under plain names,
    any other as it is, but for its title, which the page has beside it.
    """
    drawing = {key: value for key, value in drawing.items() if key != "title"}
    if rows := drawn_rows(drawing):
        rows = [row for row in rows if row.get("rev") not in left_out]
        drawing["data"] = drawing["data"] | {"values": rows}
    if drawing.get("mark") != {"type": "line", "tooltip": {"content": "data"}}:
        return drawing
    encoding = {channel: how for channel, how in drawing["encoding"].items() if channel != "tooltip"}
    encoding |= {axis: encoding[axis] | {"title": wrap(encoding[axis].get("title") or "", TITLE)} for axis in "xy"}
    colour, dash = encoding["color"], encoding.get("strokeDash")
    shown = [revision for revision in colour["scale"]["domain"] if revision not in left_out]
    colour["scale"] = {"domain": shown, "range": [colours[revision] for revision in shown]}
    if len(colours) == 1:
        colour["legend"] = None
    if dash:
        field, curves = dash["field"], dash["scale"]["domain"]
        for row in rows or ():
            row[field] = plain_name(row[field], curves)
        dash["scale"] = {"domain": [plain_name(curve, curves) for curve in curves], "range": DASHES}
        dash["legend"] = {}
    return {"data": drawing["data"], "mark": "line", "encoding": encoding}


def plain_name(curve: str, curves: list[str]) -> str:
    """A curve's name as a legend says it: `train_loss.tsv::train_loss` is "training" beside `loss.tsv::loss`."""
    name = curve.rpartition("::")[2]
    measure = name.removeprefix("train_")
    if all("::train_" in one for one in curves):
        return measure.replace("_", " ")
    if {f"{measure}.tsv::{measure}", f"train_{measure}.tsv::train_{measure}"} <= set(curves):
        return "held out" if name == measure else "training"
    return name.replace("_", " ")


def told(drawing: Drawing, revisions: int) -> str:
    """How each of its curves begins and ends; of a template of a user's own that it is one."""
    if "encoding" not in drawing or drawing.get("mark") != "line":
        return "Drawn by a template of dvc.yaml's."
    x, y = (drawing["encoding"][axis]["field"] for axis in "xy")
    dash = drawing["encoding"].get("strokeDash", {}).get("field")
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in drawn_rows(drawing) or ():
        named = [row.get("rev", "")] * (revisions > 1) + [row.get(dash, "")] * bool(dash)
        curves.setdefault(" ".join(filter(None, named)), []).append((float(row[x]), float(row[y])))
    said = []
    for name, points in curves.items():
        (first, begins), (last, ends) = min(points), max(points)
        how = f"{begins:.3g} at step {first:g}" + f", {ends:.3g} at step {last:g}" * (last > first)
        said.append(f"{name}: {how}" if name else how)
    return "; ".join(said)
