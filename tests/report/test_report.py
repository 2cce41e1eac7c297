"""The report as a command: of a run, of two revisions, in the terminal, and what it writes."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from clone import Clone, micro_clone
from rich.console import Console

from llmrl.errors import InputError
from llmrl.report.__main__ import print_blocks, printed, refuse_place, told_once, verdicts, write_whole
from llmrl.report.document import Block, Command, Grid, Heading, Reader, Report, Section, Words

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
    write_whole(out, ["fir", "st \ud83d"])
    assert "first \\ud83d" == out.read_text()
    assert 0o644 == stat.S_IMODE(out.stat().st_mode) | 0o044
    with pytest.raises(ZeroDivisionError):
        write_whole(out, ("second" if at else str(1 // at) for at in (1, 0)))
    assert "first \\ud83d" == out.read_text()
    assert [out] == list(out.parent.iterdir())


def test_the_terminal_shows_a_comparison() -> None:
    """Every block of it; no control character reaches it, and no markup of Rich's is taken for such."""
    blocks: list[Block] = [
        Words("[red]it[/red] \x1b[2J", "good"),
        Grid(["", "a"], [["right", "0.50"], ["[b]", "\x07"]], "n = 4"),
        Command("dvc repro", "makes it"),
    ]
    screen = Console(width=100, record=True, force_terminal=False)
    for block in blocks:
        screen.print(printed(block))
    said = screen.export_text()
    assert "[red]it[/red] ␛[2J" in said
    assert "[b]       ␇\n" in said
    for text in ("n = 4", "right  0.50", "makes it: dvc repro"):
        assert text in said


def test_paragraphs_are_wrapped_and_commands_are_not() -> None:
    """At the width of the screen; what is copied is one line."""
    screen = Console(width=40, record=True, force_terminal=True, file=io.StringIO())
    print_blocks(
        screen, [Words("better " * 20, "good"), Command("dvc repro " * 8), Grid(["", "a"], [["right", "0.50"]])]
    )
    lines = [line.rstrip() for line in screen.export_text().splitlines()]
    assert ["better better better better better"] * 4 == lines[:4]
    assert ("dvc repro " * 8).rstrip() in lines


def test_verdicts_are_those_of_stages_and_experiments() -> None:
    """What else a section says is on the page."""
    sections = [
        Section(
            "outcome",
            "",
            [Words("sft helped", "good"), Words("dpo cannot be told", "note"), Heading("no"), Command("dvc repro")],
            of="a",
        ),
        Section("gaming", "", [Words("none tripped", "good"), Words("it repeats itself", "bad")]),
        Section("audit", "", [Words("It prefers wrong ones, in .3 of 4. Why, is there.", "bad"), Words("ok", "good")]),
        Section("inputs", "", [Words("rows", "bad"), Command("dvc pull")]),
        Section("reading", "", [Words("2 gained"), Reader(["sft"], []), Reader(["sft"], [], "9 are left out")], of="b"),
    ]
    found = [
        block.text if isinstance(block, Words) else str(printed(block)) for block in verdicts(Report("", "", sections))
    ]
    assert [
        "a: sft helped",
        "a: dpo cannot be told",
        "dvc repro",
        "it repeats itself",
        "The reward model: It prefers wrong ones, in .3 of 4. Why, is there.",
        "b: 9 are left out",
    ] == found


def test_a_command_is_told_once() -> None:
    """Of each experiment, where it is first told; paragraphs stay."""
    twice: list[Block] = [Words("missing"), Command("dvc repro", "makes it"), Words("missing")]
    sections = [Section(name, "", [*twice, Command(f"git checkout {name}")], of) for name in "ab" for of in "cd"]
    found = told_once(sections)
    lines = [[block.line for block in section.blocks if isinstance(block, Command)] for section in found]
    assert [["dvc repro", "git checkout a"]] * 2 + [["git checkout b"]] * 2 == lines
    assert {2} == {sum(isinstance(block, Words) for block in section.blocks) for section in found}


def test_where_no_file_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a file taken for one, what is no file: refused in words, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("page.html").write_text("")
    os.mkfifo("pipe")
    for path, told in (
        ("docs", "--out docs: is a folder. It takes a file, docs/report say."),
        ("page.html/x.html", f"{tmp_path}/page.html is a file, and can have none in it."),
        ("page.html/made/x.html", f"{tmp_path}/page.html is a file, and can have none in it."),
        ("pipe", "--out pipe: is no file, and would be replaced by one."),
        (".", "is a folder"),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            refuse_place("--out", Path(path))
    for path in ("page.html", "docs/x.html", "new/folder/x.html", str(tmp_path / "x.html")):
        refuse_place("--out", Path(path))
    assert {"docs", "page.html", "pipe"} == {path.name for path in tmp_path.rglob("*")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nobody_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to; make it yours"):
        refuse_place("--out", tmp_path / "made" / "x.html")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, run, and committed."""
    clone = micro_clone(tmp_path_factory.mktemp("report") / "project")
    clone.run("dvc", "repro")
    clone.commit("a run")
    return clone


@pytest.mark.slow
def test_the_report_of_a_run(ran: Clone) -> None:
    """Every section in its place, the figures those of metrics/, and the paths of both files said last."""
    said = ran.run(sys.executable, "-m", "llmrl.report")
    assert ["report.md", "report.html"] == said.splitlines()[-2:]
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
    """A revision that there is not: one message, with the nearest name, and the page that there is stays."""
    ran.run("git", "tag", "first-run")
    for revision, told in (
        ("nosuch", "nosuch: unknown Git revision 'nosuch'."),
        ("HAED", "HAED: unknown Git revision 'HAED'. Did you mean HEAD?"),
        ("frist-run", "frist-run: unknown Git revision 'frist-run'. Did you mean first-run?"),
    ):
        assert told == ran.run(sys.executable, "-m", "llmrl.report", revision, check=False).strip()
    for options in (("--out", "docs"), ("--markdown", "docs"), ("--out", "params.yaml/x.html")):
        said = ran.run(sys.executable, "-m", "llmrl.report", *options, check=False)
        assert said.startswith(f"{' '.join(options)}: ")
        assert 1 == len(said.splitlines())


@pytest.mark.slow
def test_a_fresh_clone(ran: Clone, tmp_path: Path) -> None:
    """In which nothing has run: what brings the rest is said once, for DVC has a remote or has none."""
    ran.run("git", "clone", "-q", ".", str(tmp_path / "fresh"))
    clone = Clone(tmp_path / "fresh")
    said = clone.run(sys.executable, "-m", "llmrl.report")
    assert 1 == said.count("dvc repro")
    assert "makes here what is missing: DVC has no remote to fetch it from: dvc repro" in said
    text = (clone.folder / "report.md").read_text()
    assert "dvc pull" not in text
    assert 1 == text.count("\ndvc repro\n")
    clone.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    said = clone.run(sys.executable, "-m", "llmrl.report")
    lines = [line for line in (clone.folder / "report.md").read_text().splitlines() if line.startswith("dvc pull")]
    answers = " ".join(f"metrics/{stage}/held_out" for stage in ("sft", "reward", "dpo", "grpo"))
    assert 1 == lines.count(f"dvc pull {answers}") == said.count(f"dvc pull {answers}")
    assert 3 == len(lines), lines  # of answers, data and models
