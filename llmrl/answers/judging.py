r"""Telling whether an answer is right: for every text, in bounded work, and the same on any machine.

The parts, for a reward of one's own: `final` and `gold` find an answer in a text and in a solution, `right` compares
them. docs/answers.md is the protocol in one page. It asks what graders of short answers ask, such as Minerva's
(https://arxiv.org/abs/2206.14858, appendix D) and math-verify (https://github.com/huggingface/Math-Verify), but cannot
be fooled where these can: numbers are exact, and where one number is asked one number is wanted.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from llmrl.answers import quantities
from llmrl.answers.expressions import expression
from llmrl.answers.final import KINDS, LONGEST, ends_marked, final, finals, gold
from llmrl.answers.notation import normalized, squeezed
from llmrl.answers.quantities import Quantity, quantity
from llmrl.answers.structures import Group, group, is_name, relation, same_parts
from llmrl.answers.values import bounded, equal, leaves_more, proportional

__all__ = ["KINDS", "ends_marked", "final", "gold", "right", "share"]

MOST = 3  # different final answers that are looked at: more are no one's
DEEPEST = 4  # lists in lists

CHOICE = re.compile(  # Option "(A)": 12 apples
    r"""(?:"?(?:option|choice|answer):? )?"? ?(?:\( ?"?([A-J])"? ?\)|([A-J])(?=[.:)" ]|$))([.:)"]*)(.*)""",
    re.IGNORECASE,
)
OTHER_CHOICE = re.compile(r"(?<![A-Za-z\\])(?:[B-J](?![A-Za-z])|A[.:)])|\([A-J]\)")
WITH_UNIT = re.compile(r'(.*?) ?((?:"[^"]*"|\^\\circ)[^"\\]*)')
TRIGONOMETRIC = re.compile("sin|cos|tan|cot|sec|csc")  # of degrees, which are no unit there
TIME = re.compile(r'(\d{1,2})(?::([0-5]\d)(?::([0-5]\d))?)? ?"?(?:([ap])\.?m\.?)?"?', re.IGNORECASE | re.ASCII)
RATIO = re.compile(r'(\d+(?:\.\d+)?)(?: ?: ?| "?to"? )(\d+(?:\.\d+)?)(?: ?: ?(\d+(?:\.\d+)?))?', re.ASCII)
WORD = re.compile(r"(?:.*[^\W\d_]{4}.*|[^\W\d]{2}[^\d]*)")


def right(text: str, solution: str, marks: Sequence[str] = KINDS) -> bool:
    r"""Whether the final answer of a text, marked in one of the ways of `marks`, is that of a solution.

    A text with two different final answers is wrong, and so is any where there is nothing to compare with.

    >>> right(r"so \boxed{0.5}", r"$\frac{1}{2}$"), right("#### 72", "so she has 72.\n#### 72"), right("72", "72")
    (True, True, False)
    """
    expected, given = gold(solution), finals(text, marks)
    if expected is None or not 0 < len(given) <= MOST:
        return False
    return all(one == expected or same_answer(expected, one) for one in given)


def share(texts: Sequence[str], solution: str | None, marks: Sequence[str] = KINDS) -> float | None:
    """The share of the answers that are right; None where there is no solution to compare with."""
    return None if solution is None else statistics.mean(right(text, solution, marks) for text in texts)


@lru_cache(maxsize=2**14)
def same_answer(expected: str, answer: str) -> bool:
    """Whether a short answer is the one that is expected: the same number, words or mathematics."""
    if len(answer) > LONGEST:
        return False
    if answer.isascii() and answer.isdecimal() and expected.isascii() and expected.isdecimal():
        return int(answer) == int(expected)
    expected, answer = normalized(expected), normalized(answer)
    if not (bounded(expected) and bounded(answer)):
        return squeezed(expected) == squeezed(answer)
    return same(expected, answer)


def same(expected: str, answer: str, depth: int = 0) -> bool:
    """The same of answers in plain notation. What a gold answer is decides what is asked of the other."""
    if not expected or not answer or depth > DEEPEST:
        return False
    if squeezed(expected) == squeezed(answer):
        return True
    if letter := chosen(expected):
        return letter == chosen(answer)
    if number := quantity(expected):
        return same_number(number, unnamed(answer))
    for compared in (same_time(expected, answer), same_ratio(expected, unnamed(answer))):
        if compared is not None:
            return compared
    if "=" in expected:
        return same_equation(expected, answer, depth + 1)
    if parts := group(expected):
        return same_parts(parts, group(unnamed(answer)), lambda one, other: same(one, other, depth + 1))
    return same_expression(expected, unnamed(answer)) or same_words(expected, answer)


def chosen(text: str) -> str | None:
    """The letter of a multiple choice, alone or with its text, if there is but one."""
    found = CHOICE.fullmatch(text)
    if found is None:
        return None
    if rest := found[4].strip(' "'):
        parted = found[1] or found[3].strip('"')
        return None if not parted or OTHER_CHOICE.search(rest) else str(found[1] or found[2]).upper()
    return str(found[1] or found[2]).upper()


def unnamed(text: str) -> str:
    r"""What a text says that a name is: of `x = 5`, `x \in \{5\}` and `f(x) = 2 + 3 = 5` what stands last, if all that
    is said to be equal is.
    """
    (name, *sides), signs = relation(text)
    if not sides or {*signs} - {"=", "\\in", "\\approx"} or not is_name(name):
        return text
    if len(sides) > 1:
        first, *others = [expression(side) for side in sides]
        if not first or not all(other and equal(first, other) for other in others):
            return text
    return sides[-1]


def same_number(expected: Quantity, answer: str) -> bool:
    """Of a number only a number is the same, or of a fraction a ratio."""
    ratio = RATIO.fullmatch(answer)
    if ratio and not ratio[3] and expected.value.denominator > 1:
        answer = f"{ratio[1]}/{ratio[2]}"
    other = quantity(answer)
    return other is not None and quantities.equal(expected, other)


def same_time(expected: str, answer: str) -> bool | None:
    """Whether two times of the day agree; None where the gold answer is none."""
    one, other = (TIME.fullmatch(text) for text in (expected, answer))
    if not one or not (one[2] or one[4]):
        return None
    if not other or not (other[2] or other[4]) or (other[4] and int(other[1]) > 12):
        return False
    return since_midnight(one, one[4] or other[4]) == since_midnight(other, other[4] or one[4])


def since_midnight(time: re.Match[str], half: str | None) -> tuple[int, int, int]:
    """Hours, minutes and seconds; of up to twelve hours in the half of the day that is named, `a` or `p`."""
    hours, minutes, seconds = (int(part or 0) for part in time.group(1, 2, 3))
    if half and hours <= 12:
        hours = hours % 12 + 12 * (half.lower() == "p")
    return hours, minutes, seconds


def same_ratio(expected: str, answer: str) -> bool | None:
    """Whether an answer is a ratio in lowest terms, or its fraction; None where the gold answer is no ratio."""
    if (wanted := RATIO.fullmatch(expected)) is None:
        return None
    one = [Fraction(part) for part in wanted.groups() if part]
    if given := RATIO.fullmatch(answer):
        other = [Fraction(part) for part in given.groups() if part]
        lowest = math.gcd(*(part.numerator for part in other)) == 1 and all(part.denominator == 1 for part in other)
        crossed = all(a * other[0] == b * one[0] for a, b in zip(one, other, strict=False))
        return len(one) == len(other) and lowest and crossed
    number = quantity(answer)
    return bool(number and number.lowest and len(one) == 2 and one[0] == number.value * one[1])


def same_equation(expected: str, answer: str, depth: int) -> bool:
    """Of `x = 5` and `y = 2x + 1` also what stands at the right, alone or under the same name; of an equation with a
    formula another that has the same solutions, too; several in any order.
    """
    if (several := group(expected)) and "=" not in several.kind:
        given = group(answer)
        if "=" not in answer and given and len({relation(part).sides[0] for part in several.parts}) > 1:
            several = Group("()", several.parts)  # x = 1, y = 2 as (1, 2)
        return same_parts(several, given, lambda one, other: same(one, other, depth))
    sides, signs = relation(expected)
    answer_sides, answer_signs = relation(answer)
    if signs != ["="] or {*answer_signs} - {"=", "\\approx"}:
        return False
    named = is_name(sides[0])
    if not answer_signs or (named and squeezed(answer_sides[0]) == squeezed(sides[0])):
        return named and same(sides[1], unnamed(answer), depth)
    if named and quantity(sides[1]):
        return False
    read = [one for side in (*sides, *answer_sides) if (one := expression(side))]
    return len(read) == len(sides) + len(answer_sides) == 4 and proportional(*read)


def same_expression(expected: str, answer: str) -> bool:
    """Whether two expressions are equal, their units agree where both name one, and the answer is worked out."""
    parted = [
        found.group(1, 2) if (found := WITH_UNIT.fullmatch(text)) and not TRIGONOMETRIC.search(found[1]) else (text, "")
        for text in (expected, answer)
    ]
    one, other = (expression(text) for text, _ in parted)
    units = [quantities.unit(f" {unit}") for _, unit in parted]
    if one is None or other is None or None in units or not quantities.same_unit(*map(str, units)):
        return False
    return equal(one, other) and not leaves_more(other, one)


def same_words(expected: str, answer: str) -> bool:
    """Whether two texts are the same words: how they are set, and in which case, matters in mathematics alone."""
    one, other = squeezed(expected), squeezed(answer)
    return bool(WORD.fullmatch(one)) and "\\" not in one and one.casefold() == other.casefold()
