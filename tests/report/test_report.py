"""The report as a command: of a run, of two revisions, in the terminal, and what it writes."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from clone import Clone, micro_clone
from rich.console import Console

from llmrl.report.__main__ import printed, verdicts, write_whole
from llmrl.report.document import Chart, Command, Grid, Heading, Quote, Quotes, Reader, Report, Section, Words

NAMES = ["outcome", "reading", "audit", "gaming", "inputs", "making", "curves"]


def places(page: str) -> list[str]:
    """Of its sections, in order."""
    return [part.partition('"')[0] for part in page.split('<section id="')[1:]]


def answers(page: str) -> dict[str, Any]:
    """Those that its reader holds."""
    return json.loads(page.partition('<script type="application/json">')[2].partition("</script>")[0])


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there stays until the new one is, whatever a text has; nothing lies beside it."""
    out = tmp_path / "made" / "report.html"
    write_whole(out, "first \ud83d")
    assert "first \\ud83d" == out.read_text()
    assert 0o644 == stat.S_IMODE(out.stat().st_mode) | 0o044
    with pytest.raises(TypeError):
        write_whole(out, None)  # type: ignore[arg-type]
    assert "first \\ud83d" == out.read_text()
    assert [out] == list(out.parent.iterdir())


def test_the_terminal_shows_every_block() -> None:
    """A comparison above all; no control character reaches it, and no markup of Rich's is taken for such."""
    blocks = [
        Words("[red]it[/red] \x1b[2J", "good"),
        Heading("Part"),
        Grid(["", "a"], [["right", "0.50"], ["[b]", "\x07"]], "n = 4"),
        Command("dvc repro", "makes it"),
        Chart("loss", {}, "it fell"),
        Quotes("read", [Quote("said", "of", "by")]),
        Reader(["sft"], []),
    ]
    screen = Console(width=100, record=True, force_terminal=False)
    for block in blocks:
        screen.print(printed(block))
    said = screen.export_text()
    assert "[red]it[/red] ␛[2J" in said
    assert "[b]       ␇\n" in said
    for text in ("Part", "n = 4", "right  0.50", "makes it: dvc repro", "loss: it fell", "said", "0 prompts"):
        assert text in said


def test_verdicts_are_those_of_stages_and_experiments() -> None:
    """What else a section says is on the page."""
    sections = [
        Section(
            "outcome", "", [Words("sft helped", "good"), Words("dpo cannot be told", "note"), Heading("no")], of="a"
        ),
        Section("gaming", "", [Words("none tripped", "good"), Words("it repeats itself", "bad")]),
        Section("inputs", "", [Words("rows", "bad")]),
    ]
    found = [str(line) for line in verdicts(Report("", "", sections))]
    assert ["a: sft helped", "a: dpo cannot be told", "it repeats itself"] == found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, run, and committed."""
    clone = micro_clone(tmp_path_factory.mktemp("report") / "project")
    clone.run("dvc", "repro")
    clone.commit("a run")
    return clone


@pytest.mark.slow
def test_the_report_of_a_run(ran: Clone) -> None:
    """Every section in its place, the figures those of metrics/, and its path said last."""
    said = ran.run(sys.executable, "-m", "llmrl.report")
    assert "report.html" == said.splitlines()[-1]
    page, text = ((ran.folder / name).read_text() for name in ("report.html", "report.md"))
    assert NAMES == places(page)
    assert len(NAMES) == text.count("\n## ")
    for stage in ("sft", "dpo", "grpo"):
        figures = ran.figures(stage)["answers"]
        assert f"{figures['greedy']:.3f}".removeprefix("0") in text
        assert f"{figures['sampled']:.3f}".removeprefix("0") in text
    assert "" == ran.run("git", "status", "--porcelain")


@pytest.mark.slow
def test_the_report_of_a_commit_without_what_it_made(ran: Clone) -> None:
    """By DVC's cache alone, the same answers."""
    ran.run(sys.executable, "-m", "llmrl.report")
    ran.run(sys.executable, "-m", "llmrl.report", "HEAD", "--out", "made/head.html", "--markdown", "made/head.md")
    held, here = (answers((ran.folder / name).read_text()) for name in ("made/head.html", "report.html"))
    assert held == here
    assert 8 == len(held["prompts"])


@pytest.mark.slow
def test_two_experiments(ran: Clone) -> None:
    """Compared first, and their answers side by side; in the terminal the comparison alone."""
    ran.run("dvc", "exp", "run", "-n", "other", "-S", "dpo.beta=0.5", "dpo", "grpo")
    ran.run("git", "checkout", "-q", ".")
    ran.run("dvc", "checkout", "-q")
    ran.run(sys.executable, "-m", "llmrl.report", "main", "other", "--out", "two.html", "--markdown", "two.md")
    page = (ran.folder / "two.html").read_text()
    of_each = ["outcome", "audit", "gaming", "inputs", "making"]
    found = [place.rpartition("-")[0] or place for place in places(page)]
    assert ["comparison", "reading", *of_each, *of_each, "curves"] == found
    assert '"policies":["main","other"]' in page
    before = (ran.folder / "report.html").stat().st_mtime_ns
    said = ran.run(sys.executable, "-m", "llmrl.report", "--compare", "main", "other")
    assert "dpo.beta" in said
    assert said.isprintable() or "\x1b" not in said
    assert before == (ran.folder / "report.html").stat().st_mtime_ns


@pytest.mark.slow
def test_what_cannot_be_reported_is_said(ran: Clone) -> None:
    """A revision that there is not: one message, and the page that there is stays."""
    said = ran.run(sys.executable, "-m", "llmrl.report", "nosuch", check=False)
    assert "nosuch" in said
    assert "Traceback" not in said
