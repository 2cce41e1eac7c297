"""Answers of a model, found by its hash wherever they were given: by another commit or experiment, or by a run of which
DVC's run cache alone has the record.

A revision's own lock may not have them: it is older than metrics/<stage>/held_out, or they are not in this cache, or
the model was measured again elsewhere. The same model's answers to the same prompts by the same protocol are as good.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import yaml

from llmrl import repository
from llmrl.measuring.answers import made_of
from llmrl.repository import locked
from llmrl.session.commit import git

if TYPE_CHECKING:
    from dvc.repo import Repo

Entry = dict[str, Any]  # of a stage in a dvc.lock, or in DVC's run cache


def found_elsewhere(repo: Repo, stage: str, entry: Entry) -> dict[str, Path] | None:
    """The files of metrics/<stage>/held_out, by their names in it, of the model that a lock's entry has, in this
    machine's cache; None where there are none.

    What they were measured on, and the settings of the answers, are those of the entry; of several that are so, those
    come first that were made with the most of its code.
    """
    model, answers = f"models/{stage}", f"metrics/{stage}/held_out"
    if not (made := locked(entry, "outs").get(model)):
        return None
    alike = [one for one in entries(repo, stage, made) if answers in locked(one, "outs") and measured_alike(entry, one)]
    alike.sort(key=lambda one: -len(locked(entry, "deps").items() & locked(one, "deps").items()))
    for digest in dict.fromkeys(locked(one, "outs")[answers] for one in alike):
        try:
            listed = repository.listed(digest, repo)
        except FileNotFoundError:
            continue
        files = {name: Path(repo.cache.local.oid_to_path(md5)) for name, md5 in listed.items()}
        models = locked(entry, "deps") | {model: made}
        if all(path.exists() for path in files.values()) and not any(of_other(path, models) for path in files.values()):
            return files
    return None


def entries(repo: Repo, stage: str, model: str) -> Iterator[Entry]:
    """What is recorded of a stage that made a model of this hash: by commits and experiments, the newest first, and by
    DVC's run cache.
    """
    commits = git("log", "--all", "--format=%H", f"-S{model}", "--", "dvc.lock") or ""
    for commit in commits.split():
        lock = yaml.load(git("show", f"{commit}:./dvc.lock") or "{}", yaml.CSafeLoader)
        if (one := lock.get("stages", {}).get(stage)) and locked(one, "outs").get(f"models/{stage}") == model:
            yield one
    for path in Path(repo.stage_cache.cache_dir).glob("*/*/*"):
        if (
            model.encode() in path.read_bytes()
            and locked(one := repository.load(path), "outs").get(f"models/{stage}") == model
        ):
            yield one


def measured_alike(entry: Entry, other: Entry) -> bool:
    """Whether two entries measure on the same data, by the same models, and ask alike."""
    mine, theirs = locked(entry, "deps"), locked(other, "deps")
    data = [path for path in mine.keys() & theirs.keys() if path.startswith(("data/", "models/"))]
    return protocol(entry) == protocol(other) and all(mine[path] == theirs[path] for path in data)


def of_other(path: Path, models: dict[str, str]) -> bool:
    """Whether a table is of other models than those of these hashes, by their folders, as far as it tells: the model it
    was measured from, what that was trained from, and those whose answers were scored.
    """
    told = made_of(pq.read_schema(path).empty_table())
    claims = {f"models/{policy}": model for policy, model in told.get("models", {}).items()}
    if "init" in told:
        claims |= {told["init"]: told["init_model"]}
    return any(models.get(folder, model) != model for folder, model in claims.items())


def protocol(entry: Entry) -> Any:
    """The settings of the answers; of a stage that gives none None."""
    return entry.get("params", {}).get("params.yaml", {}).get("answers")
