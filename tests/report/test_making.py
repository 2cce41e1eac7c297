"""What a report says of how models were made: of a repository with one small stage, by the real git and DVC."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clone import stand_in
from dvc.cli import main

from llmrl.lineage.runs import commits
from llmrl.report import making
from llmrl.report.document import Block, Command, Grid, Section, Words
from llmrl.report.recorded import Recorded, experiment_at

# It makes what a stage makes: a model with its provenance, and figures.
SCRIPT = """
import json, pathlib
lr = [line for line in open("params.yaml") if "lr:" in line][0].split()[1]
for folder in ("models/sft", "metrics/sft"):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
made = {"settings": {"learning_rate": float(lr)}, "versions": {"python": "3.11", "trl": "1.16"}, "device": "cpu"}
pathlib.Path("models/sft/provenance.json").write_text(json.dumps(made))
pathlib.Path("metrics/sft/metrics.json").write_text(json.dumps({"sft": {"rows": 5}}))
"""
STAGES = """
stages:
  sft:
    cmd: PYTHON make.py
    deps: [make.py, data/raw/sft]
    params: [train.lr]
    outs: [models/sft]
    metrics: [metrics/sft/metrics.json: {cache: false}]
"""
PARAMS = """
model: {source: owner/name, revision: 0123456789}
data:
  sft: {source: raw}
  prompts: {source: [{source: a/b, revision: abc}, {source: raw}]}
train:
  seed: 1
  lr: 0.001
  eval_strategy: no
"""


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def dvc(*arguments: str) -> None:
    """Have DVC do something within this process: to start one costs a second."""
    assert main([*arguments, "-q"]) == 0, arguments


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose stage has run, committed; an experiment with another rate; the commit's files again."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(folder, patch)
        for name, text in {
            "make.py": SCRIPT,
            "dvc.yaml": STAGES.replace("PYTHON", sys.executable),
            "params.yaml": PARAMS,
            "data/raw/sft/a": "1",
        }.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text.lstrip())
        Path("profiles").mkdir()
        Path("profiles/near.yaml").write_text(PARAMS.replace("seed: 1", "seed: 2").replace("  eval_strategy: no\n", ""))
        Path("profiles/far.yaml").write_text("train: {seed: 9}")
        Path(".gitignore").write_text("runs/\n")
        run("git", "init", "-q", "-b", "main")
        dvc("init")
        dvc("repro")
        run("git", "add", "-A")
        run("git", "commit", "-qm", "The first of all")
        Path("params.yaml").write_text(PARAMS.replace("0.001", "0.5"))
        dvc("repro")
        dvc("exp", "save", "-n", "faster")
        run("git", "checkout", ".")
        dvc("checkout")
    return folder


@pytest.fixture
def made(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to change; the test stands in it."""
    folder = tmp_path / "copy"
    shutil.copytree(committed, folder, symlinks=True)
    stand_in(folder, monkeypatch)
    run("git", "update-index", "-q", "--refresh")
    return folder


def blocks(section: Section, kind: type[Block]) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def said(section: Section) -> str:
    return "\n".join(words.text for words in blocks(section, Words))


def grid(section: Section, first: str) -> Grid:
    return next(one for one in blocks(section, Grid) if one.columns[0] == first)


def record(number: int, model: str | None, **more: Any) -> None:
    """The record of a run."""
    run_id = f"{number}_sft"
    Path("runs", run_id).mkdir(parents=True)
    about = {"id": run_id, "stage": "sft", "commit": "abcdef0123", "changed": [], "device": "CPU, 2 threads; adamw"}
    found = about | {"model": model, "seconds": 12.5, "peak_gib": {"resident": 1.5}, "exit": 0, **more}
    Path("runs", run_id, "run.json").write_text(json.dumps(found))


@pytest.mark.usefixtures("made")
def test_a_workspace_as_it_was_committed() -> None:
    """Commit, settings against the nearest profile, hashes, sources with their commits, versions."""
    experiment = experiment_at()
    section = making.what_made_it(experiment)
    head = run("git", "rev-parse", "--short=7", "HEAD")

    assert f"The workspace, on commit {head}" in said(section)
    assert "(The first of all); no setting, code or file was changed since" in said(section)
    assert [f"git checkout {head} && dvc checkout"] == [one.line for one in blocks(section, Command)]
    assert "2 settings differ from profiles/near.yaml, which of all profiles is nearest." in said(section)
    assert [["train.seed", "2", "1"], ["train.eval_strategy", "not set", "no"]] == grid(section, "setting").rows
    rows = {row[0]: row[1:] for row in grid(section, "product").rows}
    digest = str(experiment.hash("models/sft")).removesuffix(".dir")
    assert ["data/raw/sft", digest, "0.0 MB", f"commit {head}"] == rows["models/sft"]
    assert ["–", "not made yet", "–", "–"] == rows["models/grpo"]
    raw = experiment.locks["sft"]["deps"][0]["md5"].removesuffix(".dir")
    assert f"raw ({raw})" == making.made_from(experiment, "data/sft")
    assert "a/b at abc, raw" == making.made_from(experiment, "data/prompts")
    assert "owner/name at 123456789" == making.made_from(experiment, "models/base")
    assert "sft were made by the same versions, on cpu." in said(section)
    assert [["device", "cpu"], ["python", "3.11"], ["trl", "1.16"]] == grid(section, "").rows
    assert "Of sft seconds, memory and energy are not known on this machine" in said(section)


@pytest.mark.usefixtures("made")
def test_an_experiment() -> None:
    """Of another revision: by its name, on which commit, and how to go back to it."""
    head = run("git", "rev-parse", "--short=7", "HEAD")
    at = run("git", "for-each-ref", "--format=%(objectname)", "refs/exps/??/*/faster")
    section = making.what_made_it(experiment_at(at))

    assert f"Experiment faster, on commit {head}" in said(section)
    assert [("dvc exp apply faster", "brings back settings, figures, data and models")] == [
        (one.line, one.what) for one in blocks(section, Command)
    ]
    assert ["train.lr", "0.001", "0.5"] in grid(section, "setting").rows
    assert "profiles/near.yaml of that commit" in said(section)
    assert "experiment faster" == {row[0]: row[4] for row in grid(section, "product").rows}["models/sft"]


@pytest.mark.usefixtures("made")
def test_a_name_that_a_shell_would_run() -> None:
    """A ref may have one: what is to be copied has it as a word, here and where a commit is looked for."""
    name, ref = "x;touch${IFS}pwn;`id`", run("git", "for-each-ref", "--format=%(refname)", "refs/exps/??/*/faster")
    at = run("git", "rev-parse", ref)
    run("git", "update-ref", ref.replace("faster", name), at)
    run("git", "update-ref", "-d", ref)
    lines = [one.line for one in blocks(making.what_made_it(experiment_at(at)), Command)]

    assert [["dvc", "exp", "apply", name]] == [shlex.split(line) for line in lines]
    ((called, back),) = commits(str(experiment_at(at).hash("models/sft")))
    assert (f"experiment {name}", ["dvc", "exp", "apply", name]) == (called, shlex.split(back))


@pytest.mark.usefixtures("made")
def test_a_workspace_that_was_changed() -> None:
    """What is not committed is named, and what the figures are no longer of; the experiment whose models lie here."""
    dvc("exp", "apply", "faster")
    Path("notes.txt").write_text("new")
    section = making.what_made_it(experiment_at())

    assert "with changes that are not committed in notes.txt, params.yaml." in said(section)
    assert ("dvc exp apply faster", "brings back models/sft, which that commit or experiment has recorded first") in [
        (one.line, one.what) for one in blocks(section, Command)
    ]
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("0.5", "0.25"))
    section = making.what_made_it(experiment_at())
    wrong = [words.text for words in blocks(section, Words) if words.tone == "bad"]
    assert ["What is recorded of sft is of another run, as train.lr has changed since."] == wrong
    assert "dvc repro" in [one.line for one in blocks(section, Command)]
    dvc("repro")
    assert "In no commit or experiment yet: models/sft." in said(making.what_made_it(experiment_at()))


@pytest.mark.usefixtures("made")
def test_what_training_took() -> None:
    """By the run that made this very model, with what it recorded; older records lack some."""
    experiment = experiment_at()
    model = experiment.hash("models/sft")
    record(1, "another.dir", phases={"training": 99.0})
    record(2, model, phases={"training": 9.25, "saving": 0.5})
    section = making.what_made_it(experiment)
    took = grid(section, "stage")
    assert [["sft", "2_sft", "commit abcdef0", "CPU, 2 threads", "12.5", "1.50 resident"]] == took.rows
    assert "No energy was recorded" in took.caption
    assert [["sft: training", "9.2", "–"], ["sft: saving", "0.5", "–"]] == grid(section, "phase").rows

    more = {
        "phase_gib": {"training": {"allocated": 1.0, "reserved": 2.0}},
        "phase_joules": {"training": {"gpu": 2500.0}},
    }
    record(3, model, phases={"training": 10.0}, **more)
    record(4, model, phases={"measuring after": 1.0})
    record(5, model, phases={"training": 10.0}, changed=["params.yaml"])
    Path("runs/5_sft/run.json").write_text('{"id": "cut')
    section = making.what_made_it(experiment)
    assert ["3_sft", "2.50 gpu"] == [grid(section, "stage").rows[0][place] for place in (1, 6)]
    assert [["sft: training", "10.0", "1.00 allocated, 2.00 reserved", "2.50 gpu"]] == grid(section, "phase").rows
    assert "sft was measured, or trained, by other runs too: 2_sft, 4_sft." in said(section)


@pytest.mark.usefixtures("made")
def test_models_that_are_not_here() -> None:
    """Said, with the command that brings them; and versions of several stages side by side where they differ."""
    section = making.what_made_it(experiment_at())
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("models")
    section = making.what_made_it(experiment_at())
    assert "Neither here nor in this machine's cache: models/sft." in said(section)
    assert "dvc repro" in [one.line for one in blocks(section, Command)]  # DVC has no remote
    section = making.what_made_it(replace(experiment_at(), remote=True))
    assert "dvc pull models/sft" in [one.line for one in blocks(section, Command)]
    assert "Not known of sft: the models are not here." in said(section)

    apart = {
        "sft": {"versions": {"torch": "2.13"}, "device": "cpu"},
        "grpo": {"versions": {"torch": "2.13", "vllm": "1"}, "device": "cuda"},
    }
    experiment = Recorded("workspace", None, {}, {}, {}, {}, {}, {}, apart)
    section = making.what_made_it(experiment)
    assert "The stages were not made by the same: device, vllm." in said(section)
    assert [["device", "cpu", "cuda"], ["torch", "2.13", "2.13"], ["vllm", "–", "1"]] == grid(section, "").rows


def test_a_repository_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing crashes, and it is said."""
    stand_in(tmp_path, monkeypatch)
    run("git", "init", "-q")
    dvc("init")
    section = making.what_made_it(Recorded("workspace", None, {}, {}, {}, {}, {}, {}, {}))
    assert "There is no commit yet" in said(section)
    assert "There is no profile here" in said(section)
