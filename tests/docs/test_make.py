"""The Makefile: what it tells of itself, and where it may lie."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from clone import ROOT


def test_help_lists_every_target() -> None:
    """`make help` tells of each target but the environment's own mark."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert targets == {line.split()[1] for line in said.splitlines()}


def test_a_path_with_a_space(tmp_path: Path) -> None:
    """`make` sets the environment up in a folder whose name has a space; one that shall lie in such is refused."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (folder / "requirements.lock").touch()  # of no packages
    environment = {"PATH": os.defpath, "PYTHON": sys.executable}
    subprocess.run(["make", "setup"], cwd=folder, env=environment, check=True)
    refused = subprocess.run(
        ["make", "VENV=another place", "setup"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (folder / ".venv/bin/python").exists()
    assert (folder / ".venv/.ready").exists()
    assert "VENV=another place: must be a path without spaces" in refused.stderr
