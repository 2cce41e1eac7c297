r"""Structures: how an answer in plain notation is put together, outside its brackets.

x = 5    1 < x \le 2    \{1, 2\}    (1, 2)    [0, \infty)    1 and 2    3 \pm \sqrt{2}    \begin{pmatrix} …
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from llmrl.answers.notation import enclosed, squeezed

MOST = 32  # parts that are compared

NAME = re.compile(
    r'(?:\\vec ?\{?[A-Za-z]\}?|"[^"]*"|\\[A-Za-z]+|[A-Za-z]|[A-Za-z]{3,}(?: [A-Za-z]{3,}){0,3}|m?\\angle ?[A-Z]{1,3}|'
    r"\|?[A-Z]{2}\|?|\([A-Za-z](?:, ?[A-Za-z])+\))"
    r"(?:_(?:[A-Za-z\d]|\{[^{}]*\}))?'*(?:\([A-Za-z\d](?:, ?[A-Za-z\d])?\))?"
)
RELATION = re.compile(r"\\(?:le|ge|ne|approx|in)(?![A-Za-z])|<=|>=|!=|[<>=]")
ORDER = {"<": "<", ">": ">", "\\le": "<=", "<=": "<=", "\\ge": ">=", ">=": ">="}
WORD = r'(?<![A-Za-z])(?:"(?:{0})"|(?:{0})(?![A-Za-z]))'
CONNECTIVES = {word: re.compile(WORD.format(word), re.IGNORECASE) for word in ("and", "or")}
SEPARATOR = re.compile(f"[,;](?: ?{WORD.format('and|or')})?|{WORD.format('and|or')}", re.IGNORECASE)
UNION = re.compile(r"\\cup(?![A-Za-z])")
GROUPED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])", re.ASCII)
MATRIX = re.compile(r"\\begin ?\{([pbBvV]?)matrix\}(.*)\\end ?\{\1matrix\}")
TURNED = str.maketrans("<>", "><")
ROUND = str.maketrans("[]", "()")


class Relation(NamedTuple):
    """An equation or an inequality, with one side more than signs; without signs its side is the whole text."""

    sides: list[str]
    signs: list[str]


class Group(NamedTuple):
    """Parts, and what holds them: "", "and", "or" of a list, `{}`, `()`, `[)`, …, "cup" of a union, a matrix's size."""

    kind: str
    parts: list[str]


def outside(text: str, place: int) -> bool:
    """Whether a place of a text is in no brackets."""
    before = text[:place]
    return sum(map(before.count, "([{")) == sum(map(before.count, ")]}"))


def parts_of(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between the separators that are in no brackets."""
    places = [found for found in separator.finditer(text) if outside(text, found.start())]
    begins, ends = [0, *(one.end() for one in places)], [*(one.start() for one in places), len(text)]
    parts = [text[begin:end].strip() for begin, end in zip(begins, ends, strict=True)]
    return [part for place, part in enumerate(parts) if part or place not in (0, len(parts) - 1)]


def relation(text: str) -> Relation:
    """The sides, and the signs between them that are in no brackets."""
    places = [found for found in RELATION.finditer(text) if outside(text, found.start())]
    begins, ends = [0, *(one.end() for one in places)], [*(one.start() for one in places), len(text)]
    return Relation(
        [text[begin:end].strip() for begin, end in zip(begins, ends, strict=True)], [found[0] for found in places]
    )


def is_name(text: str) -> bool:
    r"""Whether a text may be what a value is called: `x`, `f(x)`, `x_1`, `Total cost`, `m\angle A`, `(x, y)`."""
    return NAME.fullmatch(text) is not None


def items(text: str) -> list[str]:
    """The parts of a list without brackets: of one answer itself."""
    return parts_of(GROUPED.sub(lambda found: found[0].replace(",", ""), text), SEPARATOR)


def group(text: str) -> Group | None:
    r"""What an answer of several parts holds, an interval its ends: also `\pm 3`, a list, and `x > 3`, an interval."""
    if text.startswith("\\{") and text.endswith("\\}"):
        return Group("{}", parts_of(text[2:-2], SEPARATOR))
    if text == "\\emptyset":
        return Group("{}", [])
    if found := MATRIX.fullmatch(text):
        rows = [row.split("&") for row in found[2].split("\\\\") if row.strip()]
        return Group(
            f"{found[1].strip('pbB')}matrix of {[*map(len, rows)]}", [one.strip() for row in rows for one in row]
        )
    if len(parts := parts_of(text, UNION)) > 1:
        return Group("cup", parts)
    if len(parts := items(text)) > 1:
        said = [word for word, pattern in CONNECTIVES.items() if len(parts_of(text, pattern)) > 1]
        ranges = [one for part in parts if said == ["or"] and (one := interval(part))]
        return Group("cup", ranges) if len(ranges) == len(parts) else Group(said[0] if len(said) == 1 else "", parts)
    if enclosed(text.translate(ROUND), "()"):
        return Group(text[0] + text[-1], parts) if len(parts := parts_of(text[1:-1], SEPARATOR)) > 1 else None
    if text.count("\\pm") == 1:
        return Group("", [text.replace("\\pm", sign).removeprefix("+").strip() for sign in "+-"])
    return group(one) if (one := interval(text)) else None


def interval(text: str) -> str | None:
    r"""An inequality of one name as the interval in which it lies.

    >>> interval(r"1 < x \le 2"), interval("3 > x")
    ('(1,2]', '(-\\infty,3)')
    """
    sides, signs = relation(text)
    if any(sign not in ORDER for sign in signs):
        return None
    signs = [ORDER[sign] for sign in signs]
    if len(signs) == 1 and not is_name(sides[0]):
        sides, signs = sides[::-1], [signs[0].translate(TURNED)]
    if len(signs) == 1:
        sides, signs = [f"{'-' * (signs[0][0] == '<')}\\infty", *sides], [signs[0][0], signs[0]]
    if len(signs) != 2 or not is_name(sides[1]) or signs[0][0] != signs[1][0]:
        return None
    if signs[0][0] == ">":
        sides, signs = sides[::-1], signs[::-1]
    return f"{'[' if '=' in signs[0] else '('}{sides[0]},{sides[2]}{']' if '=' in signs[1] else ')'}"


def same_parts(expected: Group, answer: Group | None, same: Callable[[str, str], bool]) -> bool:
    """Whether two groups have the same parts: in any order in a set, a union and a list, in theirs in a tuple. A list
    without brackets is also the tuple of the same parts in the same order. Whether it says `and` or `or` is the same
    for values alone.
    """
    if answer is None or len(expected.parts) != len(answer.parts) or len(expected.parts) > MOST:
        return False
    kinds = {expected.kind, answer.kind}
    if kinds == {"and", "or"} and not all(map(are_values, (expected.parts, answer.parts))):
        return False
    if kinds <= {"", "{}", "and", "or"} or kinds == {"cup"}:
        left = list(answer.parts)
        for part in expected.parts:
            if (found := next((one for one in left if same(part, one)), None)) is None:
                return False
            left.remove(found)
        return True
    if len(kinds) > 1 and kinds not in ({"", "()"}, {"", "[]"}, {"and", "()"}):
        return False
    return all(same(one, other) for one, other in zip(expected.parts, answer.parts, strict=True))


def are_values(parts: list[str]) -> bool:
    """Whether the parts are numbers, all of them or none under one name."""
    sides = [relation(part).sides for part in parts]
    names = {squeezed(side[0]) if len(side) > 1 else "" for side in sides}
    return len(names) == 1 and not any(re.search(r"(?<![\\A-Za-z])[A-Za-z]", side[-1]) for side in sides)
