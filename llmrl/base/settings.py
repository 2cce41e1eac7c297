"""The `model` section of params.yaml: where the base model comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

FOLDERS = {"builtin:tiny": "models/tiny", "raw": "models/raw"}  # of the sources that are no repository


@dataclass(frozen=True)
class Model:
    """Where the base model comes from."""

    source: Annotated[str, "builtin:tiny, raw for your own in models/raw/, or a repository of the Hub as owner/name"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
