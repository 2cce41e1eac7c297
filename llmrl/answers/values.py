r"""Values of expressions, and whether two are equal: exactly, and in bounded work.

Two expressions are equal where their values are, at points that nobody chose for it (Schwartz 1980, Zippel 1979): no
simplification, whose work has no bound. Values are exact while they are rational. Otherwise they have so many digits,
and so few orders of magnitude, that within the length of an answer nothing can be written that differs by less. The
arithmetic is mpmath's, with which sympy computes.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

from llmrl.answers.expressions import CONSTANTS, Node, negated
from llmrl.answers.notation import FUNCTIONS

COSTLY = 8  # functions, roots and powers of an answer, each of which takes up to half a millisecond
MAGNITUDE = 30  # decimal orders of what is not rational
DIGITS = 400  # each costly step can hide a difference so many orders deeper, cos twice as many
BITS = 4096  # of what is rational
SMALL = 200  # of which a factorial is taken
POINTS = 4

STEP = re.compile(
    rf"\\?(?:{'|'.join(FUNCTIONS)})(?![A-Za-z])|\^(?! ?(?:\\circ|\{{ ?-?\d\d? ?\}}|\d\d?)(?!\d))", re.ASCII
)
Value = Any  # a Fraction, or a number of mpmath


class UnknownError(Exception):
    """A value that is none, or that could not be told from others in bounded work."""


class Arithmetic(threading.local):
    """The functions of mpmath at a fixed precision. Its contexts change their precision meanwhile: one a thread."""

    @cached_property
    def mp(self) -> Any:
        from mpmath.ctx_mp import MPContext  # which to import takes longer than to judge a thousand numbers

        found = MPContext()
        found.dps = DIGITS
        return found

    @cached_property
    def limits(self) -> tuple[Value, Value, Value]:
        """The least and the most size of a value, and what is left of numbers that cancel."""
        return tuple(self.mp.mpf(10) ** order for order in (-MAGNITUDE, MAGNITUDE, 50 - DIGITS))

    def number(self, value: Value) -> Value:
        return self.mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

    def checked(self, value: Value) -> Value:
        """A value, if it is not too large or too small to tell it from others."""
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
                raise UnknownError("too large")
            return value
        size, (least, most, nothing) = abs(value), self.limits
        if size < nothing:
            return Fraction(0)
        if not least < size < most:
            raise UnknownError("too large, too small or no number")
        return value

    def evaluate(self, node: Node, point: dict[str, Fraction]) -> Value:
        """The value where each letter has that of the point. Raises UnknownError where there is none."""
        if node.name == "number":
            return self.checked(node.value)
        if node.name[0] == "?":
            return point[node.name]
        if node.name in CONSTANTS:
            return {"pi": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[node.name]
        inner = [self.evaluate(one, point) for one in node.inner]
        try:
            return self.checked(OPERATIONS[node.name](self, *inner))
        except (ArithmeticError, ValueError, TypeError):
            raise UnknownError(node.name) from None

    def sum(self, *parts: Value) -> Value:
        exact = all(isinstance(part, Fraction) for part in parts)
        return sum(parts) if exact else self.mp.fsum([self.number(part) for part in parts])

    def product(self, *parts: Value) -> Value:
        exact = all(isinstance(part, Fraction) for part in parts)
        return math.prod(parts) if exact else self.mp.fprod([self.number(part) for part in parts])

    def quotient(self, one: Value, other: Value) -> Value:
        exact = isinstance(one, Fraction) and isinstance(other, Fraction)
        return one / other if exact else self.number(one) / self.number(other)

    def raised(self, base: Value, power: Value) -> Value:
        if isinstance(base, Fraction) and isinstance(power, Fraction):
            size = max(base.numerator.bit_length(), base.denominator.bit_length())
            if power.denominator == 1 and size * abs(power) <= BITS:
                return base**power.numerator
            if base < 0 and power.denominator % 2:  # real, as for x^{1/3}
                return self.raised(-base, power) * (-1) ** power.numerator
        if not base:
            if isinstance(power, Fraction) and power > 0:
                return Fraction(0)
            raise UnknownError("no power of 0")
        return self.mp.power(self.number(base), self.number(power))

    def root(self, base: Value, degree: Value) -> Value:
        if isinstance(degree, Fraction) and degree == 2:
            return self.mp.sqrt(self.number(base))
        return self.raised(base, self.quotient(Fraction(1), degree))

    def factorial(self, one: Value) -> Value:
        if not isinstance(one, Fraction) or one.denominator != 1 or not 0 <= one <= SMALL:
            raise UnknownError("no factorial")
        return Fraction(math.factorial(one.numerator))

    def binomial(self, one: Value, other: Value) -> Value:
        return self.quotient(self.factorial(one), self.factorial(other) * self.factorial(one - other))

    def logarithm(self, one: Value, base: Value | None = None) -> Value:
        found = self.mp.ln(self.number(one))
        return found if base is None else found / self.mp.ln(self.number(base))

    def rounded(self, one: Value, how: Callable[[Fraction], int]) -> Value:
        if not isinstance(one, Fraction):
            raise UnknownError("rounds what is not rational")
        return Fraction(how(one))


def of_mpmath(name: str) -> Callable[..., Value]:
    return lambda numbers, one: getattr(numbers.mp, name)(numbers.number(one))


OPERATIONS: dict[str, Callable[..., Value]] = {name: of_mpmath(name) for name in FUNCTIONS} | {
    "arcsin": of_mpmath("asin"),
    "arccos": of_mpmath("acos"),
    "arctan": of_mpmath("atan"),
    "log": Arithmetic.logarithm,
    "ln": Arithmetic.logarithm,
    "^\\circ": lambda numbers, one: numbers.number(one) * numbers.mp.pi / 180,
    "neg": lambda _, one: -one,
    "abs": lambda _, one: abs(one),
    "+": Arithmetic.sum,
    "mixed": Arithmetic.sum,
    "*": Arithmetic.product,
    "/": Arithmetic.quotient,
    "^": Arithmetic.raised,
    "root": Arithmetic.root,
    "!": Arithmetic.factorial,
    "binom": Arithmetic.binomial,
    "lfloor": lambda numbers, one: numbers.rounded(one, math.floor),
    "lceil": lambda numbers, one: numbers.rounded(one, math.ceil),
}
ARITHMETIC = Arithmetic()


def bounded(text: str) -> bool:
    """Whether few enough costly steps are in an answer, wherever in it."""
    return len(STEP.findall(text)) <= COSTLY


def drawn(letter: str, turn: int) -> Fraction:
    """What a letter stands for: two times a positive number, then a negative one, then one of either sign."""
    number = int.from_bytes(hashlib.sha256(f"{turn} {letter}".encode()).digest()[:8])
    sign = -1 if turn == 2 or (turn == 3 and number % 2) else 1
    return sign * Fraction(number // 2 % 9973 + 3001, 4999)


@lru_cache(maxsize=2**12)
def value(node: Node, turn: int) -> Value | None:
    """The value at one of the points; None where there is none."""
    try:
        return ARITHMETIC.evaluate(node, {letter: drawn(letter, turn) for letter in node.letters})
    except UnknownError:
        return None


def close(one: Value, other: Value) -> bool:
    """Whether two values are the same number."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    one, other = ARITHMETIC.number(one), ARITHMETIC.number(other)
    return abs(one - other) <= max(abs(one), abs(other)) * ARITHMETIC.limits[-1]


def equal(one: Node, other: Node) -> bool:
    """Whether two expressions have the same value, whatever their letters stand for."""
    if one.letters != other.letters:
        return False
    known, turns = 0, POINTS if one.letters else 1
    for turn in range(turns):
        pair = value(one, turn), value(other, turn)
        if pair.count(None) == 1 or (None not in pair and not close(*pair)):
            return False
        known += None not in pair
    return known >= min(2, turns)


def proportional(left: Node, right: Node, other_left: Node, other_right: Node) -> bool:
    """Whether two equations have the same solutions, as the differences of their sides have a constant ratio."""
    one, other = Node("+", (left, negated(right))), Node("+", (other_left, negated(other_right)))
    pairs = [(value(one, turn), value(other, turn)) for turn in range(POINTS)]
    if not one.letters or one.letters != other.letters or not all(a and b for a, b in pairs):
        return False
    ratios = [ARITHMETIC.quotient(a, b) for a, b in pairs]
    return all(close(ratio, ratios[0]) for ratio in ratios)


def leaves_more(answer: Node, gold: Node) -> bool:
    """Whether an answer leaves something to reckon, and the gold answer does not: 2 + 3, a root that can be drawn, a
    fraction or a sum that can be shortened, a function where there is none. In terms of letters everything does.
    """
    if gold.letters or unreckoned(gold):
        return False
    functions = [
        {"log", "ln"},
        *({one} for one in (*FUNCTIONS, "!", "binom", "lfloor", "lceil", "abs") if one[0] != "l"),
    ]
    return any(one & answer.operations and not one & gold.operations for one in functions) or unreckoned(answer)


def unreckoned(node: Node) -> bool:
    """Whether something without letters is not worked out: numbers or like terms to add, numbers or roots to multiply,
    a fraction or a root to bring into lowest form, a power of what is no single letter.
    """
    inner = [*node.inner]
    match node.name:
        case "+":
            found = any(rational(one) == 0 for one in inner) or any(
                like_terms(*pair) for pair in combinations(inner, 2)
            )
        case "*":
            plain = [one for one in inner if rational(one) is not None or one.name == "root"]
            found = (
                len(plain) > 1 + any(one.name == "root" for one in plain)
                or sum(one.name == "root" for one in plain) > 1
            )
        case "/":
            found = rational(node) is None and math.gcd(content(inner[0]), content(inner[1])) > 1
        case "^":
            power = rational(inner[1])
            drawn = power is not None and power.numerator == 1 and drawable(rational(inner[0]), power.denominator)
            whole = power is not None and power.denominator == 1 and inner[0].name not in CONSTANTS
            found = whole or drawn
        case "root":
            degree = rational(inner[1])
            found = degree is not None and degree.denominator == 1 and drawable(rational(inner[0]), degree.numerator)
        case _:
            found = False
    return found or any(unreckoned(one) for one in inner if node.name not in ("mixed", *"/"[rational(node) is None :]))


def like_terms(one: Node, other: Node) -> bool:
    """Whether two terms are rational multiples of one another, by a fraction of small numbers."""
    left, right = value(one, 0), value(other, 0)
    if not left or not right:
        return False
    ratio = ARITHMETIC.quotient(left, right)
    if isinstance(ratio, Fraction):
        return True
    if ratio.imag:
        return False
    near = Fraction(round(ratio.real * 10**30), 10**30).limit_denominator(10**6)
    return close(ratio.real, near)


def content(node: Node) -> int:
    """The greatest whole number that divides what stands there, as it is written; of 0 every number does."""
    plain = rational(node)
    if plain is not None:
        return plain.numerator if plain.denominator == 1 else 1
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
    if node.name == "/":
        above, below = (rational(one) for one in node.inner)
        whole = above is not None and below is not None and above.denominator == below.denominator == 1 != abs(below)
        if whole and below and math.gcd(above.numerator, below.numerator) == 1:  # type: ignore[union-attr]
            return above / below  # type: ignore[operator]
    return None


def drawable(base: Fraction | None, degree: int) -> bool:
    """Whether a number has a factor, above or below, that is such a power: of the small ones, with small factors."""
    if base is None or not 2 <= degree <= 64:
        return False
    powers = [factor**degree for factor in range(2, 1000)]
    return any(
        part % power == 0
        for part in (base.numerator, base.denominator)
        for power in powers
        if part and power <= abs(part)
    )
