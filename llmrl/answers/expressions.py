r"""Expressions: reading plain notation as mathematics, in time in proportion to its length.

    2\sqrt{3} + \frac{x^2}{4}   2*sqrt(3) + x**2/4   ->   a tree

As LaTeX has it and, where that leaves it open, as a calculator: 1/2x is half of x, \sin 2x + 1 is 1 more than a sine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise

from llmrl.answers.notation import FUNCTIONS, GREEK

MAX_TOKENS = 100
MAX_DEPTH = 12  # brackets in brackets
MAX_STEPS = 8  # functions, roots and powers of a whole answer, each of which takes up to half a millisecond

TOKEN = re.compile(
    r" *(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|\\(?P<command>[A-Za-z]+)|(?P<word>[A-Za-z]+)"
    r"|(?P<sign>\^\\circ|[-+*/^_(){}\[\]|!]))",
    re.ASCII,
)
CONSTANTS = ("pi", "e", "i")
LETTERS = (*GREEK.split(), *GREEK.title().split())
# Of numbers, or a date, or a telephone number: no difference and no quotient.
RANGE = re.compile(r"\d+(?: ?- ?\d+)+|\d+(?: ?[-/] ?\d+){2,}", re.ASCII)
STEP = re.compile(
    rf"\\?(?:{'|'.join(FUNCTIONS)})(?![A-Za-z])|\^(?! ?(?:\\circ|\{{ ?-?\d\d? ?\}}|\d\d?)(?!\d))", re.ASCII
)
BRACKETS = {"(": ")", "[": "]", "{": "}"}


class ParseError(Exception):
    """No expression, or one that is too large."""


@dataclass(frozen=True)
class Node:
    """A number (`value`), a letter (`?x`), a constant, or an operation on others."""

    name: str
    inner: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)

    @property
    def is_letter(self) -> bool:
        return self.name[0] == "?"

    @cached_property
    def letters(self) -> frozenset[str]:
        if self.is_letter:
            return frozenset({self.name})
        return frozenset().union(*(one.letters for one in self.inner))

    @cached_property
    def depth(self) -> int:
        return 1 + max((one.depth for one in self.inner), default=0)

    @cached_property
    def operations(self) -> frozenset[str]:
        return frozenset({self.name}).union(*(one.operations for one in self.inner))


class Parser:
    r"""Recursive descent over the tokens of an expression, from the left to the right; `\frac12` splits one."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        worded = re.fullmatch("[A-Za-z ]*", text) is not None
        place = 0
        while place < len(text.rstrip()):
            found = TOKEN.match(text, place)
            if found is None:
                raise ParseError(text)
            kind = str(found.lastgroup)
            if kind == "word" and self.tokens and self.tokens[-1][0] == "word" and len(found[0]) > 2:
                raise ParseError("words")
            self.tokens += [
                (kind, one) for one in (split_letters(found[0].strip(), worded) if kind == "word" else [found[kind]])
            ]
            place = found.end()
            if len(self.tokens) > MAX_TOKENS:
                raise ParseError("too long")
        self.place = self.depth = self.bars = 0

    @property
    def next(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("end", "")

    def take(self, *signs: str) -> str | None:
        """The next token, if it is one of these."""
        kind, text = self.next
        if kind in ("sign", "command") and text in signs:
            self.place += 1
            return text
        return None

    def parse(self) -> Node:
        """The expression of all tokens."""
        found = self.parse_sum()
        if self.next[0] != "end":
            raise ParseError(self.next[1])
        return found

    def parse_sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError("nested too deeply")
        negative = self.take("+", "-") == "-"
        parts = [negated(self.parse_product()) if negative else self.parse_product()]
        while sign := self.take("+", "-"):
            part = self.parse_product()
            parts.append(negated(part) if sign == "-" else part)
        self.depth -= 1
        return Node("+", tuple(parts)) if len(parts) > 1 else parts[0]

    def parse_product(self) -> Node:
        """Factors, with signs between them or not; `a/bc` is a/b times c, as a calculator has it."""
        parts = [self.parse_power()]
        while True:
            if self.take("*", "times", "cdot"):
                parts.append(self.parse_signed())
            elif self.take("/"):
                parts[-1] = Node("/", (parts[-1], self.parse_signed()))
            elif self.begins():
                mixed = len(parts) == 1 and parts[0].name == "number" and self.next[1] == "frac"
                parts.append(self.parse_power())
                if mixed and parts[1].name == "/":
                    parts = [Node("mixed", tuple(parts))]
            else:
                return Node("*", tuple(parts)) if len(parts) > 1 else parts[0]

    def begins(self) -> bool:
        """Whether a factor begins here; a number does after brackets, and with a power: nobody multiplies by `x2`."""
        kind, text = self.next
        if kind == "number":
            before = self.tokens[self.place - 1]
            raised = self.tokens[self.place + 1 : self.place + 2] == [("sign", "^")]
            return before[1] in (")", "}") or (raised and before[0] != "number")
        if kind == "sign":
            return text in ("(", "[", "{") or (text == "|" and not self.bars)
        return kind in ("command", "word") and text not in ("times", "cdot", "rfloor", "rceil")

    def parse_signed(self) -> Node:
        return negated(self.parse_power()) if self.take("-") else self.parse_power()

    def parse_power(self) -> Node:
        base = self.parse_postfixed()
        if self.take("^"):
            return Node("^", (base, self.parse_exponent()))
        return base

    def parse_exponent(self) -> Node:
        return self.parse_bracketed() or self.parse_signed()

    def parse_postfixed(self) -> Node:
        found = self.parse_primary()
        while sign := self.take("!", "^\\circ"):
            found = Node(sign, (found,))
        return found

    def parse_bracketed(self, *opening: str) -> Node | None:
        """What stands in brackets here, if there are any."""
        if (opened := self.take(*(opening or BRACKETS))) is None:
            return None
        bars, self.bars = self.bars, 0
        found = self.parse_sum()
        self.bars = bars
        if not self.take(BRACKETS[opened]):
            raise ParseError("not closed")
        return found

    def parse_primary(self) -> Node:
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:
            raise ParseError("nested too deeply")
        found = self.parse_atom()
        self.depth -= 1
        return found

    def parse_atom(self) -> Node:
        if (found := self.parse_bracketed()) is not None:
            return found
        kind, text = self.next
        self.place += 1
        if kind == "number" and not re.match(r"0\d", text):  # of a date
            return Node("number", value=Fraction(text))
        if text == "|":
            self.bars += 1
            inner = self.parse_sum()
            self.bars -= 1
            if not self.take("|"):
                raise ParseError("not closed")
            return Node("abs", (inner,))
        if kind in ("command", "word"):
            return self.parse_named(text)
        raise ParseError(text)

    def parse_argument(self) -> Node:
        """What LaTeX takes for one: a group, a digit or a command."""
        if (found := self.parse_bracketed("{")) is not None:
            return found
        kind, text = self.next
        if kind == "number" and text[1:] and text[0] != ".":  # \frac12
            self.tokens[self.place] = ("number", text[1:])
            return Node("number", value=Fraction(text[0]))
        return self.parse_primary()

    def parse_named(self, name: str) -> Node:
        if name == "frac":
            return Node("/", (self.parse_argument(), self.parse_argument()))
        if name == "binom":
            return Node("binom", (self.parse_argument(), self.parse_argument()))
        if name == "sqrt":
            degree = self.parse_bracketed("[") or Node("number", value=Fraction(2))
            return Node("root", (self.parse_bracketed("(", "{") or self.parse_argument(), degree))
        for opening, closing in (("lfloor", "rfloor"), ("lceil", "rceil")):
            if name == opening:
                inner = self.parse_sum()
                if not self.take(closing):
                    raise ParseError("not closed")
                return Node(opening, (inner,))
        if name in FUNCTIONS:
            return self.parse_function(name)
        if name in CONSTANTS:
            return Node(name)
        if self.next[1] == "(" and self.is_function(name):
            raise ParseError("a function that nobody knows")
        if len(name) == 1 or name in LETTERS:
            index = self.take("_") and self.parse_subscript()
            return Node(f"?{name}_{index}" if index else f"?{name}")
        raise ParseError(name)

    def is_function(self, name: str) -> bool:
        """Whether a letter before a parenthesis is one: f(x), P(A), O(1), but of h(a + b) and x(y) a factor."""
        inner = [text for _, text in self.tokens[self.place : self.place + MAX_DEPTH]]
        inner = inner[: inner.index(")")] if ")" in inner else inner
        return (name in ("f", "g", "h") or name.isupper()) and not {"+", "-"} & {*inner}

    def parse_subscript(self) -> str:
        opened, start = self.take("{"), self.place
        while opened and not self.take("}"):
            if self.next[0] == "end":
                raise ParseError("not closed")
            self.place += 1
        if not opened:
            self.place += 1
        return "".join(text for _, text in self.tokens[start : self.place - bool(opened)])

    def parse_function(self, name: str) -> Node:
        r"""A function with its power (\sin^2 x), its base (\log_2 8) and what it is of (\sin 2x + 1: 2x)."""
        base = self.parse_argument() if self.take("_") else None
        power = self.parse_exponent() if self.take("^") else None
        inner = self.parse_bracketed("(", "{", "[")
        if inner is None:
            parts = [self.parse_signed()]
            while self.begins() and self.next[1] not in FUNCTIONS and self.next[1] not in "([{":
                parts.append(self.parse_power())
            inner = Node("*", tuple(parts)) if len(parts) > 1 else parts[0]
        if power is not None and power.name == "neg" and power.inner[0].value == 1 and name in ("sin", "cos", "tan"):
            return Node(f"arc{name}", (inner,))
        found = Node(name, (inner,) if base is None else (inner, base))
        return found if power is None else Node("^", (found, power))


def split_letters(run: str, worded: bool) -> list[str]:
    """A run of letters: a function's or a constant's name, or letters that are multiplied. Where there is nothing else,
    and of more than two, only in alphabetical order: no two words of the same letters are read.
    """
    if run in FUNCTIONS or run == "pi":
        return [run]
    if (worded or len(run) > 2) and any(one >= other for one, other in pairwise(run)):
        raise ParseError(run)
    return [*run]


def negated(node: Node) -> Node:
    return Node("neg", (node,))


def bounded(text: str) -> bool:
    """Whether few enough costly steps are in an answer; powers by whole numbers of one or two digits are none."""
    return len(STEP.findall(text)) <= MAX_STEPS


@lru_cache(maxsize=2**12)
def expression(text: str) -> Node | None:
    """The expression that a text in plain notation is, and nothing else."""
    if RANGE.fullmatch(text):
        return None
    try:
        found = Parser(text).parse()
    except ParseError:
        return None
    return found if found.depth <= 4 * MAX_DEPTH else None
