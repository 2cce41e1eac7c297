"""The commit a run starts from: which it is, what differs from it, whether its models are here to go back to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from llmrl import repository

# What DVC itself writes where a stage runs: it removes a stage's figures before it starts the stage.
WRITTEN = ("metrics", *map(str, repository.LOCKS))


def git(*arguments: str) -> str | None:
    """What git says, or None where there is no repository, no such thing in it, or no git."""
    if not shutil.which("git"):
        return None
    done = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False)
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def head() -> str | None:
    return git("rev-parse", "--verify", "-q", "HEAD")


def uncommitted() -> list[str] | None:
    """The files that are not as they were committed, new ones among them, but for those that DVC writes itself. None
    where git does not tell.
    """
    listed = git(
        "status",
        "--porcelain",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--",
        ".",
        *(f":!{path}" for path in WRITTEN),
    )
    return None if listed is None else sorted(entry[3:] for entry in listed.split("\0") if entry)


def warning(stage: str, made: str) -> str | None:
    """What to do, where the model that a stage made is not the committed one, and that one is not here to go back to:
    another machine has made it, which gives other last bits. None where all is well.
    """
    text = git("show", "HEAD:./dvc.lock")
    outs = (yaml.safe_load(text) or {}).get("stages", {}).get(stage, {}).get("outs", []) if text else []
    committed = next((out["md5"] for out in outs if out["path"] == f"models/{stage}"), made)
    if committed == made:
        return None
    with repository.caches() as repo:
        if Path(repo.cache.local.oid_to_path(committed)).exists():
            return None
        pull = " until `dvc pull` brings it" if repo.config["core"].get("remote") else ""
    said = (
        f"models/{stage} differs from the commit's, which is not in this clone's cache (another machine made it, or "
        f"`dvc gc` dropped it): `dvc metrics diff` compares with it, and `dvc checkout` lacks it{pull}. "
    )
    if uncommitted() != []:  # a commit now would be of another experiment, as far as is known
        return said + "docs/experiments.md, On a new machine, has how to get this machine's."
    return said + 'First `git commit -am "Figures of this machine"`, then try things.'
