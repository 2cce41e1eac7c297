r"""Lowest terms: whether a number without letters is worked out, as one writes an answer.

    \frac{3}{2}   2\sqrt{3}   1 + \pi        and not   \frac{6}{4}   \sqrt{12}   1 + 2 + \pi   2^5   \sin 30^\circ

An answer must be, where the gold answer is: else the question's own sum would be an answer to it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

from llmrl.answers.expressions import CONSTANTS, Node
from llmrl.answers.notation import FUNCTIONS
from llmrl.answers.values import ARITHMETIC, UnknownError, close, exact, value

NAMED = {*FUNCTIONS, "!", "binom", "lfloor", "lceil", "abs"} - {"exp"}  # e^x by another name
LOGARITHMS = {"log", "ln"}


def less_simplified(answer: Node, gold: Node) -> bool:
    """Whether an answer leaves something to work out, and the gold answer does not. In terms of letters both may."""
    if gold.letters or can_be_simplified(gold):
        return False
    new = (answer.operations - gold.operations) & NAMED
    return bool(new - (LOGARITHMS if gold.operations & LOGARITHMS else set())) or can_be_simplified(answer)


def can_be_simplified(node: Node) -> bool:
    """Whether there are numbers or like terms to add, numbers or roots to multiply, a fraction or a root to bring into
    lowest terms, a power to raise of what is no single constant.
    """
    inner = node.inner
    match node.name:
        case "+":
            found = any(rational(one) == 0 for one in inner) or any(
                like_terms(*pair) for pair in combinations(inner, 2)
            )
        case "*":
            roots = [one for one in inner if one.name == "root"]
            found = len(roots) > 1 or sum(rational(one) is not None for one in inner) > 1
        case "/":
            found = rational(node) is None and fraction_can_be_simplified(*inner)
        case "^":
            power = rational(inner[1])
            found = power is not None and (
                has_power_factor(rational(inner[0]), power.denominator) and power.numerator == 1
                if power.denominator > 1
                else inner[0].name not in CONSTANTS
            )
        case "root":
            degree = rational(inner[1])
            found = (
                degree is not None and degree.denominator == 1 and root_can_be_simplified(inner[0], degree.numerator)
            )
        case _:
            found = False
    whole = node.name == "mixed" or rational(node) is not None  # one number, as it is written
    return found or (not whole and any(map(can_be_simplified, inner)))


def fraction_can_be_simplified(above: Node, below: Node) -> bool:
    """Whether both have a factor, or what divides is no whole number."""
    divisor = rational(below)
    if divisor is not None and divisor.denominator > 1:
        return True
    shared = above.operations & below.operations & {*CONSTANTS} - {"i"}
    return math.gcd(content(above), content(below)) > 1 or (bool(shared) and not {"+"} & below.operations)


def root_can_be_simplified(base: Node, degree: int) -> bool:
    """Whether a factor can be drawn out of a root, or the root is of a power."""
    number = rational(base)
    if number is None:
        return has_power_factor(Fraction(content(base)), degree)
    square = number.numerator > 1 and math.isqrt(number.numerator) ** 2 == number.numerator
    return has_power_factor(number, degree) or (square and degree > 2 and degree % 2 == 0)


def like_terms(one: Node, other: Node) -> bool:
    """Whether two terms are rational multiples of one another, by a fraction of small numbers."""
    left, right = value(one), value(other)
    try:
        ratio = ARITHMETIC.quotient(left, right) if left and right else None
    except UnknownError:
        return False
    if ratio is None or exact(ratio):
        return ratio is not None
    near = Fraction(round(ratio.real * 10**30), 10**30).limit_denominator(10**6)
    return not ratio.imag and close(ratio.real, near)


def content(node: Node) -> int:
    """The greatest whole number that divides what stands there, as it is written; of 0 every number does."""
    number = rational(node)
    if number is not None:
        return number.numerator if number.denominator == 1 else 1
    match node.name:
        case "neg":
            return content(node.inner[0])
        case "+":
            return math.gcd(*(content(one) for one in node.inner))
        case "*":
            return math.prod(content(one) for one in node.inner)
    return 1


def rational(node: Node) -> Fraction | None:
    """The value of a number, or of a fraction in its lowest terms."""
    if node.name == "number":
        return node.value
    if node.name == "neg":
        inner = rational(node.inner[0])
        return None if inner is None else -inner
    if node.name != "/":
        return None
    above, below = (rational(one) for one in node.inner)
    if above is None or below is None or above.denominator != 1 or below.denominator != 1 or below in (0, 1, -1):
        return None
    return above / below if math.gcd(above.numerator, below.numerator) == 1 else None


def has_power_factor(base: Fraction | None, degree: int) -> bool:
    """Whether a number has a factor, above or below, that is such a power: of the small ones, with small factors."""
    if base is None or not 2 <= degree <= 64:
        return False
    parts = [abs(part) for part in (base.numerator, base.denominator) if part]
    return any(part % factor**degree == 0 for part in parts for factor in range(2, 1000) if factor**degree <= part)
