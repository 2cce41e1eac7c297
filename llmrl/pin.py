"""Writes the commits of the Hub's repositories into params.yaml: `make pin`.

A source without a `revision` gets the newest commit, one with a branch or a tag the commit that it stands at; one that
has a commit keeps it. Only these lines change. Nothing is written unless all of them were found.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from llmrl import checks, sections
from llmrl.errors import InputError, reported

VALUE = re.compile(r"""(?P<name>["']?\w+["']?:)(?P<space>[ ]*)(?P<value>"[^"]*"|'[^']*'|[^\s,}#]*)""")


@dataclass(frozen=True)
class Place:
    """Where params.yaml names a repository of the Hub."""

    keys: str
    kind: str
    section: CommentedMap

    @property
    def name(self) -> str:
        return str(self.section["source"])

    @property
    def revision(self) -> str | None:
        return str(self.section["revision"]) if self.section.get("revision") else None


def places(tree: CommentedMap) -> list[Place]:
    """All repositories of the Hub that a checked params.yaml names."""
    found = [Place("model", "model", tree["model"])]
    for name in sections.DATA_SETS:
        section = tree["data"][name]
        parts = section["source"] if isinstance(section["source"], list) else None
        for place, part in enumerate(parts or [section]):
            found.append(Place(f"data.{name}" + (f".source[{place}]" if parts else ""), "dataset", part))
    return [place for place in found if sections.of_hub(place.name)]


def written(lines: list[str], section: CommentedMap, commit: str) -> None:
    """Write a commit into the lines, as the revision of a section."""
    commit = commit if re.search("[a-df]", commit) else f'"{commit}"'  # all digits would be a number
    name = "revision" if "revision" in section else "source"
    row, column = section.lc.key(name)
    line = lines[row]
    match = VALUE.match(line, column)
    if match is None:
        return  # noticed when the result is read
    if name == "revision":
        lines[row] = f"{line[:column]}{match['name']}{match['space'] or ' '}{commit}{line[match.end() :]}"
    elif section.fa.flow_style():
        lines[row] = f"{line[: match.end()]}, revision: {commit}{line[match.end() :]}"
    else:
        text = line.rstrip("\r\n")
        end = line[len(text) :] or "\n"  # the file's last line may have none
        lines[row] = f"{text}{end}{' ' * column}revision: {commit}{end}"


def replace(path: Path, content: bytes) -> None:
    """Write a file anew; it stays as it was where the disk refuses."""
    path = path.resolve()  # what a link leads to
    beside = path.with_name(f".{path.name}")
    try:
        beside.write_bytes(content)
        shutil.copymode(path, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def pin(path: Path = checks.PATH) -> list[str]:
    """Write what is missing, and say it. Raises InputError like `check`, or where the Hub does not answer."""
    checks.check(path)
    tree = checks.read(path)
    found = places(tree)
    loose = [place for place in found if not sections.COMMIT.fullmatch(place.revision or "")]
    if not loose:
        return [f"{path}: {'every source of the Hub has its commit' if found else 'no source is of the Hub'}."]
    from llmrl import hub

    commits = [hub.newest(place.kind, place.name, place.revision) for place in loose]
    lines = path.read_bytes().decode("utf-8").splitlines(keepends=True)
    # From the last line to the first, as a line that is added moves those below it.
    for place, commit in sorted(zip(loose, commits, strict=True), key=lambda one: -one[0].section.lc.key("source")[0]):
        written(lines, place.section, commit)
    said = [f"{place.keys}: {place.name} at {commit}" for place, commit in zip(loose, commits, strict=True)]
    text = "".join(lines)
    again = {place.keys: place.revision for place in places(YAML(typ="rt").load(text))}
    if [again[place.keys] for place in loose] != commits:
        raise InputError(f"{path}: there is no place to write to; write these as `revision`:\n" + "\n".join(said))
    replace(path, text.encode("utf-8"))
    return said


if __name__ == "__main__":
    with reported():
        print("\n".join(pin()))
