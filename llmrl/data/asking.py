"""How a model is asked: the system text and the template of params.yaml around a row's question.

They are put around what is trained on and what is practised on and measured by alike; which side of the split a row
falls on is decided by the question as the data has it, so that another template moves none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from json.encoder import encode_basestring as quoted
from string import Formatter
from typing import Any, NamedTuple

from llmrl.data.rows import Row
from llmrl.data.shaper import Columns
from llmrl.data.turns import Turn, as_json, encodable, has_value
from llmrl.errors import DefectiveError

QUESTION = ("question", "prompt")  # by which a template names what is asked, where no column of text has the name


class Opening(NamedTuple):
    """What identifies a row's prompt in all three sets: the first user turn, and what stands before it."""

    before: str
    question: str


class Asking:
    """Puts a system text and a template around the questions of one source."""

    def __init__(self, system: str | None, template: str | None) -> None:
        self.system = system
        self.template = None if template is None else [*Formatter().parse(template)]
        self.changes = system is not None or template is not None
        self.own_system = 0  # rows that keep a system text of their own

    def ask(self, row: Row, source: Columns) -> None:
        """Put them around a row's last question. Raises DefectiveError where the template names what it lacks."""
        name = "messages" if "messages" in row else "prompt"
        turns: list[Turn] = row[name]
        if self.template is not None:
            places = [place for place, turn in enumerate(turns) if turn["role"] == "user"]
            if not places:
                raise DefectiveError("nothing is asked that a template could stand around")
            place = places[-1]
            asked = "".join(self.filled(turns[place]["content"], source))
            turns = [*turns[:place], turns[place] | {"content": asked}, *turns[place + 1 :]]
        if self.system is not None:
            if turns[0]["role"] == "system":
                self.own_system += turns[0]["content"] != self.system
            else:
                turns = [{"role": "system", "content": self.system}, *turns]
        row[name] = turns

    def filled(self, question: str, source: Columns) -> Iterator[str]:
        """The pieces of the template, with what it names."""
        for text, field, _, _ in self.template or ():
            yield text
            if field is not None:
                yield self.value(field, question, source)

    def value(self, field: str, question: str, source: Columns) -> str:
        value = source.peek(field)
        if field in QUESTION and (not isinstance(value, str) or source.names.get("prompt", "prompt") == field):
            return question
        if field == source.names.get("prompt"):
            return question  # as its format has it
        if field in QUESTION and " ".join(value.split()) not in " ".join(question.split()):
            raise DefectiveError(f"a column {field} that is not what is asked, where the template names it")
        if not has_value(value):
            raise DefectiveError(f"no {field}, which the template names")
        return encodable(value if isinstance(value, str) else as_json(value))


def opening(row: Row) -> Opening:
    """What identifies a row's prompt, however it is spaced; each turn before it is two lines, its role and its text."""
    before: list[str] = []
    for turn in row.get("prompt") or row["messages"]:
        text = " ".join(turn["content"].split())
        if turn["role"] == "user":
            return Opening("\n".join(before), text)
        before += [turn["role"], text]
    return Opening("\n".join(before), "")


def held_out(one: Opening, salt: str, share: float) -> bool:
    """Whether a prompt is held out: by one salted hash, the same in all three sets and for any number of rows."""
    asked = f'["user", {quoted(one.question)}]'
    if one.before:
        said = one.before.split("\n")
        pairs = (f"[{quoted(role)}, {quoted(text)}]" for role, text in zip(said[::2], said[1::2], strict=True))
        asked = ", ".join((*pairs, asked))
    digest = hashlib.sha256(f"{salt}\n[{asked}]".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def order_hash(row: Row, salt: str) -> int:
    """A row's place in a sample, by all that it says: 8 bytes, as a signed integer."""
    said: list[Any] = []
    for value in row.values():
        said.append(None)  # where one ends
        if isinstance(value, list):
            for turn in value:
                said += turn.values()
        else:
            said.append(value)
    digest = keyed(salt).copy()
    digest.update(repr(said).encode())
    return int.from_bytes(digest.digest(), signed=True)


@cache
def keyed(salt: str) -> hashlib.blake2b:
    """A hash with a key, to be copied: to begin with the key takes half as long as a row."""
    return hashlib.blake2b(digest_size=8, key=salt.encode()[:64])
