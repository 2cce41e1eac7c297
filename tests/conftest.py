"""What the tests share: a copy of the project to work in."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from clone import Clone, files

from llmrl.params import checks

ROOT = Path(__file__).parents[1]
# No test needs the Hub; read when its libraries are imported. Those of 4 bit and of S3 install from the package index.
os.environ["HF_HUB_OFFLINE"] = "1"
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a fresh clone would hold, uncommitted edits included; the test stands in it."""
    for name in files(ROOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def change(project: Path) -> Callable[[str, str], None]:
    """Sets `section.name` in the copy's params.yaml to a text, which may go on with further lines."""
    return partial(edit, project / "params.yaml")


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Does the same in a folder that has params.yaml and nothing else; the test stands in it."""
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return partial(edit, tmp_path / "params.yaml")


def edit(path: Path, name: str, text: str) -> None:
    *sections, key = name.split(".")
    section = checks.read(path)
    for part in sections:
        section = section[part]
    line, column = section.lc.key(key)
    lines = path.read_text(encoding="utf-8").splitlines()
    end = line + 1  # what is indented deeper is the former value's, and so are the items of a list
    while end < len(lines) and lines[end].startswith((" " * (column + 1), f"{' ' * column}- ")):
        end += 1
    lines[line:end] = [f"{' ' * column}{key}: {text}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def python(project: Path):
    """Runs `python …` in the project's copy, and gives the finished process with its output as text."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        return subprocess.run(
            (sys.executable, *arguments), cwd=project, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def unchanged(clone: Clone):
    """A module's `clone`, brought back afterwards to the commit and its products."""
    yield clone
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")
