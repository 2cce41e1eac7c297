"""What made a model: its settings, inputs, code and versions; and whether DVC's cache has the one that was made so.

A stage that DVC runs again for its measuring alone, for another `answers.samples` say, need not train.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import repository
from llmrl.answers import gym
from llmrl.errors import InputError
from llmrl.folders import PROVENANCE, TRAINING
from llmrl.graph import STAGES
from llmrl.training.settings import Settings

if TYPE_CHECKING:
    from datasets import Dataset

# What decides the bytes of a model beside its inputs and settings.
LIBRARIES = (
    "accelerate",
    "datasets",
    *(("liger-kernel",) if sys.platform == "linux" else ()),  # as in pyproject.toml
    "mpmath",  # by which answers are compared
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)
TRAINING_RUNS = tuple(f"llmrl.training.{name}" for name in ("loop", "hardware", "processes"))
# They keep the network away, read .env and stop a run; of the table of stages all that decides is in the settings.
UNDECIDING = ("llmrl", "llmrl.errors", "llmrl.graph", "stages")


def made_by(settings: Settings, eval_rows: Dataset) -> dict[str, Any]:
    """What makes a model: resolved settings, hashes of the models and rows it is made from and of the code, versions.

    Of held-out rows those count that are evaluated while it trains, which draws random numbers and curves. Raises
    InputError where an input is not what DVC recorded when it was made.
    """
    stage = STAGES[settings.stage]
    rows = Path(stage.folder)
    models = [Path(getattr(settings.own, setting)) for setting in stage.models]
    digests, recorded = {path: repository.digest(path) for path in (*models, rows)}, repository.recorded()
    for path, digest in digests.items():
        made = recorded.get(path, digest)
        if digest != made and not (path == rows and repository.is_part_of(made, rows)):
            raise InputError(
                f"{path} is not what dvc.lock recorded when it was made: somebody has changed it. "
                f"`rm -r {path} && dvc checkout {path}` brings it back; where DVC has it no more, `dvc repro` makes it "
                "anew."
            )
    held_out = hashlib.sha256(json.dumps(eval_rows.to_list()).encode()).hexdigest()
    found = {
        "settings": settings.deciding,
        "inputs": {
            **{str(path): digests[path] for path in models},
            str(rows / "train.parquet"): repository.digest(rows / "train.parquet"),
            f"{rows / 'eval.parquet'}, {len(eval_rows)} rows": held_out,
        },
        "code": code(settings),
        "versions": versions({*settings.packages, *scorers(settings)}),
    }
    return json.loads(json.dumps(found, sort_keys=True))  # as it is read again


def scorers(settings: Settings) -> list[str]:
    """The packages whose scorers decide on which prompts a stage is trained, as the rows tell."""
    from llmrl.training.rows import extra_columns

    judges = STAGES[settings.stage].generates and settings.own.pass_rate
    return [gym.PACKAGE] if judges and gym.NAME in extra_columns() else []


def what_makes(
    settings: dict[str, Any], inputs: Iterable[Path], modules: Iterable[str], packages: Iterable[str] = ()
) -> dict[str, Any]:
    """The same of what no trainer makes: of its settings, inputs, the modules that run it, and the packages it takes
    beside those that every stage does.
    """
    found = {
        "settings": settings,
        "inputs": {str(path): repository.digest(path) for path in inputs},
        "code": code_of(modules),
        "versions": versions(packages),
    }
    return json.loads(json.dumps(found, sort_keys=True))


def code(settings: Settings) -> dict[str, str]:
    """Each file of ours that decides a byte of the model, and a hash of what it does.

    These are the stage's script, what runs its training and what they import, but for what these settings leave out.
    """
    unused = []
    if not getattr(settings.own, "pass_rate", None):
        unused.append("llmrl.training.difficulty")
    if not getattr(settings.own, "rewards", {}).keys() - {"reward_model"}:
        unused.append("llmrl.rewards")
    return code_of([f"stages.{settings.stage}", *TRAINING_RUNS], unused)


def code_of(modules: Iterable[str], leaving_out: Iterable[str] = ()) -> dict[str, str]:
    """Each file of ours that these modules are or import, but some, and a hash of what it does. Comments, docstrings
    and the texts of errors do nothing.
    """
    waiting, unused = [*modules], {*UNDECIDING, *leaving_out}
    files: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        path = Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in unused or str(path) in files or not path.exists():
            continue
        tree = Doing().visit(ast.parse(path.read_text(encoding="utf-8")))
        files[str(path)] = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
        waiting += imported(tree)
    return {name: files[name] for name in sorted(files)}


class Doing(ast.NodeTransformer):
    """Leaves of a module what decides what it does to a training."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        # For the type checker alone; and what starts a session, which decides nothing.
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'") else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return Wordless().visit(node)  # what is raised may be caught, but not by its words

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


class Wordless(ast.NodeTransformer):
    """Leaves of an expression all but its texts."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node


def imported(tree: ast.AST) -> list[str]:
    """The modules of ours that a module imports, wherever the import stands."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if name.partition(".")[0] in ("llmrl", "stages")]


def versions(packages: Iterable[str]) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in (*LIBRARIES, *sorted(packages))}}


def cached(out: str, made_by: dict[str, Any]) -> dict[str, Path] | None:
    """The files, in DVC's cache, of a product, models/grpo say, that was made so, by their names in it; None where it
    is not whole.

    Other versions and another device make it no other experiment, as DVC sees it.
    """
    with repository.caches() as repo:
        cache, runs = repo.cache.local, Path(repo.stage_cache.cache_dir)
        locks = [stage for lock in repository.LOCKS for stage in repository.load(lock).get("stages", {}).values()]
        # What was made here and stands in no dvc.lock now, as another experiment's.
        locks += [repository.load(path) for path in runs.glob("*/*/*") if out.encode() in path.read_bytes()]
        made = {one["md5"]: None for lock in locks for one in lock.get("outs", []) if one["path"] == out}
        for product in made:
            try:
                hashes = repository.listed(product, repo)
                files = {name: Path(cache.oid_to_path(md5)) for name, md5 in hashes.items()}
                record = json.loads(files[PROVENANCE].read_bytes())
            except (FileNotFoundError, KeyError, ValueError):
                continue
            alike = all(record.get(what) == made_by[what] for what in ("settings", "inputs", "code"))
            whole = TRAINING in files or not out.startswith("models/")
            if alike and whole and all(file.exists() for file in files.values()):
                return files
    return None
