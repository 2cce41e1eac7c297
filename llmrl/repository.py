"""This checkout: where the main repository is, what DVC recorded of it, hashes of files, folders that appear whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

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
            found |= {Path(path): md5 for path, md5 in locked(stage, "outs").items()}
    return found


def locked(stage: dict[str, Any], what: str) -> dict[str, str]:
    """By their paths the hashes of what a stage's entry in a lock has as made (`outs`), or as made from (`deps`)."""
    return {one["path"]: one["md5"] for one in stage.get(what, ()) if "md5" in one}


@contextmanager
def caches() -> Iterator[Repo]:
    """The main repository as DVC sees it, for its caches; git is not asked."""
    from dvc.repo import Repo  # its import costs a quarter of a second
    from scmrepo.noscm import NoSCM

    with Repo(str(root()), scm=NoSCM(str(root()))) as repo:
        yield repo


def listed(product: str, repo: Repo) -> dict[str, str]:
    """The hashes of the files of a product that is a folder, by their names in it, as DVC's cache lists them.

    Raises FileNotFoundError where it does not.
    """
    entries = json.loads(Path(repo.cache.local.oid_to_path(product)).read_bytes())
    return {entry["relpath"]: entry["md5"] for entry in entries}


def is_part_of(product: str, folder: Path) -> bool:
    """Whether a folder holds nothing but files of a product, as they were made.

    `dvc repro --pull` fetches no more of a folder than what a stage reads.
    """
    try:
        with caches() as repo:
            hashes = listed(product, repo)
    except FileNotFoundError:
        return False
    return all(digest(path) == hashes.get(path.relative_to(folder).as_posix()) for path in files(folder))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def digest(path: Path) -> str:
    """The hash that DVC has for a file, or for a folder."""
    if path.is_file():
        md5 = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                md5.update(block)
        return md5.hexdigest()
    return folder_hash({file.relative_to(path).as_posix(): digest(file) for file in files(path)})


def folder_hash(listed: dict[str, str]) -> str:
    """The hash that DVC has for a folder of files with these names and hashes: that of the list.

    https://dvc.org/doc/user-guide/project-structure/internal-files#structure-of-the-cache-directory
    """
    entries = [{"md5": listed[name], "relpath": name} for name in sorted(listed)]
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"


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
