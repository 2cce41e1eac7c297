"""The page of curves: every stage on it, and nothing that a browser would fetch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from unrun import charts, curves, unrun_clone

from llmrl.graph import STAGES

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r"""<script|<link|<iframe|@import|url\(\s*["']?\w+:|(?:src|href)\s*=\s*["']?(?:\w+:)?//""", re.I)


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
    identity |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in identity.items()}
    environment = os.environ | identity | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def plots(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "llmrl.report.curves", *arguments, folder=folder)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a Git and DVC repository in which no stage has run."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for command in ("git init -q", "git add .", "git commit -qm bare"):
        assert run(*command.split(), folder=folder).returncode == 0
    assert run(sys.executable, "-m", "dvc", "init", "-q", folder=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with curves of all four stages, other ones in the last commit and now, each as DVC recorded them."""
    clone = unrun_clone(tmp_path_factory.mktemp("curves") / "project")
    curves(clone, 2)
    clone.run("dvc", "commit", "-q", "-f")
    return clone.folder


def test_every_curve_of_the_committed_run_is_in_a_chart() -> None:
    """Each curve that the stages write is in a chart of dvc.yaml, and each chart's curves are written."""
    drawn = {path for chart in charts(ROOT).values() for path in chart["y"]}
    assert drawn == {str(path.relative_to(ROOT)) for path in (ROOT / "metrics").glob("*/plots/**/*.tsv")}


@pytest.mark.parametrize("revisions", [[], ["HEAD", "workspace"]])
def test_page_has_the_charts_of_every_stage_and_loads_nothing(project: Path, revisions: list[str]) -> None:
    """The page holds a drawn chart for each in dvc.yaml, under its stage, over the revisions asked for."""
    done = plots(*revisions, folder=project)
    assert (done.returncode, done.stderr) == (0, "")
    page = (project / "plots.html").read_text()
    assert not FETCHED.search(page)
    sections = page.split("<section>")[1:]
    assert len(sections) == len(STAGES)
    for stage, section in zip(STAGES, sections, strict=True):
        assert f"<h2>{STAGES[stage].title} <code>{stage}</code>" in section
        assert section.count("<svg") == sum(name.startswith(f"{stage} ") for name in charts(ROOT))
    assert ("HEAD" in page) == bool(revisions)
    assert "held out" in page
    assert ".tsv" not in page


def test_picture_is_small(project: Path) -> None:
    """The picture is a PNG file of less than 200 KB."""
    done = plots("HEAD", "workspace", "--png", "docs/curves.png", folder=project)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "docs/curves.png\n")
    picture = (project / "docs/curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000


def test_what_cannot_be_drawn_is_said_in_one_message(bare: Path, project: Path) -> None:
    """Without curves, or for a revision that there is not, one message and exit status 2, and no page."""
    none, unknown = plots(folder=bare), plots("nosuch", folder=project)
    assert (none.returncode, none.stderr) == (2, "There are no curves to draw yet: `dvc repro` makes them.\n")
    assert not (bare / "plots.html").exists()
    assert unknown.returncode == 2
    assert "nosuch" in unknown.stderr
    assert "Traceback" not in unknown.stderr
