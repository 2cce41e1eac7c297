"""Writes the commits of the Hub's repositories into params.yaml: `make pin`.

A source without a `revision` gets the newest commit, one with a branch or a tag the commit that it stands at; one that
has a commit keeps it. Only these lines change: a YAML library would write all of them in its own way. Nothing is
written unless all commits were found.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from llmrl.data.settings import DATA_SETS
from llmrl.errors import InputError, reported
from llmrl.fields import Keys
from llmrl.params import PATH
from llmrl.params.checks import check, dotted
from llmrl.sources import COMMIT, of_hub


def places(tree: dict[str, Any]) -> dict[Keys, dict[str, Any]]:
    """The sections of a checked params.yaml that name a repository of the Hub."""
    found: dict[Keys, dict[str, Any]] = {("model",): tree["model"]}
    for name in DATA_SETS:
        section = tree["data"][name]
        if isinstance(section["source"], list):
            found |= {("data", name, "source", place): part for place, part in enumerate(section["source"])}
        else:
            found["data", name] = section
    return {keys: section for keys, section in found.items() if of_hub(section["source"])}


def with_revision(text: str, keys: Keys, commit: str) -> str:
    """A params.yaml with a commit as the revision of one of its sections."""
    section = YAML(typ="rt").compose(text)  # where everything stands
    for key in keys:
        section = section.value[key] if isinstance(key, int) else {k.value: v for k, v in section.value}[key]
    own = {name.value: (name, value) for name, value in section.value}
    if not own.keys() & {"source", "revision"}:
        return text  # merged from another section, which has them
    name, value = own.get("revision") or own["source"]
    start, end = value.start_mark.index, value.end_mark.index
    new = commit if re.search("[a-df]", commit) else f'"{commit}"'  # all digits would be a number
    if "revision" in own and start == end:  # no value
        start = end = text.index(":", name.end_mark.index) + 1
        new = f" {new}"
    elif "revision" not in own and section.flow_style:
        start, new = end, f", revision: {new}"
    elif "revision" not in own:
        newline = "\r\n" if "\r\n" in text else "\n"
        start = end = end + len(re.split(r"\r?\n", text[end:], maxsplit=1)[0])  # behind a comment
        new = f"{newline}{' ' * name.start_mark.column}revision: {new}"
        if start == len(text):
            new += newline  # which the file's last line may lack
    return text[:start] + new + text[end:]


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


def pin(path: Path = PATH) -> list[str]:
    """Write what is missing, and say it. Raises InputError like `check`, or where the Hub does not answer."""
    found = places(check(path))
    loose = {keys: one for keys, one in found.items() if not COMMIT.fullmatch(one.get("revision") or "")}
    if not loose:
        return [f"{path}: {'every source of the Hub has its commit' if found else 'no source is of the Hub'}."]
    from llmrl import hub

    text, said = path.read_bytes().decode("utf-8"), []
    for keys, one in loose.items():
        commit = hub.newest("model" if keys == ("model",) else "dataset", one["source"], one.get("revision") or None)
        text = with_revision(text, keys, commit)
        said.append(f"{dotted(keys)}: {one['source']} at {commit}")
    again = places(YAML(typ="rt").load(text))
    if not all(COMMIT.fullmatch(again[keys].get("revision") or "") for keys in loose):
        raise InputError(f"{path}: there is no place to write to; write these as `revision`:\n" + "\n".join(said))
    replace(path, text.encode("utf-8"))
    return said


if __name__ == "__main__":
    with reported():
        print("\n".join(pin()))
