"""What DVC is told against what the code does: it hashes the files a stage lists, and does not follow imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent

# Modules that decide no byte of a product, and why.
EXEMPT = {
    "llmrl/__init__.py": "only reads .env",
    "llmrl/combinations.py": "only refuses settings",
    "llmrl/console.py": "only shows",
    "llmrl/errors.py": "only stops a run",
    "llmrl/params.py": "its resolved values are tracked as parameters",
    "llmrl/checkpoints.py": "changes nothing, as tests/faults shows",
    "llmrl/fit.py": "only refuses settings",
    "llmrl/memory.py": "only tells what to expect",
    "llmrl/past.py": "only tells what to expect",
    "llmrl/plan.py": "only tells what to expect",
    "llmrl/guards.py": "only stops a run",
    "llmrl/interruption.py": "only stops a run",
    "llmrl/launch.py": "the number of processes stands in the stage's command, which DVC tracks",
    "llmrl/locks.py": "only has a run wait, or refuses it",
    "llmrl/progress.py": "only shows",
    "llmrl/repository.py": "only looks up what git and DVC know",
    "llmrl/resume.py": "changes nothing, as tests/faults shows",
    "llmrl/runs.py": "only records; its folder is no product",
    "llmrl/sample.py": "only shows",
    "llmrl/checks.py": "only refuses settings",
    "llmrl/schema.py": "only refuses settings",
    "llmrl/sections.py": "its values are tracked as parameters",
    "stages/__init__.py": "only keeps libraries off the network",
}


def stages() -> dict[str, dict]:
    """Every stage of the three files by the module it runs, with `foreach` taken at its first item."""
    found = {}
    for file in ("dvc.yaml", "data/dvc.yaml", "models/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / file).read_text())["stages"].values():
            stage = stage.get("do", stage)
            found[re.search(r"-m (\S+)", stage["cmd"])[1]] = stage
    return found


def imported(path: Path) -> set[Path]:
    """The project's files that a file imports when it runs, wherever the import stands."""
    found: set[Path] = set()
    for node in running(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            module = ROOT / name.replace(".", "/")
            found |= {file for file in (module.with_suffix(".py"), module / "__init__.py") if file.exists()}
    return found


def running(node: ast.AST) -> list[ast.AST]:
    """The nodes below, but for what is there for the type checker alone."""
    found = [node]
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            found += running(child)
    return found


def reached(module: str) -> set[str]:
    """The project's files that `python -m module` runs, directly or not."""
    waiting, seen = [ROOT / f"{module.replace('.', '/')}.py"], set()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += [*imported(file), file.parent / "__init__.py"]
    return {str(file.relative_to(ROOT)) for file in seen}


@pytest.mark.parametrize("module", stages())
def test_code_dependencies(module: str) -> None:
    """A stage lists exactly the modules that decide its bytes: those it imports, but the exempt ones."""
    listed = {dep for dep in stages()[module]["deps"] if dep.endswith(".py")}

    assert reached(module) - set(EXEMPT) == listed


def test_exemptions_exist() -> None:
    """Every exemption is a file that some stage reaches."""
    everything = set().union(*(reached(module) for module in stages()))

    assert set() == set(EXEMPT) - everything


def test_four_stages() -> None:
    """dvc.yaml declares exactly the four trainings."""
    assert ["sft", "reward", "dpo", "grpo"] == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "grpo"])
def test_parameters_are_tracked(stage: str) -> None:
    """A stage tracks its own section and what all share, and never `run`."""
    params = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["params"]

    assert {"train", stage} == set(params) - {"answers"}


def test_default_profile() -> None:
    """The committed params.yaml is profiles/tiny.yaml."""
    assert (ROOT / "profiles/tiny.yaml").read_text() == (ROOT / "params.yaml").read_text()
