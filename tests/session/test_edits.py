"""Edits while a stage runs, by what DVC records of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clone import ROOT

from llmrl.session import edits


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dvc.yaml names of code and settings, in a folder of its own."""
    (tmp_path / "data").mkdir()
    for file in ("dvc.yaml", "data/dvc.yaml", "params.yaml", "llmrl", "stages"):
        (shutil.copytree if (ROOT / file).is_dir() else shutil.copy)(ROOT / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)


def edit(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("params.yaml", "lr_scale: 1.0", "lr_scale: 2.0", {"sft": ["params.yaml (sft)"], "reward": []}),
        ("params.yaml", "samples: 4", "samples: 5", {"sft": ["params.yaml (answers)"], "reward": []}),
        ("params.yaml", "max_defective: ", "max_defective: 0.0", {"sft": [], "grpo": []}),
        ("params.yaml", "# ", "# changed ", {"sft": [], "grpo": []}),
        ("params.yaml", "train:", "train: [", {"reward": ["params.yaml (reward)", "params.yaml (train)"]}),
        ("llmrl/answers/judging.py", "def ", "def no", {"sft": ["llmrl/answers/judging.py"], "reward": []}),
        ("llmrl/measuring/held_out.py", "def ", "def no", {"reward": ["llmrl/measuring/held_out.py"]}),
        ("llmrl/session/record.py", "def ", "def no", {"sft": [], "grpo": []}),
        ("stages/grpo.py", "def ", "def no", {"sft": [], "grpo": ["stages/grpo.py"]}),
    ],
)
def test_what_dvc_would_record(file: str, old: str, new: str, found: dict[str, list[str]]) -> None:
    """Sections and code that are the stage's own by dvc.yaml, and no others; also in the middle of an edit."""
    before = {stage: edits.snapshot(stage) for stage in found}
    edit(file, old, new)
    assert found == {stage: edits.edited(before[stage], edits.snapshot(stage)) for stage in found}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("policy: data/preference", "policy: models/sft", ["params.yaml (data.preference)"]),
        ("samples: 4", "samples: 5", ["params.yaml (answers)"]),
        ("eval_share: ", "eval_share: 0", []),
        ("data:", "data: 3 #", ["params.yaml (answers)", "params.yaml (data.preference)", "params.yaml (train)"]),
    ],
)
def test_of_the_pairs(old: str, new: str, found: list[str]) -> None:
    """The stage stands in another dvc.yaml, and names a part of a section."""
    before = edits.snapshot("pairs", Path("data/dvc.yaml"))
    edit("params.yaml", old, new)

    assert found == edits.edited(before, edits.snapshot("pairs", Path("data/dvc.yaml")))


def test_what_python_leaves_is_no_edit() -> None:
    """Compiled files come while a stage runs."""
    before = edits.snapshot("sft")
    cache = Path("llmrl/training/__pycache__")
    cache.mkdir(exist_ok=True)
    (cache / "new.cpython-311.pyc").write_bytes(b"")
    assert [] == edits.edited(before, edits.snapshot("sft"))


def test_a_new_file_and_one_that_is_gone() -> None:
    """Both are edits of the folder that DVC records."""
    before = edits.snapshot("sft")
    Path("llmrl/training/new.py").write_text("")
    Path("llmrl/training/rows.py").unlink()
    assert ["llmrl/training/new.py", "llmrl/training/rows.py"] == edits.edited(before, edits.snapshot("sft"))
