r"""Structures: how an answer in plain notation is put together, outside its brackets.

    x = 5    1 < x \le 2    \{1, 2\}    (1, 2)    [0, \infty)    1 and 2    3 \pm \sqrt{2}    \begin{pmatrix} …

What the parts are is not looked at here: who compares two answers hands in how two parts are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from llmrl.answers.notation import GREEK, enclosed, squeezed, ungrouped

MAX_PARTS = 24  # that are compared

SYMBOL = rf"\\(?:{'|'.join([*GREEK.split(), *GREEK.title().split()])}|ell)|[A-Za-z]"
WORDED_NAME = r"[A-Za-z]{3,}(?: [A-Za-z]{3,}){0,3}"
NAME = re.compile(
    rf'(?:\\vec ?\{{?[A-Za-z]\}}?|{SYMBOL}|"[A-Za-z ]+"|{WORDED_NAME}|m?\\angle ?[A-Z]{{0,3}}|\|?[A-Z]{{1,2}}\|?|'
    r"\|[a-z]\||\[[A-Z]+\]|[a-z](?: ?: ?[a-z])+|\\frac\{[a-z]{1,2}\}\{[a-z]{1,2}\}|"
    rf"\((?:(?:{SYMBOL})(?:_\d)?(?:, ?|(?=\)))){{2,}}\))"
    r"(?:_(?:[A-Za-z\d]|\{[^{}]*\}))?(?:'|\^\{-1\})*(?:\(-?[A-Za-z\d]+(?:, ?[A-Za-z\d]+)?\))?"
)
NO_NAME = re.compile(r"\b(?:and|or|not|if|otherwise|maybe)\b")
RELATION = re.compile(r"\\(?:le|ge|ne|approx|equiv|in)(?![A-Za-z])|<=|>=|!=|[<>=]")
ORDER = {"<": "<", ">": ">", "\\le": "<=", "<=": "<=", "\\ge": ">=", ">=": ">="}
WORD = r'(?<![A-Za-z])(?:"(?:{0})"|(?:{0})(?![A-Za-z]))'
CONNECTIVES = {word: re.compile(WORD.format(word), re.IGNORECASE) for word in ("and", "or")}
SEPARATOR = re.compile(f"[,;](?: ?{WORD.format('and|or')})?|{WORD.format('and|or')}", re.IGNORECASE)
UNION = re.compile(r"\\cup(?![A-Za-z])")
MATRIX = re.compile(r"\\begin ?\{([pbBvV]?)matrix\}(.*)\\end ?\{\1matrix\}")
CASES = re.compile(r"\\begin ?\{cases\}(.*)\\end ?\{cases\}")
TURNED = str.maketrans("<>", "><")
BUILT = re.compile(r"\\\{ ?[A-Za-z](?: ?\\in ?\\mathbb\{R\})? ?[|:] ?(.*)\\\}")
ROUND = str.maketrans("[]", "()")


class Relation(NamedTuple):
    """An equation or an inequality, with one side more than signs; without signs its side is the whole text."""

    sides: list[str]
    signs: list[str]


class Group(NamedTuple):
    """Parts, and what holds them: "", "and", "or" of a list, `{}`, `()`, `[)`, …, "cup" of a union, a matrix's size.
    What can only be an interval, `x > 3`, has a dot after its brackets.
    """

    kind: str
    parts: list[str]


def outside(text: str, place: int) -> bool:
    """Whether a place of a text is in no brackets."""
    before = text[:place]
    return sum(map(before.count, "([{")) == sum(map(before.count, ")]}"))


def cut(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The parts of a text, and what is found between them, outside brackets."""
    found = [one for one in pattern.finditer(text) if outside(text, one.start())]
    begins, ends = [0, *(one.end() for one in found)], [*(one.start() for one in found), len(text)]
    return [text[begin:end].strip() for begin, end in zip(begins, ends, strict=True)], [one[0] for one in found]


def parts_of(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators, but for nothing at its ends."""
    parts, _ = cut(text, separator)
    return [part for place, part in enumerate(parts) if part or place not in (0, len(parts) - 1)]


@lru_cache(maxsize=2**12)
def relation(text: str) -> Relation:
    """The sides, and the signs between them."""
    return Relation(*cut(text, RELATION))


def is_name(text: str) -> bool:
    r"""Whether a text may be what a value is called: `x`, `f(x)`, `x_1`, `Total cost`, `m\angle A`, `(x, y)`."""
    axes = [re.findall("[xyz]", one) for one in re.findall(r"\([xyz, ]+\)", text)]  # in their order: no (y, x)
    ordered = all(one == sorted(one) for one in axes)
    return ordered and NAME.fullmatch(text) is not None and not NO_NAME.search(text)


@lru_cache(maxsize=2**12)
def group(text: str) -> Group | None:
    r"""What an answer of several parts holds, an interval its ends: also `\pm 3`, a list, and `x > 3`, an interval."""
    if condition := BUILT.fullmatch(text):  # \{x : x > 3\}
        return group(condition[1])
    if text.startswith("\\{") and text.endswith("\\}"):
        return Group("{}", both_signs(parts_of(text[2:-2], SEPARATOR)))
    if text == "\\emptyset" or text.strip('"').lower() == "empty set":
        return Group("{}", [])
    if text == "\\mathbb{R}":
        return Group("().", ["-\\infty", "\\infty"])
    if found := MATRIX.fullmatch(text):
        rows = [row.split("&") for row in found[2].split("\\\\") if row.strip()]
        size = f"{found[1].strip('pbB')}matrix of {[*map(len, rows)]}"
        return Group(size, [one.strip() for row in rows for one in row])
    if (found := CASES.fullmatch(text)) and "&" not in text:
        return Group("", [row.strip(" ,") for row in found[1].split("\\\\") if row.strip()])
    if len(parts := parts_of(text, UNION)) > 1:
        return Group("cup", parts)
    if len(parts := parts_of(ungrouped(text), SEPARATOR)) > 1:
        said = [word for word, pattern in CONNECTIVES.items() if len(parts_of(text, pattern)) > 1]
        ranges = [one for part in parts if said == ["or"] and (one := interval(part))]
        if len(ranges) == len(parts) and len({name for name, _ in ranges}) == 1:
            return Group("cup", [one for _, one in ranges])
        return Group(said[0] if len(said) == 1 else "", both_signs(parts))
    if enclosed(text.translate(ROUND), "()"):
        return Group(text[0] + text[-1], parts) if len(parts := parts_of(text[1:-1], SEPARATOR)) > 1 else None
    if len(parts := both_signs([text])) > 1:
        return Group("", parts)
    if (inequality := interval(text)) and (ends := group(inequality[1])):
        return Group(f"{ends.kind}.", ends.parts)
    return None


def both_signs(parts: list[str]) -> list[str]:
    r"""The parts, with two for each that has one \pm or \mp."""
    signs = {part: re.findall(r"\\pm|\\mp", part) for part in parts}
    return [
        part.replace(signs[part][0], sign).removeprefix("+").strip() if len(signs[part]) == 1 else part
        for part in parts
        for sign in ("+-" if len(signs[part]) == 1 else "+")
    ]


def interval(text: str) -> tuple[str, str] | None:
    r"""The name in an inequality, and the interval in which it lies.

    >>> interval(r"1 < x \le 2"), interval("3 > x")
    (('x', '(1,2]'), ('x', '(-\\infty,3)'))
    """
    sides, signs = [*relation(text).sides], relation(text).signs
    if any(sign not in ORDER for sign in signs):
        return None
    signs = [ORDER[sign] for sign in signs]
    if len(signs) == 1 and is_name(sides[1]) and not (is_name(sides[0]) and sides[0] < sides[1]):
        sides, signs = sides[::-1], [signs[0].translate(TURNED)]
    if len(signs) == 1:
        sides, signs = [f"{'-' * (signs[0][0] == '<')}\\infty", *sides], [signs[0][0], signs[0]]
    if len(signs) != 2 or not is_name(sides[1]) or signs[0][0] != signs[1][0]:
        return None
    if signs[0][0] == ">":
        sides, signs = sides[::-1], signs[::-1]
    return sides[1], f"{'[' if '=' in signs[0] else '('}{sides[0]},{sides[2]}{']' if '=' in signs[1] else ')'}"


def same_parts(expected: Group, answer: Group | None, same: Callable[[str, str], bool]) -> bool:
    """Whether two groups have the same parts: in any order in a set, a union and a list of values, in theirs in a tuple
    and a list of words. A list without brackets is also the tuple of the same parts in the same order. Whether it says
    `and` or `or` is the same for values alone.
    """
    if answer is None or len(expected.parts) != len(answer.parts) or len(expected.parts) > MAX_PARTS:
        return False
    kinds = {expected.kind, answer.kind}
    if kinds == {"and", "or"} and not all(map(are_values, (expected.parts, answer.parts))):
        return False
    listed = kinds <= {"", "{}", "and", "or"}
    if kinds == {"cup"} or (listed and not (kinds == {""} and are_words(expected.parts))):
        left = list(answer.parts)
        for part in expected.parts:
            if (found := next((one for one in left if same(part, one)), None)) is None:
                return False
            left.remove(found)
        return True
    bare = {kind.removesuffix(".") for kind in kinds}
    if len(bare) > 1 and kinds not in ({"", "()"}, {"", "[]"}, {"and", "()"}):
        return False
    return all(same(one, other) for one, other in zip(expected.parts, answer.parts, strict=True))


def are_values(parts: list[str]) -> bool:
    """Whether the parts are numbers, all of them or none under one name."""
    sides = [relation(part).sides for part in parts]
    names = {squeezed(side[0]) if len(side) > 1 else "" for side in sides}
    return len(names) == 1 and not any(re.search(r"(?<![\\A-Za-z])[A-Za-z]", side[-1]) for side in sides)


def are_words(parts: list[str]) -> bool:
    """Whether the parts are words, or letters of a choice, of which the order may be asked."""
    return all(re.fullmatch(r'"?(?:[A-J]|[A-Za-z]{3}[A-Za-z ]*)"?', part) for part in parts)
