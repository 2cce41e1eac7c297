"""What the pipeline recorded of an experiment, at any revision: settings, figures, curves, locks, provenance, and every
answer to the held-out prompts, which DVC's cache keeps as a product of the stage that gave it.

A revision is what `dvc exp show` lists: `workspace`, a commit, a branch, an experiment. Of another than the workspace
nothing is checked out: git has the small files, DVC's cache the large ones, by the hashes that the locks have.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import yaml
from ruamel.yaml import YAML

from llmrl import folders, repository
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.report.found import found_elsewhere
from llmrl.report.outdated import why_outdated

if TYPE_CHECKING:
    import pyarrow as pa
    from dvc.repo import Repo

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Recorded:
    """An experiment as one revision has it."""

    revision: str
    commit: str | None  # 40 digits; of the workspace None
    params: dict[str, Any]
    figures: dict[str, dict[str, Any]]  # by stage, as metrics/<stage>/metrics.json has them
    data: dict[str, dict[str, Any]]  # by data set, as metrics/data/<name>.json has them
    curves: dict[str, dict[str, list[tuple[int, float]]]]  # by stage and figure
    locks: dict[str, dict[str, Any]]  # by stage: its entry in a dvc.lock
    tables: dict[str, dict[str, pa.Table]]  # by stage: before, after, pairs, scores of metrics/<stage>/held_out
    provenance: dict[str, dict[str, Any]]  # by stage, and base
    missing: list[str] = field(default_factory=list)  # products that neither lie here nor in the cache
    outdated: dict[str, str] = field(default_factory=dict)  # stages whose figures are of another run, and why

    def hash(self, product: str) -> str | None:
        """The hash that the locks have for a product, models/grpo say."""
        outs = (out for entry in self.locks.values() for out in entry.get("outs", ()) if out["path"] == product)
        return next((out.get("md5") for out in outs), None)

    def policies(self) -> dict[str, pa.Table]:
        """The answers of each policy that there are, in the order of training: base, sft, dpo, grpo."""
        found: dict[str, pa.Table] = {}
        for stage in [stage for stage in STAGES if STAGES[stage].answers]:
            for when in ("before", "after"):
                if (table := self.tables.get(stage, {}).get(when)) is not None and len(table):
                    found.setdefault(table["policy"][0].as_py(), table)
        return found


def experiment_at(revision: str = WORKSPACE) -> Recorded:
    """What is recorded at a revision. Raises InputError where DVC cannot read it, or nothing is recorded there."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        try:
            with repo.switch(revision):
                return read(repo, revision)
        except DvcException as error:
            raise InputError(f"{revision}: {error}") from None


def read(repo: Repo, revision: str) -> Recorded:
    """The same, of the revision that DVC has switched to."""
    from dvc.scm import resolve_rev

    fs, here = repo.fs, revision == WORKSPACE
    root = Path(repo.root_dir)

    def text(path: str) -> str | None:
        place = fs.join(str(root), path)
        return fs.read_text(place, encoding="utf-8") if fs.exists(place) else None

    def parsed(path: str) -> dict[str, Any]:
        found = text(path)
        try:
            return json.loads(found) if found else {}
        except ValueError:
            raise InputError(f"{path} at {revision} is no JSON: `git checkout {path}` brings it back.") from None

    locks: dict[str, dict[str, Any]] = {}
    for lock in repository.LOCKS:
        locks |= (yaml.load(text(str(lock)) or "{}", yaml.CSafeLoader) or {}).get("stages", {})
    if not locks:
        raise InputError(f"{revision}: no dvc.lock has recorded anything there: `dvc repro` makes the models.")
    figures = {stage: parsed(f"metrics/{stage}/metrics.json").get(stage, {}) for stage in STAGES}
    data = {
        name: parsed(f"metrics/data/{name}.json").get("data", {}).get(name, {})
        for name in ("sft", "preference", "prompts")
    }
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for stage in STAGES:
        folder = fs.join(str(root), f"metrics/{stage}/plots/metrics/{stage}")
        names = [Path(name).name for name in fs.ls(folder, detail=False)] if fs.exists(folder) else []
        curves[stage] = {
            Path(name).stem: curve(text(f"metrics/{stage}/plots/metrics/{stage}/{name}") or "")
            for name in sorted(names)
        }
    tables: dict[str, dict[str, pa.Table]] = {}
    provenance: dict[str, dict[str, Any]] = {}
    missing = []
    for stage in ("base", *STAGES):
        made, answers = f"models/{stage}", f"metrics/{stage}/held_out"
        files = kept(repo, locks, made, here)
        if files and folders.PROVENANCE in files:
            provenance[stage] = json.loads(files[folders.PROVENANCE].read_text(encoding="utf-8"))
        elif hash_of(locks, made):
            missing.append(made)
        if stage in STAGES:
            files = kept(repo, locks, answers, here) or found_elsewhere(repo, stage, locks.get(stage, {}))
            tables[stage] = {Path(name).stem: pq.read_table(path) for name, path in sorted((files or {}).items())}
            if files is None and hash_of(locks, answers):
                missing.append(answers)
    commit = None if here else resolve_rev(repo.scm, revision)
    params = YAML(typ="safe").load(text("params.yaml") or "{}") or {}
    return Recorded(
        revision, commit, params, figures, data, curves, locks, tables, provenance, missing, why_outdated(repo.index)
    )


def hash_of(locks: dict[str, dict[str, Any]], product: str) -> str | None:
    """The hash of a product in the locks."""
    outs = (out for entry in locks.values() for out in entry.get("outs", ()) if out["path"] == product)
    return next((out.get("md5") for out in outs), None)


def kept(repo: Repo, locks: dict[str, dict[str, Any]], product: str, here: bool) -> dict[str, Path] | None:
    """The files of a folder that is a product, by their names in it: of the workspace those that lie there, else those
    of DVC's cache; None where they are in neither.
    """
    folder = Path(product)
    if here and folder.is_dir():
        return {path.relative_to(folder).as_posix(): path for path in repository.files(folder)}
    if not (digest := hash_of(locks, product)):
        return None
    try:
        found = {name: Path(repo.cache.local.oid_to_path(md5)) for name, md5 in repository.listed(digest, repo).items()}
    except FileNotFoundError:
        return None
    return {name: path for name, path in found.items() if path.exists()}


def curve(text: str) -> list[tuple[int, float]]:
    """A file of DVCLive's: the step and the value of each point."""
    rows = csv.DictReader(io.StringIO(text), delimiter="\t")
    points = [list(row.values()) for row in rows]
    names = rows.fieldnames or []
    at, value = (
        names.index("step"),
        next(place for place, name in enumerate(names) if name not in ("step", "timestamp")),
    )
    return [(int(point[at]), float(point[value])) for point in points]
