"""A copy of this repository to measure in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def cloned(folder: Path, products: bool) -> Path:
    """Copy the project's files as they stand, and with `products` also its data sets and models, into a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    if products:
        for name in (
            "data/sft",
            "data/preference",
            "data/pairs",
            "data/prompts",
            *map("models/{}".format, ("base", "sft", "reward", "dpo", "grpo")),
        ):
            shutil.copytree(name, folder / name)
    return folder
