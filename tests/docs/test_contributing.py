"""CONTRIBUTING.md's list of packages: all there are, and what DVC is told of each."""

from __future__ import annotations

import re

import yaml
from clone import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Of the table: the packages and modules, and what they decide.
ROWS = re.findall(r"^\| ((?:`[\w.]+/?` ?)+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)


def test_every_package_is_listed() -> None:
    """Each package and module of llmrl/ stands in the table, and nothing else."""
    listed = [name for names, _ in ROWS for name in re.findall(r"`([^`]+)`", names)]
    packages = {f"{path.parent.name}/" for path in (ROOT / "llmrl").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "llmrl").glob("*.py")} - {"__init__.py"}

    assert sorted(packages | modules) == sorted(listed)


def test_what_decides_bytes_is_a_dependency() -> None:
    """What is said to decide something is a dependency of a stage in whole or in part, and nothing else is."""
    depended = set()
    for file in ("dvc.yaml", "data/dvc.yaml", "models/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / file).read_text())["stages"].values():
            depended |= {dep for dep in stage.get("do", stage)["deps"] if dep.startswith("llmrl/")}
    for names, decided in ROWS:
        for name in re.findall(r"`([^`]+)`", names):
            known = any(f"{dep}/".startswith(f"llmrl/{name.rstrip('/')}/") for dep in depended)
            assert (decided != "nothing") == known, name
