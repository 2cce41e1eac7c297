"""Where a run resumes from: .llmrl/checkpoints/<stage>/<key>/<device>/ of the main repository.

    step-40/     a checkpoint of TRL's trainer, and what it leaves out (resume.json)
    judged/      grpo: how well the policy it starts from answers each prompt (difficulty.py)
    answers-…/   pairs: a policy's answers to some of the prompts, judged
    answered/    pairs: that there are all of them, and what made them, until DVC has recorded the stage
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
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmrl import repository
from llmrl.folders import PROVENANCE
from llmrl.session import locks, provenance

STATE = "resume.json"
ANSWERED, ANSWERS = "answered", "answers-"  # of pairs
ABANDONED = 3  # experiments that were never finished and keep their checkpoints, the last ones worked at


def all_of_them() -> Path:
    return repository.root() / ".llmrl" / "checkpoints"


def place(stage: str, made_by: dict[str, Any]) -> Path:
    """The folder of a stage of an experiment, named by a digest of all that decides its bytes."""
    key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    return all_of_them() / stage / key[:16]


def progress(place: Path) -> str:
    """How the next run will go on from what the last one left, in words."""
    for folder in sorted(place.glob("*/"), key=last_change)[-1:]:
        store = Store(place, folder.name)
        if store.trained.exists():
            return "goes on with the trained model"
        if newest := store.newest():
            return f"goes on from {newest.name.replace('-', ' ')}"
        if answers := store.answers():
            return f"goes on after {len(answers)} {'batches' if len(answers) > 1 else 'batch'} of answers"
    return "begins this stage anew"


class Store:
    """The checkpoints of one stage of one experiment on one kind of device, which decides the last bits."""

    def __init__(self, place: Path, device: str) -> None:
        self.place = place
        self.folder = place / re.sub(r"[^\w.-]+", "-", device)
        self.unfinished = self.folder / "unfinished"
        self.trained = self.folder / "trained"

    def open(self) -> None:
        """Make room for what is to come: clear what an earlier process left unfinished, and what is damaged."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        for kept in [*self.folder.iterdir()]:
            if kept != self.unfinished and not usable(kept):
                self.drop(kept)

    def keep(self, written: Path, name: str, state: dict[str, Any]) -> Path:
        """Give a folder of `unfinished` its name, with `state` in it, once all of it is on the disk."""
        (written / STATE).write_text(json.dumps(state | {"files": sizes(written)}), encoding="utf-8")
        for path in (*written.rglob("*"), written):
            sync(path)
        kept = self.folder / name
        self.drop(kept)
        written.rename(kept)
        sync(self.folder)
        return kept

    def drop(self, kept: Path) -> None:
        """Remove a folder that has a name: it loses that first, so that half a folder is never found."""
        if kept.exists():
            shutil.rmtree(kept.rename(self.unfinished / f"old-{kept.name}"))

    def steps(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"), key=lambda step: int(step.name.removeprefix("step-")))

    def answers(self) -> list[Path]:
        """What a policy has answered so far, of which pairs are made."""
        return [*self.folder.glob(f"{ANSWERS}*")]

    def newest(self) -> Path | None:
        return next(reversed(self.steps()), None)

    def limit(self, count: int) -> None:
        """Keep the newest `count` checkpoints."""
        for old in self.steps()[: -count or None]:
            self.drop(old)


def usable(kept: Path) -> bool:
    """Whether a folder is as it was written."""
    return (kept / STATE).exists() and state(kept)["files"] == sizes(kept)


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file that was written, by its name in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != STATE)
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def state(kept: Path) -> dict[str, Any]:
    """What was kept beside a checkpoint or a trained model."""
    return json.loads((kept / STATE).read_text(encoding="utf-8"))


def clean() -> None:
    """Remove what is not needed: what DVC has recorded, and all but the last few abandoned experiments."""
    left = 0
    for place in sorted(all_of_them().glob("*/*/"), key=last_change, reverse=True):
        left += 1
        if left > ABANDONED or is_recorded(place):
            with suppress(locks.TakenError), locks.held(locks.of(place), stage=None):  # unless a process works on them
                if place.exists():  # or another process has removed it meanwhile
                    shutil.rmtree(place)
                left -= 1


def last_change(folder: Path) -> float:
    """When a name in it, or in a folder of it, came or went; long ago where another process has just removed it."""
    with suppress(FileNotFoundError):
        return max(path.stat().st_mtime for path in (folder, *folder.glob("*/")))
    return 0.0


def is_recorded(place: Path) -> bool:
    """Whether DVC has what the stage made, and can bring it back, so that it needs no checkpoint any more."""
    made = "data/pairs" if place.parent.name == "pairs" else f"models/{place.parent.name}"
    for record in (*place.glob(f"*/trained/model/{PROVENANCE}"), *place.glob(f"*/{ANSWERED}/{PROVENANCE}")):
        try:
            made_by = json.loads(record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            continue
        if provenance.cached(made, made_by):
            return True
    return False


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    clean()
