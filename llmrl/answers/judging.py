r"""Telling whether an answer is right: for every text, in bounded work, and the same on any machine.

The parts, for a reward of one's own: `final` and `gold` find an answer in a text and in a solution, `right` compares
them. docs/answers.md is the protocol in one page. It asks what graders of short answers ask, such as Minerva's
(https://arxiv.org/abs/2206.14858, appendix D) and math-verify (https://github.com/huggingface/Math-Verify), but cannot
be fooled where these can: numbers are exact, and where one number is asked one number is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial

from llmrl.answers import quantities
from llmrl.answers.conventions import Choice, choice, ratio, same_ratio, same_time, same_words
from llmrl.answers.expressions import bounded, expression
from llmrl.answers.final import KINDS, MAX_CHARACTERS, ends_marked, final, finals, gold
from llmrl.answers.lowest_terms import can_be_simplified, less_simplified
from llmrl.answers.notation import normalized, squeezed
from llmrl.answers.quantities import Quantity, quantity
from llmrl.answers.structures import Group, group, interval, is_name, relation, same_parts
from llmrl.answers.values import equal, proportional, rounds_to

__all__ = ["KINDS", "ends_marked", "final", "gold", "right"]

MAX_ANSWERS = 2  # different writings of a final answer that are compared: more are a list of guesses
MAX_DEPTH = 4  # lists in lists

WITH_UNIT = re.compile(r'(.*?) ?("[^"]*"[^"\\]*)')
SET = r"\\in ?\\mathbb ?\{?[ZNQR]\}?"
DOMAIN = re.compile(  # of what a letter stands for: , k \in \mathbb{Z}   "for all real" x
    rf'(?:[,;]? ?\(?(?:"(?:where|for|with)" ?|\\forall ?)?[a-z] ?{SET}\)?'
    r'|,? ?"for (?:(?:all|any|every|each|real|positive|natural|whole|integers?|numbers?|values? of) ?)+[a-z]?"'
    rf"(?: ?[a-z](?: ?{SET})?)?)$"
)
GLUED_UNIT = re.compile(r"(-?[\d.,]+)([mgshL])", re.ASCII)  # which in a formula would be a letter
LABEL = re.compile(r'"?(?!(?:Not|Wrong|Incorrect|False)\b)[A-Z][a-z]{2,}(?: [a-z]{2,}){0,3} ?: ?"? ?(.+)')
ROUNDED = re.compile(r"-?\d+\.\d+", re.ASCII)
REMAINDER = re.compile(r"(.*?) ?\\mod (\d+)", re.ASCII)


def right(text: str, solution: str, marks: Sequence[str] = KINDS) -> bool:
    r"""Whether the final answer of a text, marked in one of the ways of `marks`, is that of a solution.

    A text with two different final answers is wrong, and so is any where there is nothing to compare with. What the
    same answer is, docs/answers.md says; the graders it follows stand at the head of this file.

    >>> right(r"so \boxed{0.5}", r"$\frac{1}{2}$"), right("#### 72", "so she has 72.\n#### 72"), right("72", "72")
    (True, True, False)
    """
    expected, given = gold(solution), finals(text, marks)
    if expected is None or not 0 < len(given) <= MAX_ANSWERS:
        return False
    return all(one == expected or same_answer(expected, one) for one in given)


@lru_cache(maxsize=2**14)
def same_answer(expected: str, answer: str) -> bool:
    """Whether a short answer is the one that is expected: the same number, words or mathematics."""
    if len(answer) > MAX_CHARACTERS:
        return False
    if answer.isascii() and answer.isdecimal() and expected.isascii() and expected.isdecimal():
        return int(answer) == int(expected)
    expected, answer = (without_domain(normalized(text)) for text in (expected, answer))
    if not (bounded(expected) and bounded(answer)):
        return squeezed(expected) == squeezed(answer)
    return any(same(expected, one) for one in readings(answer))


def without_domain(text: str) -> str:
    r"""An answer without the letters that it holds for: `k\pi, k \in \mathbb{Z}`, `x + 1 "for all real" x`."""
    found = DOMAIN.search(text)
    return text[: found.start()].strip() if found and found.start() else text


def readings(answer: str) -> list[str]:
    r"""What an answer says: of an exact value with its rounding, `\frac{14}{3} \approx 4.67`, each of them."""
    sides, signs = relation(answer)
    if signs[-1:] != ["\\approx"] or not ROUNDED.fullmatch(sides[-1]):
        return [answer]
    exact = expression(sides[-2])
    worked_out = exact is not None and exact.name not in ("number", "neg") and not can_be_simplified(exact)
    if exact is None or not worked_out or not rounds_to(exact, sides[-1]):
        return [answer]
    return [answer[: answer.rindex("\\approx")].strip(), sides[-1]]


@lru_cache(maxsize=2**13)  # which of sets in sets are asked again and again
def same(expected: str, answer: str, depth: int = 0) -> bool:
    """The same of answers in plain notation. What a gold answer is decides what is asked of the other."""
    if not expected or not answer or depth > MAX_DEPTH:
        return False
    if squeezed(expected) == squeezed(answer):
        return True
    if (letter := choice(expected)) and not re.fullmatch("[a-j]", expected):  # i and e are numbers
        return same_choice(letter, answer, depth)
    if (agree := same_time(expected, answer)) is not None:
        return agree
    if (lettered := choice(answer)) and lettered.text:
        answer = lettered.text  # of (D) 204 the value that is asked
    if "=" in expected:
        return same_equation(expected, answer, depth)
    wanted, value = unnamed(expected), unnamed(answer)
    if squeezed(wanted) == squeezed(value):
        return True
    if number := quantity(wanted):
        return same_number(number, value) or ("," in wanted and same_group(wanted, value, depth))
    if parts := ratio(wanted):
        return (other := ratio(value) or terms(value)) is not None and same_ratio(parts, other)
    if group(wanted):
        names = [found[0] for text in (expected, answer) if (found := interval(text))]
        if len(names) == 2 and not same_name(*names):
            return False
        return same_group(wanted, value, depth, ranges=(wanted, value) != (expected, answer))
    return same_expression(wanted, value) or same_words(wanted, answer)


def same_choice(expected: Choice, answer: str, depth: int) -> bool:
    """Whether it is the same letter, and where both name the text of the choice, the same text; or that text alone."""
    given = choice(answer)
    if given is None or expected.letter != given.letter:
        return given is None and bool(expected.text) and same(expected.text, answer, depth + 1)
    return not expected.text or not given.text or same(expected.text, given.text, depth + 1)


def unnamed(text: str) -> str:
    r"""What a text says that a name is: of `x = 5`, `x \in \{5\}` and `f(x) = 2 + 3 = 5` what stands last, if all that
    is said to be equal is.
    """
    (name, *sides), signs = relation(text)
    if labelled := LABEL.fullmatch(text):  # Total cost: 5
        return labelled[1] if quantity(labelled[1]) else text
    if signs == ["="] and is_name(sides[0]) and not is_name(name):  # 5 = x
        name, sides = sides[0], [name]
    if not sides or {*signs} - {"=", "\\in", "\\approx", "\\equiv"} or not is_name(name):
        return text
    if len(sides) > 1:
        first, *others = [expression(side) for side in sides]
        if not first or not all(other and equal(first, other) for other in others):
            return text
    return sides[-1]


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same, f(x) and f too."""
    return re.sub(r"\(.*\)", "", squeezed(one)) == re.sub(r"\(.*\)", "", squeezed(other)) != ""


def same_number(expected: Quantity, answer: str) -> bool:
    """Of a number only a number is the same, or of a fraction a ratio, or the number as the remainder that it is."""
    if (found := REMAINDER.fullmatch(answer)) and (rest := quantity(found[1])) and 0 <= rest.value < int(found[2]):
        answer = found[1]
    if found := GLUED_UNIT.fullmatch(answer):
        answer = f"{found[1]} {found[2]}"
    if expected.value.denominator > 1 and (parts := ratio(answer)) and len(parts) == 2:
        answer = "{}/{}".format(*parts)
    writings = {squeezed(side): quantity(side) for side in relation(answer).sides}  # 7/3 = 2 1/3
    signs = {*relation(answer).signs}
    if signs - {"="} or (signs and len(writings) < 2):
        return False
    return all(other is not None and quantities.equal(expected, other) for other in writings.values())


def terms(text: str) -> list[Fraction] | None:
    """The terms of a fraction in lowest terms."""
    found = quantity(text)
    if found is None or found.unit or not found.in_lowest_terms or not found.value:
        return None
    return [Fraction(found.value.numerator), Fraction(found.value.denominator)]


def same_group(expected: str, answer: str, depth: int, ranges: bool = False) -> bool:
    r"""Whether two answers of several parts are the same; of `x \in [1, 2]`, a range, no list of its ends is."""
    one, other = group(expected), group(answer)
    if one is None or other is None:
        return False
    if ranges and {one.kind, other.kind} & {"", "and", "or"} and {one.kind, other.kind} & {"()", "[]"}:
        return False
    return same_parts(one, other, partial(same, depth=depth + 1))


def same_equation(expected: str, answer: str, depth: int) -> bool:
    """Of `x = 5` and `y = 2x + 1` also what stands at the right, alone or under the same name; of an equation with a
    formula another that has the same solutions, too; several in any order.
    """
    if several := group(expected):
        answer = unnamed(answer) if answer.startswith("(") else answer  # (x, y) = (1, 2)
        if "=" not in answer and len({relation(part).sides[0] for part in several.parts if "=" in part}) > 1:
            several = Group("()", several.parts)  # x = 1, y = 2 as (1, 2)
        return same_parts(several, group(answer), partial(same, depth=depth + 1))
    sides, signs = relation(expected)
    answer_sides, answer_signs = relation(answer)
    if signs != ["="] or {*answer_signs} - {"=", "\\approx"}:
        return False
    named = is_name(sides[0])
    if not answer_signs or (named and same_name(sides[0], answer_sides[0])):
        return named and same(sides[1], unnamed(answer), depth + 1)
    read = [one for side in (*sides, *answer_sides) if (one := expression(side))]
    solved = named and (quantity(sides[1]) or (len(read) > 1 and not read[1].letters))
    return not solved and len(read) == len(sides) + len(answer_sides) == 4 and proportional(*read)


def same_expression(expected: str, answer: str) -> bool:
    """Whether two expressions are equal, their units agree where both name one, and the answer is worked out."""
    parted = [found.group(1, 2) if (found := WITH_UNIT.fullmatch(text)) else (text, "") for text in (expected, answer)]
    one, other = (expression(text) for text, _ in parted)
    units = [quantities.unit(f" {unit}") for _, unit in parted]
    if one is None or other is None or None in units or not quantities.same_unit(*map(str, units)):
        return False
    return equal(one, other) and not less_simplified(other, one)
