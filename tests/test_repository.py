"""What git and DVC know of a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from llmrl import repository


def test_the_digest_of_a_folder_is_dvc_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is DVC's, also of names that sort in another way by their parts."""
    for name in ("rows/a/x", "rows/a-b/x", "rows/a.b", "rows/é"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    with Repo.init(no_scm=True) as repo:
        repo.add("rows")
    recorded = repository.load(tmp_path / "rows.dvc")["outs"][0]["md5"]

    assert recorded == repository.digest(tmp_path / "rows")


def test_digest_of_a_folder(tmp_path: Path) -> None:
    """A folder's digest changes with a file's name or content."""
    digests = set()
    for name, content in (("a", "1"), ("b", "1"), ("b", "2")):
        folder = tmp_path / f"{name}{content}"
        folder.mkdir()
        (folder / name).write_text(content)
        digests.add(repository.digest(folder))

    assert 3 == len(digests)


def test_a_part_of_a_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `dvc repro --pull` fetches of a folder is a part of what was made; what somebody has changed is not."""
    monkeypatch.chdir(tmp_path)
    folder = Path("rows")
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    for command in (("init", "-q", "--no-scm"), ("add", "-q", "rows")):
        subprocess.run((sys.executable, "-m", "dvc", *command), check=True)
    made = repository.digest(folder)
    (folder / "b").unlink()
    assert repository.is_part_of(made, folder)

    (folder / "a").write_text("c")
    assert not repository.is_part_of(made, folder)
    assert not repository.is_part_of("0" * 32 + ".dir", folder)  # of which the cache has no list
