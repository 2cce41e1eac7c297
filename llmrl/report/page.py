"""A report as one HTML page that loads nothing: it works from a disk, offline, and prints.

What models and data say is text on it: escaped by Jinja where the page is written, and in the reader, whose answers are
JSON, shown through `textContent` alone. The page's policy (Content Security Policy Level 3, W3C) admits its own script,
by its hash, and no other, and nothing to load or to send.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from itertools import count, groupby
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmrl.errors import InputError
from llmrl.report.curves import COLOURS, SIZE
from llmrl.report.document import Chart, Reader, Report, Section, with_signs

HERE = Path(__file__).parent
IN_SCRIPT = re.compile("[<>&\u2028\u2029]")  # in JSON within HTML
INK, FAINT, RULE = "var(--ink)", "var(--faint)", "var(--rule)"
LOOK = {
    "aria": False,  # a label for each mark: the chart has one, in words
    "background": None,
    "view": {"stroke": None},
    "title": {"fontWeight": 600, "fontSize": 12, "color": INK, "subtitleColor": FAINT},
    "axis": {
        "titleFontWeight": "normal",
        "titleColor": FAINT,
        "labelColor": FAINT,
        "gridColor": RULE,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "axisX": {"grid": False, "tickCount": 5},
    "axisY": {"tickCount": 5, "domain": False, "ticks": False, "labelPadding": 6},
    "header": {"labelColor": FAINT, "titleColor": FAINT},
    "legend": {
        "orient": "bottom",
        "title": None,
        "columns": 2,
        "symbolSize": 200,
        "labelColor": INK,
        "titleColor": FAINT,
        "labelFontSize": 12,
        "labelLimit": 280,
        "offset": 8,
        "layout": {"bottom": {"direction": "vertical", "margin": 2}},
    },
    "text": {"color": INK},
    "rule": {"color": FAINT},
    "range": {"category": COLOURS},
}


def web_page(report: Report) -> str:
    """The page, whole."""
    return "".join(page_parts(report))


def page_parts(report: Report) -> Iterator[str]:
    """The page, a part at a time: one with every answer may be large."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    places = count(1)
    environment.filters["coded"] = coded
    environment.filters["drawn"] = lambda chart: picture(chart, next(places))
    script = (HERE / "reader.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    names = [section.name for section in report.sections]
    return environment.get_template("page.html.jinja").generate(
        report=report,
        script=script,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        policy=f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'",
        places=[name if names.count(name) == 1 else f"{name}-{at}" for at, name in enumerate(names, 1)],
        groups=groups,
        embedded=embedded,
    )


def finalized(value: Any) -> Any:
    """What a template prints."""
    return with_signs(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def coded(text: str) -> Markup:
    """A paragraph, with what stands in backticks as code."""
    parts = re.split("`([^`\n]+)`", with_signs(text))
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def groups(section: Section) -> list[tuple[str, list[Any]]]:
    """Its blocks, those of a kind that follow each other together: charts stand side by side."""
    return [(kind, list(blocks)) for kind, blocks in groupby(section.blocks, key=lambda block: type(block).__name__)]


def embedded(reader: Reader) -> Iterator[str]:
    """A reader's answers as JSON that can stand in HTML, a prompt at a time: a list a prompt, a list an answer, as
    reader.js takes them.
    """
    place = {policy: at for at, policy in enumerate(reader.policies)}
    before = [place.get(reader.before.get(policy, "")) for policy in reader.policies]
    named = in_script([with_signs(policy) for policy in reader.policies])
    yield f'{{"policies":{named},"before":{in_script(before)},"prompts":['
    for at, asked in enumerate(reader.prompts):
        answers = [
            [place[one.policy], one.greedy, one.right, one.tokens, one.ended, one.score, with_signs(one.text)]
            for one in asked.answers
        ]
        solution = None if asked.solution is None else with_signs(asked.solution)
        yield "," * (at > 0) + in_script([with_signs(asked.prompt), solution, answers])
    yield "]}"


def in_script(value: Any) -> str:
    """As JSON that can stand in HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return IN_SCRIPT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def picture(chart: Chart, place: int) -> str:
    """A chart as SVG in the colours of the page, light or dark; `place` tells its names from those of others."""
    whole = SIZE if {"mark", "layer"} & chart.drawing.keys() else {}
    try:
        drawn = vl_convert.vegalite_to_svg(whole | chart.drawing, config=LOOK)
    except ValueError as error:  # of a template of a user's own
        raise InputError(f"The chart {chart.title} cannot be drawn: {error}") from None
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>chart{place}-", drawn)
    for at, colour in enumerate(COLOURS):
        drawn = drawn.replace(f'="{colour}"', f'="var(--series{at})"')
    return drawn
