"""The curves of the stages: every chart of dvc.yaml, in plain words and names, over the revisions asked for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from clone import Clone
from unrun import charts, curves, unrun_clone

from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.report.curves import COLOURS, curves_of
from llmrl.report.document import Chart, Heading, Report, Section, Words
from llmrl.report.page import web_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The project with curves of all four stages, other ones in the last commit and now, each as DVC recorded them."""
    clone = unrun_clone(tmp_path_factory.mktemp("curves") / "project")
    curves(clone, 2)
    clone.run("dvc", "commit", "-q", "-f")
    return clone


@pytest.fixture
def standing(recorded: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """In which the test stands."""
    monkeypatch.chdir(recorded.folder)
    return recorded


def drawn(section: Section) -> dict[str, Chart]:
    return {block.title: block for block in section.blocks if isinstance(block, Chart)}


def test_every_curve_of_the_committed_run_is_in_a_chart() -> None:
    """Each curve that the stages write is in a chart of dvc.yaml, and each chart's curves are written."""
    declared = {path for chart in charts(ROOT).values() for path in chart["y"]}
    assert declared == {str(path.relative_to(ROOT)) for path in (ROOT / "metrics").glob("*/plots/**/*.tsv")}


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("revisions", [["workspace"], ["HEAD"], ["HEAD", "workspace"]])
def test_the_charts_of_every_stage(revisions: list[str]) -> None:
    """One for each in dvc.yaml, under its stage, of the revisions asked for and no other, each in its colour."""
    section = curves_of({one: {} for one in revisions})
    assert list(charts(ROOT)) == list(drawn(section))
    under = re.findall(r"Heading\(text='[^(]*\((\w+)\)'", str([b for b in section.blocks if isinstance(b, Heading)]))
    assert [*STAGES] == under
    assert not [block for block in section.blocks if isinstance(block, Words)]
    for chart in drawn(section).values():
        colour = chart.drawing["encoding"]["color"]
        scale = colour["scale"]
        assert dict(zip(revisions, COLOURS, strict=False)) == dict(zip(scale["domain"], scale["range"], strict=True))
        assert {row["rev"] for row in chart.drawing["data"]["values"]} == set(revisions)
        assert ("legend" in colour) == (len(revisions) == 1)


@pytest.mark.usefixtures("standing")
def test_what_is_outdated_is_told_by_who_asks() -> None:
    """DVC is not asked again, what has been found of each revision is said; of one alone its curves are drawn."""
    why = "of another run, as dpo.beta has changed since"
    alone, both = curves_of({"HEAD": {"dpo": why}}), curves_of({"HEAD": {"dpo": why}, "workspace": {}})
    assert [Words(f"HEAD is {why}.", "bad")] == [block for block in alone.blocks if isinstance(block, Words)]
    assert [Words(f"HEAD is left out: it is {why}.", "bad")] == [one for one in both.blocks if isinstance(one, Words)]
    assert {"HEAD"} == {row["rev"] for row in drawn(alone)["dpo margin"].drawing["data"]["values"]}
    assert {"workspace"} == {row["rev"] for row in drawn(both)["dpo margin"].drawing["data"]["values"]}


@pytest.mark.usefixtures("standing")
def test_names_and_words_are_plain() -> None:
    """No file's name; training and held out told apart; and what a curve did, for those who cannot see it."""
    one, two = drawn(curves_of({"workspace": {}})), drawn(curves_of({"HEAD": {}, "workspace": {}}))
    assert "training: 2 at step 0, 0.5 at step 10; held out: 2 at step 0, 0.5 at step 10" == one["dpo loss"].words
    assert "2 at step 0, 0.5 at step 10" == one["dpo margin"].words
    assert "HEAD: 1 at step 0, 0.25 at step 10" in two["dpo margin"].words
    encoding = one["grpo cut off"].drawing["encoding"]
    assert ["cut off", "repetition"] == encoding["strokeDash"]["scale"]["domain"]
    assert ["share of completions, of 4-grams"] == [" ".join(encoding["y"]["title"])]
    assert max(map(len, encoding["y"]["title"])) <= 28
    page = web_page(Report("", "", [Section("curves", "", [two["dpo loss"], two["dpo margin"]])]))
    assert 2 == page.count("<svg")
    assert not re.search(r"\.tsv|fill=\"white\"", page)
    assert {"HEAD", "workspace", "held out", "training"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", page))


def test_a_template_of_ones_own(recorded: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is drawn as it is."""
    shutil.copytree(recorded.folder, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    file = Path("dvc.yaml")
    before, name, after = file.read_text().partition("  - dpo margin:\n      template: simple\n")
    file.write_text(f"{before}{name.replace('simple', 'mine')}{after}")
    Path(".dvc/plots").mkdir(exist_ok=True)
    Path(".dvc/plots/mine.json").write_text(
        '{"data": {"values": "<DVC_METRIC_DATA>"}, "hconcat": [{"mark": "bar", "encoding": {"x": {"field": "step"}}}]}'
    )
    section = curves_of({"workspace": {}})
    mine = drawn(section)["dpo margin"]
    assert [{"mark": "bar", "encoding": {"x": {"field": "step"}}}] == mine.drawing["hconcat"]
    assert "width" not in mine.drawing
    assert "Drawn by a template of dvc.yaml's." == mine.words
    assert "<svg" in web_page(Report("", "", [Section("curves", "", [mine])]))


def test_what_cannot_be_drawn_is_said(standing: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision that there is not is a mistake; no curves yet are none."""
    with pytest.raises(InputError, match="nosuch"):
        curves_of({"nosuch": {}})
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for command in ("git init -q", "dvc init -q"):
        subprocess.run(command.split(), cwd=tmp_path, env=standing.environment, check=True)
    monkeypatch.chdir(tmp_path)
    none = Words("There are no curves to draw yet: `dvc repro` makes them.", "note")
    assert [none] == curves_of({"workspace": {}}).blocks
