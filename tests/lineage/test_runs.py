"""Which run, commit and experiment made a model, found by its hash."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import shown_on_a_terminal

from llmrl import repository
from llmrl.errors import InputError
from llmrl.lineage import runs

RECORD = {"stage": "sft", "machine": "vm", "commit": "abcdef0123", "started": "2026-01-02T03:04:05+00:00"}

LONG = "InputError: data/sft/train.parquet, row 3: " + "a turn of the user is missing " * 9 + "\nand a second line"


def git(*arguments: str) -> None:
    subprocess.run(("git", "-c", "user.name=a", "-c", "user.email=b", *arguments), check=True, capture_output=True)


def shown(what: str | None = None) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "llmrl.lineage.runs", *([what] if what else [])]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model, of which runs and a commit tell; its hash."""
    monkeypatch.chdir(tmp_path)
    model = Path("models/sft")
    model.mkdir(parents=True)
    (model / "weights").write_text("1")
    digest = repository.digest(model)
    trained = RECORD | {"exit": 0, "phases": {"training": 1}, "changed": ["params.yaml"], "model": digest}
    for name, record in {
        "a_sft": trained,
        "b_sft": trained | {"phases": {}, "changed": [], "started": "2026-02"},
        "c_dpo": RECORD | {"exit": "StoppedError: SIGTERM", "phases": {}, "started": "2026-03"},
        "d_dpo": RECORD | {"phases": {}, "started": "2026-04"},
        "e_dpo": RECORD | {"exit": LONG, "phases": {}, "started": "2026-05"},
        "f_sft": trained | {"commit": None, "changed": [], "started": "2026-06"},
        "g_sft": trained | {"commit": None, "changed": None, "started": "2026-07"},
    }.items():
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record | {"id": name}))
    for name, left in (("h_cut", ""), ("i_cut", '{"stage": "sft", "sett')):
        folder = Path("runs") / name
        folder.mkdir()
        (folder / "run.json").write_text(left)
    git("init", "-q")
    for title, text in (("before", "other"), ("the very one", digest), ("after", "other")):
        Path("dvc.lock").write_text(text)
        git("add", "dvc.lock")
        git("commit", "-qm", title)
    return digest


def test_what_made_a_model(digest: str) -> None:
    """The run that trained it, the one that measured it anew, and the commit that first has it."""
    said = shown("models/sft")
    assert digest in said
    assert "runs/a_sft: trained, 2026-01-02T03:04:05+00:00, on vm" in said
    assert "commit abcdef0, with changes in params.yaml" in said
    assert "runs/b_sft: measured alone" in said
    assert 3 == len(re.findall(r"^ +at +\S", said, re.MULTILINE))  # there is nothing to say of f_sft
    assert re.search(r"^ +at +not known *$", said, re.MULTILINE)
    assert "None" not in said
    assert "the very one" in said
    assert "after" not in said


@pytest.mark.usefixtures("digest")
def test_a_copy_elsewhere() -> None:
    """A model is found by what it holds, wherever it lies."""
    Path("models/sft").rename("copied")
    assert "runs/a_sft" in shown("copied")


@pytest.mark.usefixtures("digest")
def test_a_model_that_was_changed() -> None:
    """Nothing here has made it, which is said."""
    Path("models/sft/weights").write_text("2")
    with pytest.raises(InputError, match="a file in it was changed, or it was made elsewhere"):
        runs.what_made(Path("models/sft"))
    with pytest.raises(InputError, match="models/none is no folder"):
        runs.what_made(Path("models/none"))


def test_every_run(digest: str) -> None:
    """A line each, with how it ended."""
    lines = [line.split(maxsplit=1) for line in shown().splitlines()]
    assert ["a_sft", "b_sft", "c_dpo", "d_dpo", "e_dpo", "f_sft", "g_sft", "h_cut", "i_cut"] == [
        line[0] for line in lines
    ]
    assert [digest[:8], "trained"] == lines[0][1].split()
    assert lines[2][1] == "StoppedError: SIGTERM"
    assert lines[3][1] == "is running, or was killed"
    assert lines[4][1] == LONG.splitlines()[0]  # into a file it goes whole
    assert lines[7][1] == lines[8][1] == "its record is cut short"


@pytest.mark.usefixtures("digest")
def test_every_run_on_a_terminal() -> None:
    """A line each there too, however long a text one ended with."""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    command = (sys.executable, "-m", "llmrl.lineage.runs")
    lines = shown_on_a_terminal(*command, cwd=Path.cwd(), environment=environment, columns=80).splitlines()

    assert 9 == len(lines)
    assert re.fullmatch("e_dpo +InputError: .+…", lines[4])
    assert max(map(len, lines)) <= 80


def test_no_runs(tmp_path, monkeypatch):
    """An empty list is said, with what to do."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no runs yet"):
        runs.every()
