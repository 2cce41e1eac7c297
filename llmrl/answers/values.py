r"""Values of expressions, and whether two are equal: exactly, and in bounded work.

Two expressions are equal where their values are, at points that nobody chose for it (Schwartz 1980, Zippel 1979): no
simplification, whose work has no bound. Values are exact while they are rational. Otherwise they have so many digits,
and so few orders of magnitude, that within the length of an answer nothing can be written that differs by less. The
arithmetic is mpmath's, with which sympy computes.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from llmrl.answers.expressions import Node, negated
from llmrl.answers.notation import TRIGONOMETRIC

LARGEST, SMALLEST = 1e30, 1e-30  # of what is not rational
PRECISION = 400  # digits: each costly step can hide a difference so many orders deeper, cos twice as many
MAX_BITS = 4096  # of what is rational
MAX_FACTORIAL = 200
POINTS = 4  # and of what has corners, steps or branches
ROUGH_POINTS = 10
WHOLE_POINTS = range(100, 108)  # of factorials, which only whole numbers have
FACTORIALS = {"!", "binom"}
ROUGH = {"abs", "lfloor", "lceil", "root", "^", "arcsin", "arccos", "arctan"}

Value = Any  # a Fraction, or a number of mpmath


class UnknownError(Exception):
    """A value that is none, or that could not be told from others in bounded work."""


class Arithmetic(threading.local):
    """The functions of mpmath at a fixed precision. Its contexts change their precision meanwhile: one a thread."""

    @cached_property
    def mp(self) -> Any:
        from mpmath.ctx_mp import MPContext  # which to import takes longer than to judge a thousand numbers

        found = MPContext()
        found.dps = PRECISION
        return found

    @cached_property
    def nothing(self) -> Value:
        """What is left of numbers that cancel."""
        return self.mp.mpf(10) ** (50 - PRECISION)

    def number(self, value: Value) -> Value:
        """A value as one of mpmath's. Raises UnknownError where a fraction is too large or too small beside others."""
        if not isinstance(value, Fraction):
            return value
        if value and not SMALLEST < abs(value) < LARGEST:
            raise UnknownError("too large or too small")
        return self.mp.mpf(value.numerator) / value.denominator

    def checked(self, value: Value, cancels: bool, real: bool) -> Value:
        """A value, if it is neither too large nor too small to tell it from others, and 0 where numbers cancel."""
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                raise UnknownError("too large")
            return value
        if real and value.imag:
            raise UnknownError("not real")
        size = abs(value)
        if cancels and size < self.nothing:
            return Fraction(0)
        if size and not SMALLEST < size < LARGEST:
            raise UnknownError("too large, too small or no number")
        return value

    def evaluate(self, node: Node, point: dict[str, Fraction], real: bool) -> Value:
        """The value where each letter has that of the point. Raises UnknownError where there is none, or no real one
        on the way to it.
        """
        if node.name == "number":
            return self.checked(node.value, cancels=False, real=real)
        if node.is_letter:
            return point[node.name]
        inner = [self.evaluate(one, point, real) for one in node.inner]
        try:
            found = OPERATIONS[node.name](self, *inner)
        except (ArithmeticError, ValueError, TypeError):
            raise UnknownError(node.name) from None
        return self.checked(found, cancels=node.name not in ("*", "/", "^", "root"), real=real)

    def sum(self, *parts: Value) -> Value:
        return sum(parts) if exact(*parts) else self.mp.fsum([self.number(part) for part in parts])

    def product(self, *parts: Value) -> Value:
        return math.prod(parts) if exact(*parts) else self.mp.fprod([self.number(part) for part in parts])

    def quotient(self, one: Value, other: Value) -> Value:
        return one / other if exact(one, other) else self.number(one) / self.number(other)

    def raised(self, base: Value, power: Value) -> Value:
        if exact(base, power):
            size = max(base.numerator.bit_length(), base.denominator.bit_length())
            if power.denominator == 1 and size * abs(power) <= MAX_BITS:
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
        if not isinstance(one, Fraction) or one.denominator != 1 or not 0 <= one <= MAX_FACTORIAL:
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


def exact(*values: Value) -> bool:
    return all(isinstance(one, Fraction) for one in values)


def of_mpmath(name: str) -> Callable[..., Value]:
    return lambda numbers, one: getattr(numbers.mp, name)(numbers.number(one))


# Of an Arithmetic and the values of what they are applied to.
OPERATIONS: dict[str, Callable[..., Value]] = {
    "pi": lambda numbers: +numbers.mp.pi,
    "e": lambda numbers: +numbers.mp.e,
    "i": lambda numbers: numbers.mp.mpc(0, 1),
    **{name: of_mpmath(name.replace("arc", "a")) for name in (*TRIGONOMETRIC, "exp")},
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


def sample(letter: str, point: int) -> Fraction:
    """What a letter stands for: by turns a small positive number, one of either sign, a large and a whole one."""
    number = int.from_bytes(hashlib.sha256(f"{point} {letter}".encode()).digest()[:8])
    if point in WHOLE_POINTS:
        return Fraction(number % 23 + 4)
    size = Fraction(number // 2 % 9973 + 3001, 4999)
    if point % 4 > 1:
        size = size * 100 if point % 4 == 2 else Fraction(math.ceil(size * 20))
    return -size if point % 4 and number % 2 else size


@lru_cache(maxsize=2**12)
def value(node: Node, point: int = 0) -> Value | None:
    """The value at one of the points; None where there is none, or no real one where nobody speaks of others."""
    letters = {letter: sample(letter, point) for letter in node.letters}
    try:
        return ARITHMETIC.evaluate(node, letters, real=bool(letters) and "i" not in node.operations)
    except UnknownError:
        return None


def close(one: Value, other: Value) -> bool:
    """Whether two values are the same number."""
    if exact(one, other):
        return one == other
    try:
        one, other = ARITHMETIC.number(one), ARITHMETIC.number(other)
    except UnknownError:
        return False
    return abs(one - other) <= max(abs(one), abs(other)) * ARITHMETIC.nothing


def values(one: Node, other: Node) -> Iterator[tuple[Value, Value]]:
    """The values of both at each point at which they have one."""
    operations = one.operations | other.operations
    points = range(ROUGH_POINTS if operations & ROUGH else POINTS) if one.letters else range(1)
    for point in WHOLE_POINTS if one.letters and operations & FACTORIALS else points:
        pair = value(one, point), value(other, point)
        if None not in pair:
            yield pair


def equal(one: Node, other: Node) -> bool:
    """Whether two expressions have the same value, whatever their letters stand for, or are written the same."""
    if one == other:
        return True
    if one.letters != other.letters:
        return False
    known = 0
    for pair in values(one, other):
        if not close(*pair):
            return False
        known += 1
    return known >= (2 if one.letters else 1)


def rounds_to(node: Node, decimal: str) -> bool:
    """Whether a number without letters is, rounded to as many places, this decimal."""
    if node.letters or (found := value(node)) is None:
        return False
    places = len(decimal.partition(".")[2])
    try:
        return abs(ARITHMETIC.number(found) - ARITHMETIC.number(Fraction(decimal))) * 10**places * 2 <= 1
    except UnknownError:
        return False


def proportional(left: Node, right: Node, other_left: Node, other_right: Node) -> bool:
    """Whether two equations have the same solutions, as the differences of their sides have a constant ratio."""
    one, other = Node("+", (left, negated(right))), Node("+", (other_left, negated(other_right)))
    if not one.letters or one.letters != other.letters:
        return False
    pairs = list(values(one, other))
    if len(pairs) < 2 or not all(a and b for a, b in pairs):
        return False
    try:
        ratios = [ARITHMETIC.quotient(a, b) for a, b in pairs]
    except UnknownError:
        return False
    return all(close(ratio, ratios[0]) for ratio in ratios)
