"""A clone whose sft has run, and is to run again."""

from __future__ import annotations

import pytest
from clone import Clone
from kills import long_enough


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, bytes]]:
    """A clone whose sft was run, and what that made."""
    clone = long_enough(tmp_path_factory.mktemp("faults") / "clone")
    clone.run("dvc", "repro", "sft")
    return clone, made(clone)


@pytest.fixture
def clone(undisturbed: tuple[Clone, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The same clone, its sft not run yet; the test stands in it."""
    clone = undisturbed[0]
    clone.run("git", "checkout", "-q", ".")
    clone.clean("metrics", "runs", "dvc.lock", "models/sft")
    clone.run("rm", "-rf", ".dvc/cache/runs")
    monkeypatch.chdir(clone.folder)
    return clone


@pytest.fixture
def completes(undisturbed: tuple[Clone, dict[str, bytes]], clone: Clone):
    """Runs sft, which says these words, and must end in the same bytes as undisturbed."""

    def run(*said: str) -> None:
        printed = clone.run("dvc", "repro", "sft")
        for part in said:
            assert part in printed
        assert undisturbed[1] == made(clone)

    return run


def made(clone: Clone) -> dict[str, bytes]:
    """What sft makes, and DVC records."""
    paths = [clone.folder / name for name in ("models/sft", "metrics/sft", "dvc.lock")]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(clone.folder)): file.read_bytes() for file in files}
