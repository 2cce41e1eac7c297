"""The records of runs."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small import settings

from llmrl.session import record


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> record.Folder:
    """The folder of a run of sft."""
    monkeypatch.chdir(tmp_path)
    return record.Folder(settings("sft"))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system refuse to write more than so many bytes into a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_record_that_cannot_be_written_leaves_the_one_before(folder):
    """A full disk cuts no run.json short."""
    with files_of_at_most(100), pytest.raises(OSError, match="File too large"):
        folder.write(exit=0)

    assert "sft" == json.loads((folder.path / "run.json").read_text())["stage"]
