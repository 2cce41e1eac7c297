"""One page, or one picture, of the curves of all four stages, that needs no network.

    python -m llmrl.report.curves                        plots.html: the curves as they are now
    python -m llmrl.report.curves HEAD~1 my-experiment   the same, compared, as `dvc plots diff` does
    python -m llmrl.report.curves --png docs/plots.png   one picture

The charts are those of `plots:` in dvc.yaml, as DVC gives them (Vega-Lite). DVC's own page loads the library that draws
them from the network and is blank without; here they are drawn beforehand. And DVC draws whatever lies in metrics/.
Where another run made a stage's curves than what lies beside them, it is said here; and where several revisions are
compared, such a curve is left out: it is one of theirs, or of none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from html import escape
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any

import vl_convert

from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.report.outdated import UNRECORDED, outdated

PAGE = Path("plots.html")
COLOURS = ["#1f6fb4", "#e07b00", "#2a9d4a", "#c23b4e", "#7d5bbe", "#8a6240", "#46a5b8"]  # one a revision
DASHES = [[1, 0], [5, 3], [1, 2], [8, 3, 1, 3]]
LOOK = {
    "view": {"stroke": None},
    "title": {"fontWeight": 600, "subtitleColor": "#a33", "limit": 200},
    "axis": {"titleFontWeight": "normal", "titleColor": "#555", "labelColor": "#555", "gridColor": "#e8e8e8"},
    "axisX": {"grid": False, "tickCount": 5},
    "axisY": {"tickCount": 5, "domain": False, "ticks": False, "labelPadding": 6},
    "legend": {
        "orient": "bottom",
        "title": None,
        "columns": 3,
        "symbolSize": 400,
        "offset": 8,
        "layout": {"bottom": {"direction": "vertical", "margin": 2}},
    },
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1240px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1.1rem; margin: 1.5rem 0 1rem; border-bottom: 1px solid #ddd }
p, code { color: #555; margin: 0; font-weight: normal }
h2 ~ p { color: #a33; margin-bottom: 0.5rem }
section > div { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1rem }
svg { width: 100%; height: auto; max-width: 480px }
"""

Drawing = dict[str, Any]  # Vega-Lite


@dataclass(frozen=True)
class Charts:
    """Of one stage: its charts, and what of its curves is of another run, a sentence each."""

    drawings: list[Drawing]
    notes: list[str]


def charts(revisions: list[str]) -> tuple[dict[str, Charts], list[str]]:
    """DVC's charts, by stage: of the workspace, or of several revisions together. And which revisions these are.

    Raises InputError where there are none.
    """
    # A chart's name begins with its stage's; so these leave out the charts that DVC makes of every single file.
    command = ["diff", *revisions, "--targets"] if revisions else ["show"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", *command, *STAGES, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(done.stderr.strip())
    views: dict[str, list[tuple[str, Drawing]]] = {stage: [] for stage in STAGES}
    drawn: dict[str, dict[str, None]] = {stage: {} for stage in STAGES}  # revisions
    for name, several in json.loads(done.stdout).get("data", {}).items():
        stage, _, title = name.partition(" ")
        for view in several if stage in views else ():
            views[stage].append((title, view["content"]))
            drawn[stage] |= dict.fromkeys(view["revisions"])
    if not (every := list(dict.fromkeys(revision for stage in STAGES for revision in drawn[stage]))):
        raise InputError("There are no curves to draw yet: `dvc repro` makes them.")
    sys.stderr.write(done.stderr)  # which of them could not be read
    why, found, colours = outdated(every), {}, dict(zip(every, cycle(COLOURS), strict=False))
    for stage in [stage for stage in STAGES if views[stage]]:
        doubts = {revision: why[revision][stage] for revision in drawn[stage] if stage in why[revision]}
        other = {revision for revision, reason in doubts.items() if len(every) > 1 and reason != UNRECORDED}
        drawings = [tidy(drawing, colours, other) | {"title": title} for title, drawing in views[stage]]
        notes = [f"{one} is {'left out: it is ' if one in other else ''}{reason}." for one, reason in doubts.items()]
        found[stage] = Charts([one for one in drawings if drawn_rows(one) != []], notes)
    return found, every


def drawn_rows(drawing: Drawing) -> list[dict[str, Any]] | None:
    """What it draws; None where a template of a user's own has it in another place than DVC's."""
    return drawing.get("data", {}).get("values")


def tidy(drawing: Drawing, colours: dict[str, str], left_out: set[str]) -> Drawing:
    """A drawing without some of its revisions; by DVC's template `simple` in our colours, its curves under plain names,
    any other as it is.
    """
    if rows := drawn_rows(drawing):
        rows = [row for row in rows if row.get("rev") not in left_out]
        drawing = drawing | {"data": drawing["data"] | {"values": rows}}
    if drawing.get("mark") != {"type": "line", "tooltip": {"content": "data"}}:
        return drawing
    encoding = {channel: how for channel, how in drawing["encoding"].items() if channel != "tooltip"}
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
    if {f"{measure}.tsv::{measure}", f"train_{measure}.tsv::train_{measure}"} <= set(curves):
        return "held out" if name == measure else "training"
    return name.replace("_", " ")


def web_page(stages: dict[str, Charts], revisions: list[str]) -> str:
    """The charts as one HTML page, drawn: no script, nothing to load."""
    title = escape(", ".join(revisions))
    text = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Curves of {title}</title>\n<style>{STYLE}</style>\n<h1>Curves</h1>\n<p>{title}</p>\n"
    )
    whole = {"width": 380, "height": 270, "autosize": {"type": "fit", "contains": "padding"}}
    for stage, of in stages.items():
        text += f"<section>\n<h2>{STAGES[stage].title} <code>{stage}</code></h2>\n"
        text += "".join(f"<p>{escape(note)}</p>\n" for note in of.notes) + "<div>\n"
        for drawing in of.drawings:
            text += f"<div>{vl_convert.vegalite_to_svg(drawing | whole, config=LOOK)}</div>\n"
        text += "</div>\n</section>\n"
    return text


def picture(stages: dict[str, Charts]) -> bytes:
    """The first two charts of each stage as one PNG picture, a column a stage."""
    size = {"width": 175, "height": 120}
    columns = [
        [one | size | {"title": {"text": f"{stage} {one['title']}", "subtitle": of.notes}} for one in of.drawings[:2]]
        for stage, of in stages.items()
        if of.drawings
    ]
    if not columns:
        raise InputError("There is nothing to draw: " + " ".join(note for of in stages.values() for note in of.notes))
    rows = [drawing for row in zip_longest(*columns) for drawing in row if drawing]
    apart = {"scale": {"strokeDash": "independent", "color": "independent"}}
    drawing = {"concat": rows, "columns": len(columns), "spacing": 12, "resolve": apart}
    return bytes(vl_convert.vegalite_to_png(drawing, config=LOOK))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llmrl.report.curves", description="The curves, with no network.")
    parser.add_argument("revisions", nargs="*", help="commits, branches, experiments; a single one: against now")
    parser.add_argument("--png", type=Path, metavar="FILE", help=f"one picture in FILE, instead of {PAGE}")
    arguments = parser.parse_args()
    with reported():
        found, revisions = charts(arguments.revisions)
        path: Path = arguments.png or PAGE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(found) if arguments.png else web_page(found, revisions).encode())
        for stage, of in found.items():
            sys.stderr.writelines(f"{stage}: {note}\n" for note in of.notes)
        print(path)


if __name__ == "__main__":
    main()
