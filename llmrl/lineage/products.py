"""What DVC recorded of a file or folder, and what lies here of it, every byte read.

DVC itself takes a file of the same size and time for the same: what a disk has lost, or a hand changed with care, it
does not see.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl import repository
from llmrl.progress import Progress


@dataclass(frozen=True)
class Fault:
    """What differs, in words, and what mends it."""

    what: str
    mended: str = "`dvc repro` makes it anew"


@dataclass
class Product:
    """A file or folder that a stage makes, or that `dvc add` tracks."""

    path: str
    lock: str  # the file that has its record
    recorded: str | None  # its hash
    size: int  # bytes, as recorded
    listed: dict[str, str] = field(default_factory=dict)  # the hashes recorded of its files, where known; "" of a file
    files: dict[str, Path] = field(default_factory=dict)  # where each lies: here, or in DVC's cache
    fault: Fault | None = None
    absent: bool = False  # as a whole, from the cache, too
    notes: list[str] = field(default_factory=list)  # what else is not here
    below: dict[str, None] = field(default_factory=dict)  # the stages made of files in it that could not be compared

    @property
    def unchecked(self) -> list[str]:
        """What of it is not here, or could not be told without it, in words."""
        said = [f"{self.path}: not here"] if self.absent else []
        if self.below:
            said.append(f"{self.path}: whether {', '.join(self.below)} was made of its files cannot be told without it")
        return said + self.notes


def product_hash(hashes: dict[str, str]) -> str:
    """The hash that DVC has for a product of such files, by their names in it: of a folder, or of a file, by none."""
    return hashes[""] if "" in hashes else repository.folder_hash(hashes)


class Files:
    """The files of this workspace and of DVC's cache, each read once."""

    def __init__(self, repo: Any, shown: Progress) -> None:
        self.repo, self.shown, self.root = repo, shown, Path(repo.root_dir)
        self.expected = sum(out.meta.size or 0 for stage in repo.index.stages for out in stage.outs if out.meta)
        self.known: dict[Path, str] = {}
        self.read = 0  # bytes

    def hashed(self, file: Path) -> str:
        """The hash of a file; of a link to nothing none, which no file has."""
        if not file.exists():
            return ""
        if file not in self.known:
            self.known[file] = repository.digest(file)
            self.read += file.stat().st_size
            self.shown.count(self.read >> 20, self.expected >> 20, "MiB")
        return self.known[file]

    def at(self, path: str) -> dict[str, Path]:
        """The files of a folder by their names in it, but those that .dvcignore names; or the file by none."""
        place = self.root / path
        if place.is_file() or (place.is_symlink() and not place.exists()):
            return {"": place}
        found = map(Path, self.repo.dvcignore.find(self.repo.fs, str(place)))
        return {file.relative_to(place).as_posix(): file for file in found}

    def hashes(self, path: str) -> dict[str, str]:
        return {name: self.hashed(file) for name, file in self.at(path).items()}

    def cached(self, digest: str) -> Path | None:
        """DVC's object of that hash, whatever is in it, where its cache has one."""
        path = Path(self.repo.cache.local.oid_to_path(digest))
        return path if path.exists() else None

    def intact(self, digest: str) -> bool:
        path = self.cached(digest)
        return path is not None and self.hashed(path) == digest.removesuffix(".dir")

    def relative(self, path: str) -> str:
        """A path from the root of the repository, or of elsewhere as it stands."""
        return Path(path).relative_to(self.root).as_posix() if Path(path).is_relative_to(self.root) else path

    def product(self, out: Any, lock: str) -> Product:
        """What lies here of an output of DVC's, and in what that is not what was recorded."""
        recorded = out.hash_info.value if out.hash_info else None
        path = self.relative(out.fs_path)
        made = Product(path, lock, recorded, (out.meta and out.meta.size) or 0, files=self.at(path))
        here = self.hashes(path)
        if recorded is None and here:
            made.fault = Fault(f"{path} is of a run that {lock} has not recorded")
        elif recorded is None:
            made.notes.append(f"{path}: not made yet, `dvc repro` makes it")
        elif here and product_hash(here) == recorded:
            made.listed = here
        else:
            made.fault = self.difference(made, recorded, here, out.use_cache)
        return made

    def difference(self, made: Product, recorded: str, here: dict[str, str], cached: bool) -> Fault | None:
        """The first file of a product that is not as recorded. One that is not here is looked for in DVC's cache; where
        it is not there either, it was not pulled.
        """
        if self.cached(recorded) and not self.intact(recorded):
            return self.corrupt(made.path, recorded)
        if not recorded.endswith(".dir"):
            made.listed = {"": recorded}
        elif self.cached(recorded):
            made.listed = repository.listed(recorded, self.repo)
        if not here and not cached:
            said = f"`git checkout {shlex.quote(made.path)}` brings the commit's, `dvc repro` makes it anew"
            return Fault(f"{made.path} is missing", said)
        if dead := sorted(f"{made.path}/{name}".rstrip("/") for name, digest in here.items() if not digest):
            return Fault(f"{dead[0]} is a link to nothing", self.brought_back(made, cached))
        if here and not made.listed:
            said = f"{made.path} is not what {made.lock} recorded (in which file, DVC's cache cannot tell)"
            return Fault(said, self.brought_back(made, cached))
        wrong, absent = {}, 0
        for name, digest in sorted(made.listed.items()):
            if name in here:
                if here[name] != digest:
                    wrong[name] = f"is not what {made.lock} recorded"
            elif not (there := self.cached(digest)):
                absent += 1
            elif not self.intact(digest):
                return self.corrupt(f"{made.path}/{name}".rstrip("/"), digest)
            elif here:
                wrong[name] = "is missing"
            else:
                made.files[name] = there
        wrong |= dict.fromkeys(sorted(here.keys() - made.listed.keys()), "is one more than was made")
        if wrong:
            (name, how), *more = wrong.items()
            others = f", and {len(more)} more of its files differ" if more else ""
            return Fault(f"{f'{made.path}/{name}'.rstrip('/')} {how}{others}", self.brought_back(made, cached))
        made.absent = absent == len(made.listed)
        if not made.absent:
            not_here = f"{absent} of {len(made.listed)} files are not here"
            made.notes.append(f"{made.path}: {not_here if absent else 'not checked out; whole in the cache of DVC'}")
        return None

    def corrupt(self, path: str, digest: str) -> Fault:
        there = self.relative(str(self.cached(digest)))
        mended = f"`rm -f {shlex.quote(there)}`, then `dvc pull` brings it, or `dvc repro` makes it anew"
        return Fault(f"{path}: what DVC's cache has of it is corrupt, {there}", mended)

    def brought_back(self, made: Product, cached: bool) -> str:
        """How what was recorded comes back. It is removed, as DVC leaves alone what has the size and time it knows."""
        path = shlex.quote(made.path)
        if not cached:
            return f"`git checkout {path}` brings the commit's; where that is of another run, `dvc repro` makes it anew"
        if made.listed and all(self.intact(digest) for digest in made.listed.values()):
            return f"`rm -r {path} && dvc checkout {path}` brings it back"
        return f"`rm -r {path} && dvc pull {path}` brings it, where it was pushed; else `dvc repro` makes it anew"
