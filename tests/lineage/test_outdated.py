"""Figures and curves that another run made than what lies beside them, by what the real DVC has recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clone import Clone, micro_clone
from unrun import curves, unrun_clone

from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.lineage.outdated import UNRECORDED, outdated
from llmrl.report.curves import curves_of
from llmrl.report.document import Chart, Heading, Words

BETA = "of another run, as dpo.beta has changed since"
DPO = "of another run, as models/dpo has changed since"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return unrun_clone(tmp_path_factory.mktemp("outdated") / "project")


@pytest.fixture
def unrun(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A copy of it, in which the test stands."""
    shutil.copytree(clone.folder, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return Clone(tmp_path / "project")


def now() -> dict[str, str]:
    """Of the workspace, of the four stages."""
    return {name: why for name, why in outdated(["workspace"])["workspace"].items() if name in STAGES}


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def rerun_dpo(unrun: Clone) -> None:
    """As `dvc repro dpo` leaves it after another dpo.beta."""
    edit("params.yaml", "  beta: 0.1\n", "  beta: 0.2\n")
    Path("models/dpo/whole").write_text("of another beta")
    curves(unrun, 3, "dpo")
    unrun.run("dvc", "commit", "-q", "-f", "dpo")


def test_nothing_is_where_all_is_of_one_run(unrun: Clone) -> None:
    """In the workspace and in the commit, also without the data and models, as in a clone of it."""
    assert {"workspace": {}, "HEAD": {}} == outdated(["workspace", "HEAD"])
    unrun.clean()
    assert {"workspace": {}, "HEAD": {}} == outdated(["workspace", "HEAD"])


def test_a_stage_that_ran_alone(unrun: Clone) -> None:
    """What follows from it is of another run; the commit stays as it is, and a commit of it says the same."""
    rerun_dpo(unrun)
    assert {"workspace": {"grpo": DPO}, "HEAD": {}} == outdated(["workspace", "HEAD"])

    unrun.commit("dpo")
    assert {"HEAD": {"grpo": DPO}, "HEAD~1": {}} == outdated(["HEAD", "HEAD~1"])


@pytest.mark.usefixtures("unrun")
def test_settings_that_changed_since() -> None:
    """Each by its name, for all that follows; not those that no stage depends on, nor their order and layout."""
    edit("params.yaml", "  beta: 0.1\n", "")
    edit("params.yaml", "  max_steps: 50\n", "  beta:   0.1\n  max_steps: 50\n")
    edit("params.yaml", "  min_signal: 0.1", "  min_signal: 0.2")
    assert {} == now()

    edit("params.yaml", "  beta:   0.1\n", "  beta: 0.2\n")
    assert {"dpo": BETA, "grpo": BETA} == now()

    edit("params.yaml", "    rows: 1600", "    rows: 1500")
    edit("params.yaml", "launch: python", "launch: torchrun")
    assert "of another run, as the command, data.sft.rows have changed since" == now()["sft"]
    assert "of another run, as the command, dpo.beta, data.sft.rows have changed since" == now()["dpo"]


def test_code_and_files_that_changed_since(unrun: Clone) -> None:
    """And what DVC keeps of the raw files: where it is not here, as in a clone, it is taken for unchanged."""
    with Path("llmrl/rewards.py").open("a") as file:
        file.write("\n")
    assert {"grpo": "of another run, as llmrl/rewards.py has changed since"} == now()

    unrun.run("git", "checkout", "-q", ".")
    Path("data/raw/sft/a.jsonl").write_text("{}")
    assert dict.fromkeys(STAGES, "of another run, as data/raw/sft has changed since") == now()

    unrun.run("dvc", "add", "-q", "data/raw/sft/a.jsonl")
    unrun.run("dvc", "commit", "-q", "-f", "data/dvc.yaml:prepare@sft")
    unrun.commit("a file")
    assert {"workspace": {}, "HEAD": {}} == outdated(["workspace", "HEAD"])

    Path("data/raw/sft/a.jsonl").unlink()
    assert {} == now()


def test_a_run_that_is_not_recorded(unrun: Clone) -> None:
    """Curves that are being written, and a stage that dvc.lock does not have, are of an unrecorded run; where there are
    none, nothing is said of them.
    """
    curves(unrun, 3, "dpo")
    assert {"dpo": UNRECORDED} == now()

    shutil.rmtree("metrics/dpo")
    assert {} == now()

    unrun.run("git", "checkout", "-q", ".")
    edit("dvc.lock", "\n  dpo:\n", "\n  once:\n")
    assert {"dpo": UNRECORDED, "grpo": DPO} == now()

    Path("dvc.lock").unlink()
    assert dict.fromkeys(STAGES, UNRECORDED) == now()


@pytest.mark.usefixtures("unrun")
def test_a_lock_that_cannot_be_read() -> None:
    """One message with the revision."""
    Path("dvc.lock").write_text("stages: [")
    with pytest.raises(InputError, match=r"^workspace: .*dvc\.lock"):
        outdated(["HEAD", "workspace"])


def section(*revisions: str) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """What the report says of the curves of each stage, and which revisions it draws there, each in which colour."""
    notes: dict[str, list[str]] = {}
    drawn: dict[str, dict[str, str]] = {}
    for block in curves_of(outdated(revisions)).blocks:
        if isinstance(block, Heading):
            stage = block.text.rpartition("(")[2].removesuffix(")")
            notes[stage], drawn[stage] = [], {}
        elif isinstance(block, Words):
            notes[stage].append(block.text)
        elif isinstance(block, Chart):
            scale = block.drawing["encoding"]["color"]["scale"]
            rows = {row["rev"] for row in block.drawing["data"]["values"]}
            drawn[stage] |= {
                one: colour for one, colour in zip(scale["domain"], scale["range"], strict=True) if one in rows
            }
    return notes, drawn


def test_the_report_says_it(unrun: Clone) -> None:
    """Alone, the curves are drawn and a word tells; compared, those of another run are left out, and the others keep
    their colours.
    """
    edit("params.yaml", "  beta: 0.1\n", "  beta: 0.2\n")
    said, alone = section("workspace")
    note = [f"workspace is {BETA}."]
    assert {"sft": [], "reward": [], "dpo": note, "grpo": note} == said
    assert {stage: {"workspace"} for stage in STAGES} == {stage: set(of) for stage, of in alone.items()}

    unrun.run("git", "checkout", "-q", ".")
    rerun_dpo(unrun)
    said, compared = section("HEAD", "workspace")
    assert {"sft": [], "reward": [], "dpo": [], "grpo": [f"workspace is left out: it is {DPO}."]} == said
    assert {stage: {"HEAD"} if stage == "grpo" else {"HEAD", "workspace"} for stage in STAGES} == {
        stage: set(of) for stage, of in compared.items()
    }
    assert 1 == len({of["HEAD"] for of in compared.values()})


def test_what_is_being_written_is_compared(unrun: Clone) -> None:
    """Curves of a run under way are drawn beside those of a commit, with a word."""
    curves(unrun, 3, "dpo")
    said, compared = section("HEAD", "workspace")
    assert {"sft": [], "reward": [], "dpo": [f"workspace is {UNRECORDED}."], "grpo": []} == said
    assert {"HEAD", "workspace"} == set(compared["dpo"])


@pytest.mark.slow
def test_an_experiment_of_one_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `dvc exp run … dpo` the experiment, by its name, has grpo's curves of the commit: they are left out."""
    clone = micro_clone(tmp_path / "project")
    clone.run("dvc", "repro")
    clone.commit("a run")
    clone.run("dvc", "exp", "run", "-n", "warm", "-S", "dpo.beta=0.3", "dpo")
    assert "dpo" not in clone.run("dvc", "status", "dpo")
    assert "models/dpo" in clone.run("dvc", "status", "grpo")
    clone.run("git", "checkout", "-q", ".")
    monkeypatch.chdir(clone.folder)

    assert {"main": {}, "warm": {"grpo": DPO}} == outdated(["main", "warm"])
    said, compared = section("main", "warm")
    assert [f"warm is left out: it is {DPO}."] == said["grpo"]
    assert ({"main", "warm"}, {"main"}) == (set(compared["dpo"]), set(compared["grpo"]))
