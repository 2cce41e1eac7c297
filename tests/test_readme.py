"""README.md against the repository: what it names exists, and what it says of two mistakes is said.

Of its commands, the `dvc` ones under "Every day" are run by test_pipeline.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmrl import checks
from llmrl.errors import InputError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading."""
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_make_targets() -> None:
    """Every `make` target README names is in the Makefile, and set up with the others."""
    named = set(re.findall(r"make ([a-z-]+)", README))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"repro", "test", "help", "plots"} <= named
    assert set() == named - targets


def test_help_lists_every_target() -> None:
    """`make help` tells of each target but the environment's own mark."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert targets == {line.split()[1] for line in said.splitlines()}


def test_tree() -> None:
    """The tree in README is the tree: every module of llmrl/ and every stage, and nothing that is not there."""
    tree = section("The tree")
    modules = {path.name for path in (ROOT / "llmrl").glob("*.py")} - {"__init__.py"}

    assert modules == set(re.findall(r"^  (\w+\.py)", tree, re.MULTILINE))
    assert {"sft.py", "reward.py", "dpo.py", "grpo.py"} <= set(re.findall(r"\w+\.py", tree))
    for name in re.findall(r"^([\w./]+)", tree, re.MULTILINE):
        assert (ROOT / name.split("/<")[0]).exists(), name


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links(path: str) -> None:
    """A link within the repository leads somewhere."""
    assert (ROOT / path).exists()


def test_the_mistakes_it_shows(project: Path, change) -> None:
    """The settings check says of the two mistakes what README shows."""
    change("train.lr", '"1e-3"')
    settings = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(settings.replace(" num_generations:", " num_generation:"), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        checks.check()

    assert re.findall(r"^params\.yaml:\d+: .*", README, re.MULTILINE) == str(refused.value).splitlines()


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


def test_lines_fit() -> None:
    """What README shows fits 120 columns, but for its tables."""
    assert [] == [line for line in README.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_nothing_is_left_to_fill_in() -> None:
    """No figure is missing."""
    assert [] == re.findall(r"@@\w+@@|TODO|XXX", README)
