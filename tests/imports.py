"""Which modules a process has imported: what costs seconds is told by that, on a machine of whatever speed."""

from __future__ import annotations

TOLD = "import time:"
LISTED = ("-X", "importtime")  # what `python` is to be started with


def told(said: str) -> tuple[set[str], str]:
    """The modules that a process lists that was started so, and what else it said."""
    lines = said.splitlines(keepends=True)
    names = {line.rpartition("|")[2].strip() for line in lines if line.startswith(TOLD)}
    assert "site" in names, said
    return names, "".join(line for line in lines if not line.startswith(TOLD))
