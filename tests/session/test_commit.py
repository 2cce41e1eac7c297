"""The commit a run starts from, by real git and DVC."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clone import stand_in

from llmrl import repository
from llmrl.session import commit


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a stage that has made a model, all of it committed."""
    folder = tmp_path_factory.mktemp("committed")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(folder, patch)
        make()
    return folder


@pytest.fixture
def made(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of it, in which the test stands; the model's hash."""
    shutil.copytree(committed, tmp_path, symlinks=True, dirs_exist_ok=True)
    stand_in(tmp_path, monkeypatch)
    return repository.digest(Path("models/sft"))


def make() -> None:
    """Make it where one stands."""
    Path("metrics").mkdir()
    for file in ("params.yaml", "metrics/sft.json"):
        Path(file).write_text("{}\n")
    script = "import pathlib; p = pathlib.Path('models/sft'); p.mkdir(parents=True); (p / 'weights').write_text('1')"
    Path("make.py").write_text(f"{script}\n")
    Path("dvc.yaml").write_text(
        f"stages:\n  sft:\n    cmd: {sys.executable} make.py\n    deps: [make.py]\n    outs: [models/sft]\n"
    )
    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    run(sys.executable, "-m", "dvc", "repro", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "all")


@pytest.mark.usefixtures("made")
def test_what_changed():
    """Named are edits and new files; not what DVC removes and writes itself, when it runs a stage."""
    Path("metrics/sft.json").unlink()
    Path("dvc.lock").write_text("")
    assert [] == commit.uncommitted()

    Path("params.yaml").write_text("{a: 1}\n")
    Path("llmrl").mkdir()
    Path("llmrl/new one.py").write_text("")
    run("git", "mv", "make.py", "made.py")
    assert ["llmrl/new one.py", "made.py", "make.py", "params.yaml"] == commit.uncommitted()


def test_the_committed_model(made):
    """Nothing to say, as it is the committed one."""
    assert commit.warning("sft", made) is None


@pytest.mark.usefixtures("made")
def test_another_model_beside_the_committed():
    """Nothing to say, as the committed one can be brought back."""
    assert commit.warning("sft", "0" * 32 + ".dir") is None


def test_another_machine_s_model_was_committed(made):
    """This machine's shall be committed first, where it is of the same experiment."""
    lock = Path("dvc.lock")
    lock.write_text(lock.read_text().replace(made, made[-5::-1] + ".dir"))
    run("git", "commit", "-qam", "elsewhere")
    said = commit.warning("sft", made) or ""
    assert "models/sft differs from the commit's, which is not in this clone's cache (another machine made it" in said
    assert said.endswith('First `git commit -am "Figures of this machine"`, then try things.')
    assert "dvc pull" not in said

    run(sys.executable, "-m", "dvc", "remote", "add", "-d", "store", "../store")
    assert "until `dvc pull` brings it" in (commit.warning("sft", made) or "")
    assert "docs/experiments.md" in (commit.warning("sft", made) or "")  # .dvc/config is not committed


def test_without_git(tmp_path, monkeypatch):
    """No commit, no warning; what was changed is not known, which is not that nothing was."""
    monkeypatch.chdir(tmp_path)
    assert (None, None, None) == (commit.head(), commit.uncommitted(), commit.warning("sft", "1.dir"))


@pytest.mark.usefixtures("made")
def test_where_git_refuses(monkeypatch):
    """In a folder of another user's it tells nothing."""
    Path("params.yaml").write_text("{a: 1}\n")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert ["params.yaml"] == commit.uncommitted()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests do so
    assert (None, None) == (commit.head(), commit.uncommitted())
