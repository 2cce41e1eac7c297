"""Where a run resumes from: .llmrl/checkpoints/<stage>/<key>/<device>/ of the main repository.

    step-40/     a checkpoint of TRL's trainer, and what it leaves out (resume.json)
    judged/      grpo: how well the policy it starts from answers each prompt (difficulty.py)
    trained/     the trained model (model/), until DVC has recorded the stage
    unfinished/  where these are written; nothing in it counts

The key is a digest of all that decides the stage's bytes, so that no other experiment picks a checkpoint up, and the
same one does, in whichever checkout; another device has its own. A folder is synced to disk before it takes its name:
it is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from llmrl import locks, repository

STATE = "resume.json"
ABANDONED = 3  # experiments that were never finished and keep their checkpoints, the last ones worked at
POLL = 1.0  # seconds between two looks at what DVC has recorded


def all_of_them() -> Path:
    """Where all checkpoints lie."""
    return repository.root() / ".llmrl" / "checkpoints"


def place(stage: str, made_by: dict[str, Any]) -> Path:
    """The folder of a stage of an experiment, named by a digest of all that decides its bytes."""
    key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    return all_of_them() / stage / key[:16]


def progress(place: Path) -> str:
    """How the next run will go on from what the last one left, in words."""
    command = "`dvc repro`" if repository.root() == Path.cwd() else "the same `dvc exp run`"
    for folder in sorted(place.glob("*/"), key=last_change)[-1:]:
        store = Store(place, folder.name)
        if store.trained.exists():
            return f"{command} goes on with the trained model"
        for step in store.steps()[-1:]:
            return f"{command} goes on from step {number(step)}"
    return f"{command} begins this stage anew"


def number(step: Path) -> int:
    return int(step.name.removeprefix("step-"))


@dataclass(frozen=True)
class Store:
    """The checkpoints of one stage of one experiment on one kind of device, which decides the last bits."""

    place: Path
    device: str

    @property
    def folder(self) -> Path:
        return self.place / re.sub(r"[^\w.-]+", "-", self.device)

    @property
    def unfinished(self) -> Path:
        return self.folder / "unfinished"

    @property
    def trained(self) -> Path:
        return self.folder / "trained"

    def open(self) -> None:
        """Make room for what is to come: clear what an earlier process left unfinished, and what is damaged."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        for kept in [*self.folder.iterdir()]:
            if kept != self.unfinished and not usable(kept):
                self.drop(kept)

    def keep(self, written: Path, name: str, state: dict[str, Any]) -> Path:
        """Give a folder of `unfinished` its name, with `state` in it, once all of it is on the disk."""
        sizes = {str(file.relative_to(written)): file.stat().st_size for file in files(written)}
        text = json.dumps(state | {"files": sizes})
        (written / STATE).write_text(text, encoding="utf-8")
        for path in (*files(written), *(path for path in written.rglob("*") if path.is_dir()), written):
            sync(path)
        kept = self.folder / name
        self.drop(kept)
        written.rename(kept)
        sync(self.folder)
        return kept

    def drop(self, kept: Path) -> None:
        """Remove a folder that has a name: it loses that first, so that half a folder is never found."""
        if kept.exists():
            old = self.unfinished / f"old-{kept.name}"
            shutil.rmtree(old, ignore_errors=True)
            kept.rename(old)
            shutil.rmtree(old)

    def steps(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"), key=number)

    def newest(self) -> Path | None:
        """The last checkpoint, if there is one."""
        return next(reversed(self.steps()), None)

    def limit(self, count: int) -> None:
        """Keep the newest `count` checkpoints."""
        for old in self.steps()[: -count or None]:
            self.drop(old)


def usable(kept: Path) -> bool:
    """Whether a folder is as it was written."""
    if not (kept / STATE).exists():
        return False
    sizes = {str(file.relative_to(kept)): file.stat().st_size for file in files(kept) if file.name != STATE}
    return state(kept)["files"] == sizes


def state(kept: Path) -> dict[str, Any]:
    """What was kept beside a checkpoint or a trained model."""
    return json.loads((kept / STATE).read_text(encoding="utf-8"))


def clean() -> None:
    """Remove what is not needed: what DVC has recorded, and all but the last few abandoned experiments."""
    left = 0
    for place in sorted(all_of_them().glob("*/*/"), key=last_change, reverse=True):
        left += 1
        if left > ABANDONED or is_recorded(place):
            left -= remove(place)


def last_change(folder: Path) -> float:
    """When a name in it, or in a folder of it, came or went; long ago where another process has just removed it."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.glob("*/")))
    except FileNotFoundError:
        return 0.0


def is_recorded(place: Path) -> bool:
    """Whether DVC knows what the stage made and can bring it back, so that it needs no checkpoint any more.

    DVC's run cache is asked, which has a stage just before dvc.lock does: a dvc.lock may go with its temporary checkout
    in the same moment. And DVC's cache, as it records also what it has failed to put there.
    """
    try:
        products = [state(trained)["product"] for trained in place.glob("*/trained")]
    except FileNotFoundError:
        return False
    if not products:
        return False
    from dvc.repo import Repo  # its import costs a quarter of a second, and few stages need it
    from dvc_data.hashfile import check, load
    from dvc_data.hashfile.hash_info import HashInfo

    with Repo(str(place.parents[3])) as repo:
        runs = (path for path in Path(repo.stage_cache.cache_dir).glob("*/*/*") if path.is_file())
        try:
            recorded = b"".join(path.read_bytes() for path in runs)
            made = next((product for product in products if product.encode() in recorded), None)
            if made is None:
                return False
            check(repo.cache.local, load(repo.cache.local, HashInfo("md5", made)), check_hash=False)
        except FileNotFoundError:
            return False
    return True


def remove(place: Path) -> bool:
    """Remove an experiment's checkpoints, unless a process works on them."""
    try:
        with locks.held(locks.of(place), {}):
            if place.exists():  # or another process has removed it meanwhile
                shutil.rmtree(place)
            return True
    except locks.TakenError:
        return False


def clean_when_recorded(place: Path, pid: int) -> None:
    """Start a process that outlives this one: it removes the checkpoints once the DVC process `pid` has recorded the
    stage. Where DVC fails to, they stay.
    """
    command = (sys.executable, "-m", "llmrl.checkpoints", str(place), str(pid))
    subprocess.run(
        ("sh", "-c", '"$@" &', "sh", *command),  # the shell ends at once: this process has no child to wait for
        check=False,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait(place: Path, pid: int) -> None:
    """Remove an experiment's checkpoints once it is recorded; give up when the DVC process has ended."""
    os.chdir(place.parents[3])  # a temporary checkout may be removed first
    removed = False
    while not removed:
        alive = is_alive(pid)  # asked first: what DVC recorded just before it ended is still seen
        removed = is_recorded(place) and remove(place)
        if not alive:
            return
        time.sleep(POLL)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    wait(Path(sys.argv[1]), int(sys.argv[2]))
