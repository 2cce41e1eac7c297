"""What DVC is told against what the code does: it hashes the files and folders a stage lists, and follows no import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from llmrl.data.held_out import AFTER, HELD_OUT

ROOT = Path(__file__).parents[2]
STAGES = ("sft", "reward", "dpo", "grpo")

# From the bottom up: a module imports what stands above it here, and what is in its own package.
LAYERS = (
    "llmrl.environment llmrl.started",
    "llmrl.errors llmrl.formats llmrl.fields llmrl.graph llmrl.repository llmrl.devices llmrl.progress llmrl.folders",
    "llmrl.sources llmrl.hub llmrl.toy.arithmetic llmrl.models",
    "llmrl.answers",
    "llmrl.data llmrl.base llmrl.rewards",
    "llmrl.training",
    "llmrl.measuring llmrl.pairs",
    "llmrl.memory",
    "llmrl.session",
    "llmrl.params",
    "llmrl.plan",
    "llmrl.work llmrl.pairs.__main__",
    "llmrl.export",
    "llmrl.lineage",
    "llmrl.stage llmrl.report",
    "stages",
)
# What decides no byte of a product, and why; test_keys.py looks at every constant in them.
EXEMPT = {
    "llmrl/__init__.py": "only reads .env",
    "llmrl/environment.py": "only refuses a Python",
    "llmrl/errors.py": "only stops a run",
    "llmrl/fields.py": "only refuses values, and hands on the others as they stand",
    "llmrl/folders.py": "only refuses a model's folder",
    "llmrl/devices.py": "only asks what devices there are and what each has, and names one to hold",
    "llmrl/progress.py": "only shows",
    "llmrl/repository.py": "only looks up what git and DVC know, hashes files, and has a folder appear whole",
    "llmrl/params/": "only refuses settings, and hands on the others: they are resolved beside what uses them",
    "llmrl/plan/": "only tells what to expect, and refuses what does not fit",
    "llmrl/session/": "only attends: checkpoints, locks, signals, guards, record, screen",
    "llmrl/started.py": "only tells who started a run",
    "llmrl/stage.py": "only starts a run",
    "llmrl/work.py": "only attends a run, and hands over",
    "stages/__init__.py": "only keeps libraries off the network",
}


def declared() -> dict[str, dict]:
    """Every stage of the three files by the module it runs, with `foreach` taken at its first item."""
    found = {}
    for file in ("dvc.yaml", "data/dvc.yaml", "models/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / file).read_text())["stages"].values():
            stage = stage.get("do", stage)
            found[re.search(r"-m (\S+)", stage["cmd"])[1]] = stage
    return found


def running(node: ast.AST) -> list[ast.AST]:
    """The nodes below, but for what is there for the type checker alone."""
    found = [node]
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            found += running(child)
    return found


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports when it runs, wherever the import stands."""
    names: set[str] = set()
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in ("llmrl", "stages") and file_of(name)}


def file_of(module: str) -> Path | None:
    """The file of a module or a package, if there is one."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def reached(module: str) -> set[str]:
    """The project's files that `python -m module` runs, directly or not; by way of llmrl/params alone, only settings
    are reached, which it hands on resolved.
    """
    entry = ROOT / module.replace(".", "/") / "__main__.py"
    waiting, seen = [entry if entry.exists() else file_of(module)], set()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting.append(file.parent / "__init__.py")
            if file.parent.name != "params":
                waiting += [file_of(name) for name in imported(file)]
    return {str(file.relative_to(ROOT)) for file in seen if len(ast.parse(file.read_text()).body) > 1}


def lies_in(file: str, places: list[str]) -> bool:
    """Whether a file is one of the places, or below one."""
    return any(file == place or file.startswith(f"{place.rstrip('/')}/") for place in places)


@pytest.mark.parametrize("module", declared())
def test_code_dependencies(module: str) -> None:
    """All code that a stage runs lies in a file or folder that it lists, but what decides no byte; and it lists no
    code that it does not run.
    """
    listed = [dep for dep in declared()[module]["deps"] if dep.startswith(("llmrl", "stages"))]
    files = reached(module)
    if module == "stages.reward":  # makes no answers, so that nothing of these is run
        files = {file for file in files if not lies_in(file, ["llmrl/answers"])}

    assert [] == sorted(file for file in files if not lies_in(file, [*listed, *EXEMPT]))
    assert [] == [place for place in listed if not any(lies_in(file, [place]) for file in files)]


def test_exemptions_are_needed() -> None:
    """Every exemption is of code that some stage runs."""
    everything = set().union(*(reached(module) for module in declared()))

    assert [] == [place for place in EXEMPT if not any(lies_in(file, [place]) for file in everything)]


def layer(module: str) -> int:
    """The place of a module in LAYERS."""
    places = [n for n, names in enumerate(LAYERS) for name in names.split() if f"{module}.".startswith(f"{name}.")]
    assert places or module == "llmrl.toy", f"{module} is in no layer"
    return places[-1] if places else 0


def modules() -> list[str]:
    """Every module of the project."""
    files = [*(ROOT / "llmrl").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files)


@pytest.mark.parametrize("module", [one for one in modules() if one not in ("llmrl", "stages")])
def test_imports_go_downward(module: str) -> None:
    """A module imports only what is of a lower layer, or of its own package. An entry point may read the experiment."""
    path = file_of(module) or ROOT / f"{module.replace('.', '/')}.py"
    package = module.rpartition(".")[0]
    for other in imported(path) - {"llmrl", "stages", package}:
        if other.startswith("llmrl.params") and package in ("llmrl.base", "llmrl.data"):
            continue  # in `main`
        assert (
            layer(other) < layer(module)
            or other.rpartition(".")[0] == package != "llmrl"
            or (package == "llmrl" and (layer(other) <= layer(module)))
        ), other


def test_no_circle() -> None:
    """No module imports itself by way of others."""
    graph = {module: imported(file_of(module) or ROOT / f"{module.replace('.', '/')}.py") for module in modules()}
    done: set[str] = set()

    def follow(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        for other in graph.get(module, set()) - {"llmrl", "stages"} if module not in done else ():
            if not module.startswith(f"{other}."):  # its own package's __init__ does not come back
                follow(other, (*above, module))
        done.add(module)

    for module in graph:
        follow(module, ())


def test_what_trains_attends_to_nothing() -> None:
    """What decides a model imports nothing of what records, shows, plans or reports."""
    above = ("llmrl.session", "llmrl.plan", "llmrl.report", "llmrl.params", "llmrl.work", "llmrl.stage")
    for module in modules():
        if module.startswith(("llmrl.training", "llmrl.models", "llmrl.answers", "llmrl.rewards")):
            path = file_of(module) or ROOT / f"{module.replace('.', '/')}.py"
            assert [] == [one for one in imported(path) if one.startswith(above)], module


def test_no_two_names_alike() -> None:
    """No public class or function is called as one of another package is, unless it means the same."""
    # A check of a section's values; a command line; what is read of a file of its kind; a reward, and what judges it;
    # of the base as of all; a format, and a reward, of one package.
    alike = {"wrong", "main", "read", "ends_marked", "what_made_it", "reasoning_gym"}
    homes: dict[str, set[str]] = {}
    for module in modules():
        path = file_of(module) or ROOT / f"{module.replace('.', '/')}.py"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(".".join(module.split(".")[:2]))
    homes.pop("trainer")  # the four stage scripts', which are siblings

    assert {} == {name: sorted(places) for name, places in homes.items() if len(places) > 1 and name not in alike}


def test_sets_are_prepared_one_after_another() -> None:
    """In the order in which each reads what the one before holds out."""
    items = yaml.safe_load((ROOT / "data/dvc.yaml").read_text())["stages"]["prepare"]["foreach"]

    assert {name: f"data/{other}/{HELD_OUT}" for name, other in AFTER.items()} == {
        name: item["after"] for name, item in items.items() if name in AFTER
    }
    assert "data/raw/prompts" == items["prompts"]["after"]


def test_four_stages() -> None:
    """dvc.yaml declares exactly the four trainings."""
    assert [*STAGES] == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_tracked(stage: str) -> None:
    """A stage tracks its own section and what all share, and never `run`."""
    params = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["params"]

    assert {"train", stage} == set(params) - {"answers"}


def test_default_profile() -> None:
    """The committed params.yaml is profiles/tiny.yaml."""
    assert (ROOT / "profiles/tiny.yaml").read_text() == (ROOT / "params.yaml").read_text()
