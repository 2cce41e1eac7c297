"""Which stages' figures and curves are not of what lies beside them: another run made them.

git keeps metrics/ and dvc.lock for all stages together, and an edit of params.yaml, `dvc repro dpo` or
`dvc exp run … dpo` renews what the others are made of, and not the others. DVC shows them all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmrl.errors import InputError

UNRECORDED = "of a run that dvc.lock has not recorded"  # under way, ended early, or not committed with its lock
NAMED = 3


def outdated(revisions: Iterable[str]) -> dict[str, dict[str, str]]:
    """By revision, each stage whose figures there are of another run, or UNRECORDED, and why.

    A revision is what `dvc plots diff` calls one: `workspace`, a commit, a branch, an experiment. What DVC has recorded
    of a stage and of all that it follows from is compared with the settings, the code, the raw files and the records of
    that revision; whether data and models are here does not matter. Files of `dvc add` that are not here are taken for
    unchanged. Raises InputError where DVC cannot read one.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    found = {}
    with Repo() as repo:
        for revision in revisions:
            try:
                with repo.switch(revision):
                    found[revision] = why_outdated(repo.index)
            except DvcException as error:
                raise InputError(f"{revision}: {error}") from None
    return found


def why_outdated(index: Any) -> dict[str, str]:
    """The same of one revision, by DVC's index of it."""
    import networkx  # DVC's graph is one of its
    from dvc.stage import PipelineStage

    stages = [stage for stage in index.stages if isinstance(stage, PipelineStage)]
    changes = {stage: changed_inputs(stage, index) for stage in stages}
    found = {}
    for stage in stages:
        figures = [out.workspace_status() for out in stage.outs if not out.use_cache]
        if any("modified" in status.values() for status in figures):
            found[stage.name] = UNRECORDED
            continue
        above = networkx.descendants(index.graph, stage)
        followed = [stage, *(one for one in stages if one in above)]
        names = [*dict.fromkeys(name for one in followed for name in changes[one])]
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            have = "has" if len(names) == 1 else "have"
            found[stage.name] = f"of another run, as {', '.join(names[:NAMED])}{more} {have} changed since"
    return found


def changed_inputs(stage: Any, index: Any) -> list[str]:
    """What a stage is made of and is not what DVC has recorded, by its names: settings, files, folders.

    Of a stage without a record nothing; what it makes is then not what those have recorded that follow.
    """
    from dvc.dependency.param import ParamsDependency

    if not any(out.hash_info for out in stage.outs):
        return []
    names = ["the command"] if stage.cmd_changed else []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            names += differing(dep.hash_info.value or {}, dep.read_params())
        elif dep.hash_info.value != beside(dep, index):
            names.append(str(dep))
    return names


def differing(old: dict[str, Any], new: dict[str, Any], within: str = "") -> list[str]:
    """Which settings differ, by their dotted names.

    >>> differing({"train": {"lr": 0.1, "seed": 1}}, {"train": {"lr": 0.2, "seed": 1, "optim": "sgd"}})
    ['train.lr', 'train.optim']
    """
    names = []
    for key in old | new:
        before, now = old.get(key, ...), new.get(key, ...)
        if isinstance(before, dict) and isinstance(now, dict):
            names += differing(before, now, f"{within}{key}.")
        elif before != now:
            names.append(f"{within}{key}")
    return names


def beside(dep: Any, index: Any) -> str | None:
    """The hash of a dependency: as another stage's record has it, else that of the file or folder; None where it is
    missing. Where neither can be told it is taken for unchanged.
    """
    fs = dep.fs
    for out in index.outs:
        if fs.isin_or_eq(dep.fs_path, out.fs_path):
            if dep.fs_path == out.fs_path:
                return out.hash_info.value
            if folder := out.get_obj():  # its list of files, which may not be here
                _, hash_info = folder.get(fs.relparts(dep.fs_path, out.fs_path)) or (None, None)
                return hash_info and hash_info.value
            return dep.get_hash().value if dep.exists else dep.hash_info.value
        if fs.isin(out.fs_path, dep.fs_path) and not out.exists:
            return dep.hash_info.value
    return dep.get_hash().value if dep.exists else None
