"""A Python that cannot run the project says so in one line, whatever it is asked to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from clone import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llmrl import environment

PLACES = ("README.md", "CONTRIBUTING.md", "Makefile", "dvc.yaml", "data/dvc.yaml", "models/dvc.yaml", "docs/*.md")
TEXT = "".join(page.read_text(encoding="utf-8") for place in PLACES for page in sorted(ROOT.glob(place)))
# What the pages and DVC run.
COMMANDS = sorted({*re.findall(r"-m ((?:llmrl|stages|docs|bench|models)(?:\.\w+)+)", TEXT)})
OLD = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10")


def bare(folder: Path) -> Path:
    """A Python without any package, in an environment of its own."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin/python"


def one_line(python: Path | str, *arguments: str, folder: Path = ROOT) -> str:
    """The line with which a process ends, and nothing else."""
    environ = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run((python, *arguments), cwd=folder, env=environ, capture_output=True, text=True, check=False)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n")), done.stderr
    return done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone that has no environment."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "llmrl", folder / "llmrl", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_every_command_says_it(tmp_path: Path) -> None:
    """Whatever the pages name ends in the same line where no package is installed."""
    python = bare(tmp_path / "bare")
    said = {command: one_line(python, "-m", command) for command in COMMANDS}

    assert {"llmrl.params", "llmrl.plan", "llmrl.base", "stages.sft", "docs.settings", "bench.gpu"} <= {*COMMANDS}
    assert 1 == len({*said.values()}), said
    assert f" is not installed in {tmp_path / 'bare'}. " in said["llmrl.params"]


def test_what_to_do(checkout: Path, tmp_path: Path) -> None:
    """Set the environment up; where there is one, activate it; where that is the one and lacks something, anew."""
    python, ready = bare(tmp_path / "bare"), checkout / ".venv/.ready"
    without = one_line(python, "-m", "llmrl.params", folder=checkout)
    ready.parent.mkdir()
    ready.touch()
    beside = one_line(python, "-m", "llmrl.params", folder=checkout)
    within = one_line(bare(ready.parent), "-m", "llmrl.params", folder=checkout)

    assert "`make setup` makes the project's environment, `source .venv/bin/activate` activates it" in without
    assert "Activate the project's environment: `source .venv/bin/activate`.\n" in beside
    assert f"`rm {ready} && VENV={ready.parent} make setup` installs what is locked.\n" in within


def test_an_environment_that_lacks_one(checkout: Path, tmp_path: Path) -> None:
    """Of another environment, the package is named that it has not."""
    python = bare(tmp_path / "other")
    (site,) = (tmp_path / "other/lib").glob("python*/site-packages")
    for package in {*environment.PACKAGES} - {"trl"}:
        folder = site / package.replace(".", "/")
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()

    assert one_line(python, "-m", "llmrl.params", folder=checkout).startswith("trl is not installed in ")


@pytest.mark.parametrize("command", ["llmrl.params", "stages.sft", "docs.settings", "bench.gpu", "models.recipe"])
def test_windows(command: str) -> None:
    """Where the system has no fcntl, which system it needs."""
    run = f"import runpy, sys; sys.platform = 'win32'; sys.modules['fcntl'] = None; runpy.run_module({command!r})"

    assert "Windows is not supported: Linux or macOS is needed, or WSL" in one_line(sys.executable, "-c", run)


@pytest.mark.parametrize("command", ["llmrl.params", "stages.sft", "docs.settings", "bench.gpu", "models.recipe"])
@pytest.mark.parametrize("version", OLD)
def test_older_pythons(version: str, command: str) -> None:
    """A Python that does not know the syntax of today is told which is needed."""
    known = Path.home() / ".pyenv/versions"
    python = next(iter(known.glob(f"{version}.*/bin/python")), None) or shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"there is no Python {version} here")

    assert "Python 3.11 or newer is needed, and " in one_line(python, "-m", command)


def test_the_first_files_are_for_any_python() -> None:
    """What is read before the version is asked has no annotation, f-string, walrus, or letter beyond ASCII."""
    for name in ("llmrl", "stages", "docs", "bench", "models"):
        text = (ROOT / name / "__init__.py").read_text(encoding="utf-8")

        assert text.isascii()
        assert [] == re.findall(r"\bf\"|:=|->|: \w+ =|^match ", text, re.MULTILINE), name


def test_the_oldest_python_is_the_project_s() -> None:
    """The version that is asked for is that of pyproject.toml, here and in the Makefile."""
    (least,) = re.findall(r">=(\d+)\.(\d+)", project()["requires-python"])
    for file in ("llmrl/__init__.py", "Makefile"):
        assert [least] == re.findall(r"version_info < \((\d+), (\d+)\)", (ROOT / file).read_text(encoding="utf-8"))


def test_the_packages_are_the_project_s() -> None:
    """What is looked for is what pyproject.toml names for every machine."""
    named = map(Requirement, project()["dependencies"])
    needed = {canonicalize_name(one.name) for one in named if not one.marker}
    found = packages_distributions()
    looked_for = [{*map(canonicalize_name, found[name.partition(".")[0]])} for name in environment.PACKAGES]

    assert [] == [names for names in looked_for if not names & needed]
    assert set() == needed - set().union(*looked_for) - {"ruamel-yaml-clib"}  # of no name that anybody imports


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
