"""The tables of a page of docs/ that measurements fill, in their places."""

from __future__ import annotations


def with_rows(section: str, rows: list[list[str]]) -> str:
    """A section of a page, its first table made anew of these rows, under the head that it has."""
    lines = section.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(("|---", "| ---")))
    end = next(number for number, line in enumerate(lines[start:], start) if not line.startswith("|"))
    lines[start + 1 : end] = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines)
