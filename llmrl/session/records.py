"""The records that runs have left, read: this needs neither torch nor TRL, as writing one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrl import repository

Record = dict[str, Any]  # as run.json has it


def records() -> dict[Path, Record | None]:
    """run.json of each run of this clone by the run's folder, oldest first; None where it was cut short, by a machine
    that went down say.
    """
    found: dict[Path, Record | None] = {}
    for file in sorted((repository.root() / "runs").glob("*/run.json")):  # their names begin with the time
        try:
            found[file.parent] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found[file.parent] = None
    return found
