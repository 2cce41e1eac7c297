"""One page, or one picture, of the curves of all four stages, that needs no network.

    python -m llmrl.report.curves                        plots.html: the curves as they are now
    python -m llmrl.report.curves HEAD~1 my-experiment   the same, compared, as `dvc plots diff` does
    python -m llmrl.report.curves --png docs/plots.png   one picture

The charts are those of `plots:` in dvc.yaml, as DVC gives them (Vega-Lite). DVC's own page loads the library that draws
them from the network and is blank without; here they are drawn beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import vl_convert

from llmrl.errors import InputError, reported
from llmrl.graph import STAGES

PAGE = Path("plots.html")
COLOURS = ["#1f6fb4", "#e07b00", "#2a9d4a", "#c23b4e", "#7d5bbe", "#8a6240", "#46a5b8"]  # one a revision
DASHES = [[1, 0], [5, 3], [1, 2], [8, 3, 1, 3]]
LOOK = {
    "view": {"stroke": None},
    "title": {"fontWeight": 600},
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
section > div { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1rem }
svg { width: 100%; height: auto; max-width: 480px }
"""

Drawing = dict[str, Any]  # Vega-Lite


def charts(revisions: list[str]) -> tuple[dict[str, list[Drawing]], list[str]]:
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
    found: dict[str, list[Drawing]] = {stage: [] for stage in STAGES}
    drawn: list[str] = []
    for name, views in json.loads(done.stdout).get("data", {}).items():
        stage, _, title = name.partition(" ")
        for view in views if stage in found else ():
            found[stage].append(tidy(view["content"]) | {"title": title})
            drawn += view["revisions"]
    if not drawn:
        raise InputError("There are no curves to draw yet: `dvc repro` makes them.")
    sys.stderr.write(done.stderr)  # which of them could not be read
    return {stage: drawings for stage, drawings in found.items() if drawings}, list(dict.fromkeys(drawn))


def tidy(drawing: Drawing) -> Drawing:
    """A drawing by DVC's template `simple` in our colours, its curves under plain names; any other as it is."""
    if drawing.get("mark") != {"type": "line", "tooltip": {"content": "data"}}:
        return drawing
    encoding = {channel: how for channel, how in drawing["encoding"].items() if channel != "tooltip"}
    colour, dash = encoding["color"], encoding.get("strokeDash")
    colour["scale"]["range"] = COLOURS
    if len(colour["scale"]["domain"]) == 1:
        colour["legend"] = None
    if dash:
        field, curves = dash["field"], dash["scale"]["domain"]
        for row in drawing["data"]["values"]:
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


def web_page(stages: dict[str, list[Drawing]], revisions: list[str]) -> str:
    """The charts as one HTML page, drawn: no script, nothing to load."""
    title = escape(", ".join(revisions))
    text = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Curves of {title}</title>\n<style>{STYLE}</style>\n<h1>Curves</h1>\n<p>{title}</p>\n"
    )
    whole = {"width": 380, "height": 270, "autosize": {"type": "fit", "contains": "padding"}}
    for stage, drawings in stages.items():
        text += f"<section>\n<h2>{STAGES[stage].title} <code>{stage}</code></h2>\n<div>\n"
        for drawing in drawings:
            text += f"<div>{vl_convert.vegalite_to_svg(drawing | whole, config=LOOK)}</div>\n"
        text += "</div>\n</section>\n"
    return text


def picture(stages: dict[str, list[Drawing]]) -> bytes:
    """The first two charts of each stage as one PNG picture, a column a stage."""
    columns = [
        [drawing | {"title": f"{stage} {drawing['title']}", "width": 175, "height": 120} for drawing in drawings[:2]]
        for stage, drawings in stages.items()
    ]
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
        print(path)


if __name__ == "__main__":
    main()
