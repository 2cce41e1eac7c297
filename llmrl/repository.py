"""This checkout: where the main repository is, what DVC recorded of it, hashes of files, folders that appear whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

LOCKS = (Path("dvc.lock"), Path("data/dvc.lock"), Path("models/dvc.lock"))
BLOCK = 2**20


def root() -> Path:
    """The main repository, also from within a temporary checkout of `dvc exp run --temp` or `--queue`."""
    here = Path.cwd().resolve()
    for parent in here.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return here


def load(path: Path) -> dict[str, Any]:
    """A YAML file of DVC's, empty where it is missing."""
    return yaml.load(path.read_bytes(), yaml.CSafeLoader) or {} if path.exists() else {}


def recorded() -> dict[Path, str]:
    """The hash of each product, as the locks of the three dvc.yaml have it."""
    found: dict[Path, str] = {}
    for lock in LOCKS:
        for stage in load(lock).get("stages", {}).values():
            # All three have the root as their working directory.
            found |= {Path(out["path"]): out["md5"] for out in stage.get("outs", []) if "md5" in out}
    return found


def digest(path: Path) -> str:
    """The hash that DVC has for a file, or for a folder: that of the list of its files.

    https://dvc.org/doc/user-guide/project-structure/internal-files#structure-of-the-cache-directory
    """
    if path.is_file():
        md5 = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                md5.update(block)
        return md5.hexdigest()
    files = {file.relative_to(path).parts: file for file in path.rglob("*") if file.is_file()}
    listed = [{"md5": digest(files[parts]), "relpath": "/".join(parts)} for parts in sorted(files)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, which takes its place once all is written; else `out` stays as it was."""
    unfinished = out.with_name(f".{out.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
