"""Telling whether an answer is right, as mathematics and the same on any machine."""

from __future__ import annotations

import logging
import re
import statistics
from decimal import Decimal

from llmrl.answers.final import LONGEST, final, gold, last_boxed

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
WORDS = re.compile(r"[^\W\d_]{2,}( +[^\W\d_]+)*")
# What bounds the work of comparing two answers, instead of math-verify's timers, which depend on the machine: a gold
# answer has at most LONGEST characters, and what is longer than MATHEMATICS or could explode is compared as text alone.
MATHEMATICS = 100
SUMMANDS = re.compile(r"[+-]")
# A power of one symbol or number by a small exponent, or of a bracket by 2 or 3; what is a power beside is not small.
POWER = re.compile(
    r"(?<![)}\]])\^ ?(\{-?([a-z\d]|\d\d|\\frac ?\{\d\} ?\{\d\}|\d/\d)\}|-?[a-z\d]|\\[a-z]+)(?! ?\^)", re.IGNORECASE
)
BRACKET_POWER = re.compile(r"(?<=[)}\]])\^ ?(\{[23]\}|[23])(?! ?\^)")
EXPLOSIVE = re.compile(r"\^|\*\*|!|\\(sum|prod|o?i*int|[dt]?binom|lim|det)(?![a-z])")


def ends_boxed(text: str) -> bool:
    r"""Whether a text ends with its answer in \boxed{}, but for what closes a formula or a sentence."""
    boxed = last_boxed(text)
    return boxed is not None and not boxed[1].strip(" .$\n\\])")


def right(text: str, solution: str) -> bool:
    r"""Whether the answer in the last \boxed{} of `text` equals `solution`, as mathematics.

    >>> right(r"so \boxed{0.5}", r"$\frac{1}{2}$")
    True
    """
    answer, expected = final(text), gold(solution)
    if not answer or expected is None or len(answer) > LONGEST:
        return False
    return same(expected, answer.strip("$ "))


def same(expected: str, answer: str) -> bool:
    """Whether two short answers are the same number, words, text or mathematics."""
    expected, answer = (re.sub(r"^\\(?:text|mathrm|textbf) ?\{([^{}]*)\}$", r"\1", one) for one in (expected, answer))
    if "".join(expected.split()) == "".join(answer.split()):
        return True
    if NUMBER.fullmatch(expected) and NUMBER.fullmatch(answer):
        return Decimal(expected) == Decimal(answer)
    # To math-verify a word is a product of its letters.
    if WORDS.fullmatch(expected) or WORDS.fullmatch(answer):
        return expected.casefold() == answer.casefold()
    if not (modest(expected) and modest(answer)):
        return False
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that there is no timer
    one, other = (parse(f"${text}$", parsing_timeout=None) for text in (expected, answer))
    return bool(verify(one, other, timeout_seconds=None))


def modest(text: str) -> bool:
    r"""Whether an answer is small enough to compute with, on any machine.

    >>> modest(r"3x^2 + 2^{10}"), modest("9^{9^9}"), modest("99!")
    (True, False, False)
    """
    if len(text) > MATHEMATICS or len(SUMMANDS.findall(text)) > 6:
        return False
    rest = BRACKET_POWER.sub("", POWER.sub("", text), count=1)
    return not EXPLOSIVE.search(rest)


def share(texts: list[str], solution: str | None) -> float | None:
    """The share of the answers that are right; None where there is no solution to compare with."""
    return None if solution is None else statistics.mean(right(text, solution) for text in texts)
