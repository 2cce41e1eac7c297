"""What git and DVC know of a checkout."""

from __future__ import annotations

from pathlib import Path

from llmrl import repository


def test_digest_of_a_folder(tmp_path: Path) -> None:
    """A folder's digest changes with a file's name or content."""
    digests = set()
    for name, content in (("a", "1"), ("b", "1"), ("b", "2")):
        folder = tmp_path / f"{name}{content}"
        folder.mkdir()
        (folder / name).write_text(content)
        digests.add(repository.digest(folder))

    assert 3 == len(digests)
