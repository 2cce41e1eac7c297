"""Edits while a stage runs: DVC records the settings and the code that are there when it has ended, whatever made its
model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llmrl import repository, started
from llmrl.errors import InputError


def snapshot(stage: str, file: Path = Path("dvc.yaml")) -> dict[str, Any]:
    """What DVC records of a stage's own settings and code, by where it stands, as its dvc.yaml names it."""
    declared = repository.load(file)["stages"][stage]
    try:
        sections = repository.load(Path("params.yaml"))
    except yaml.YAMLError:  # in the middle of an edit
        sections = {}
    found: dict[str, Any] = {f"params.yaml ({name})": setting(sections, name) for name in declared["params"]}
    return found | {str(file): repository.digest(file) for file in code(declared["deps"])}


def require_unedited(before: dict[str, Any], now: dict[str, Any], stage: str, made: str, then: str) -> None:
    """Raise InputError where a stage that DVC has started has other settings or code now than before, which DVC would
    record as what made what it has `made`; `then` says what comes of undoing the edit, and of leaving it.
    """
    if "DVC_STAGE" in os.environ and (names := edited(before, now)):
        raise InputError(
            f"While {stage} ran, {', '.join(names)} changed, and DVC would record that as what made {made}. Undo the "
            f"change, and {started.again()} {then}"
        )


def setting(sections: Any, name: str) -> Any:
    """That of a dotted name; None where there is none."""
    for key in name.split("."):
        sections = sections.get(key) if isinstance(sections, dict) else None
    return sections


def code(deps: list[str]) -> Iterator[Path]:
    """The files of Python among the dependencies of a stage."""
    for path in map(Path, deps):
        yield from path.rglob("*.py") if path.is_dir() else [path] if path.suffix == ".py" and path.exists() else []


def edited(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Where what was recorded before and now differs."""
    return sorted(name for name in before | now if before.get(name, ...) != now.get(name, ...))
