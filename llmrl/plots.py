"""One page, or one picture, of the curves of all four stages, that needs no network.

    python -m llmrl.plots                        plots.html: the curves as they are now
    python -m llmrl.plots HEAD~1 my-experiment   the same, compared, as `dvc plots diff` does
    python -m llmrl.plots --png docs/plots.png   one picture

The charts are those of `plots:` in dvc.yaml, as DVC gives them (Vega-Lite). DVC's own page loads the library that draws
them from the network and is blank without; here they are drawn beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import vl_convert

from llmrl.errors import InputError, reported

PAGE = Path("plots.html")
STAGES = {
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "dpo": "Direct preference optimization",
    "grpo": "Group relative policy optimization",
}
COLOURS = ["#1f6fb4", "#e07b00", "#2a9d4a", "#c23b4e", "#7d5bbe", "#8a6240", "#46a5b8"]  # one a revision
DASHES = [[1, 0], [5, 3], [1, 2], [8, 3, 1, 3]]
LOOK = {
    "background": "white",
    "view": {"stroke": None},
    "title": {"fontSize": 13, "fontWeight": 600},
    "axis": {"titleFontWeight": "normal", "titleColor": "#555", "labelColor": "#555", "gridColor": "#e8e8e8"},
    "axisX": {"grid": False, "tickCount": 5},
    "axisY": {"tickCount": 5, "domain": False, "ticks": False, "labelPadding": 6},
    "legend": {
        "orient": "bottom",
        "title": None,
        "columns": 3,
        "symbolType": "stroke",
        "symbolSize": 400,
        "offset": 8,
        "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 2}},
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


@dataclass(frozen=True)
class Chart:
    """A chart of DVC's: `title` within a stage, drawn from `drawing` (Vega-Lite), over `revisions`."""

    stage: str
    title: str
    revisions: list[str]
    drawing: dict[str, Any]


def read(revisions: list[str]) -> list[Chart]:
    """DVC's charts, by stage: of the workspace, or of several revisions together."""
    # A chart's name begins with its stage's; so these leave out the charts that DVC makes of every single file.
    command = ["diff", *revisions, "--targets"] if revisions else ["show"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", *command, *STAGES, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(done.stderr.strip())
    charts = []
    for name, views in json.loads(done.stdout).get("data", {}).items():
        stage, _, title = name.partition(" ")
        charts += [Chart(stage, title, view["revisions"], tidy(view["content"])) for view in views if stage in STAGES]
    if not charts:
        raise InputError("There are no curves to draw yet: `dvc repro` makes them.")
    sys.stderr.write(done.stderr)  # which of them could not be read
    return sorted(charts, key=lambda chart: list(STAGES).index(chart.stage))


def tidy(drawing: dict[str, Any]) -> dict[str, Any]:
    """A drawing by DVC's template `simple` in our colours, its curves under plain names; any other as it is."""
    if drawing.get("mark", {}) != {"type": "line", "tooltip": {"content": "data"}}:
        return drawing
    rows = drawing["data"]["values"]
    x, y, colour, dash = (drawing["encoding"].get(channel, {}) for channel in ("x", "y", "color", "strokeDash"))
    for row in rows:  # DVC reads the tables as text
        row |= {axis["field"]: float(row[axis["field"]]) for axis in (x, y)}
    colour["scale"]["range"] = COLOURS
    if len(colour["scale"]["domain"]) == 1:
        colour["legend"] = None
    if dash:
        names = {curve: plain(curve, dash["scale"]["domain"]) for curve in dash["scale"]["domain"]}
        for row in rows:
            row[dash["field"]] = names[row[dash["field"]]]
        dash["scale"] = {"domain": list(names.values()), "range": DASHES}
        dash["legend"] = {}
    channels = {"x": x, "y": y, "color": colour} | ({"strokeDash": dash} if dash else {})
    return {"data": {"values": rows}, "mark": "line", "encoding": channels}


def plain(curve: str, curves: list[str]) -> str:
    """A curve's name as a legend says it: `train_loss.tsv::train_loss` is "training" beside `loss.tsv::loss`."""
    name = curve.rpartition("::")[2]
    twin = name.removeprefix("train_") if name.startswith("train_") else f"train_{name}"
    if f"{twin}.tsv::{twin}" not in curves:
        return name.replace("_", " ")
    return "training" if name.startswith("train_") else "held out"


def page(charts: list[Chart]) -> str:
    """The charts as one HTML page, drawn: no script, nothing to load."""
    revisions = ", ".join(dict.fromkeys(escape(revision) for chart in charts for revision in chart.revisions))
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Curves of {revisions}</title>\n<style>{STYLE}</style>\n<h1>Curves</h1>\n<p>{revisions}</p>",
    ]
    for stage in dict.fromkeys(chart.stage for chart in charts):
        parts.append(f"<section>\n<h2>{STAGES[stage]} <code>{stage}</code></h2>\n<div>")
        for chart in charts:
            if chart.stage == stage:
                size = {"width": 380, "height": 270, "autosize": {"type": "fit", "contains": "padding"}}
                drawing = chart.drawing | {"title": chart.title} | size
                parts.append(f"<div>{vl_convert.vegalite_to_svg(drawing, config=LOOK)}</div>")
        parts.append("</div>\n</section>")
    return "\n".join(parts) + "\n"


def picture(charts: list[Chart]) -> bytes:
    """The first two charts of each stage as one PNG picture, a column a stage."""
    stages = dict.fromkeys(chart.stage for chart in charts)
    columns = [[chart for chart in charts if chart.stage == stage][:2] for stage in stages]
    drawings = [
        chart.drawing | {"title": f"{chart.stage} {chart.title}", "width": 175, "height": 120}
        for row in zip_longest(*columns)
        for chart in row
        if chart
    ]
    apart = {"scale": {"strokeDash": "independent", "color": "independent"}}
    drawing = {"concat": drawings, "columns": len(columns), "spacing": 12, "resolve": apart}
    return bytes(vl_convert.vegalite_to_png(drawing, config=LOOK))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llmrl.plots", description="The curves, with no network.")
    parser.add_argument("revisions", nargs="*", help="commits, branches, experiments; a single one: against now")
    parser.add_argument("--png", type=Path, metavar="FILE", help=f"one picture in FILE, instead of {PAGE}")
    arguments = parser.parse_args()
    with reported():
        charts = read(arguments.revisions)
        path: Path = arguments.png or PAGE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(charts) if arguments.png else page(charts).encode())
        print(path)


if __name__ == "__main__":
    main()
