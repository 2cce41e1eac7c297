"""What a clone to test in is made of."""

from __future__ import annotations

from pathlib import Path

import clone
import pytest


def held(folder: Path) -> list[str]:
    """The files of a clone."""
    names = [file.relative_to(folder).parts for file in folder.rglob("*") if file.is_file()]
    return sorted("/".join(parts) for parts in names if parts[0] != ".git")


def test_without_git(project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a copy of the project that has no .git, though it has been worked in, a clone holds the same files."""
    expected = held(clone.toy_clone(tmp_path_factory.mktemp("with") / "clone").folder)
    for name in (".venv/bin/python", ".llmrl/locks/cpu", "runs/1/run.json", "data/sft/train.parquet", "models/.base/x"):
        (project / name).parent.mkdir(parents=True)
        (project / name).touch()
    monkeypatch.setattr(clone, "ROOT", project)

    assert expected == held(clone.toy_clone(tmp_path_factory.mktemp("without") / "clone").folder)
