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

LONGEST = 100  # tokens
DEEPEST = 12  # brackets in brackets

TOKEN = re.compile(
    r" *(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|\\(?P<command>[A-Za-z]+)|(?P<word>[A-Za-z]+)"
    r"|(?P<sign>\^\\circ|[-+*/^_(){}\[\]|!]))",
    re.ASCII,
)
CONSTANTS = ("pi", "e", "i")
LETTERS = (*GREEK.split(), "phi", "psi", "omega", "chi", "upsilon", *(f"{n[0].upper()}{n[1:]}" for n in GREEK.split()))
RANGE = re.compile(r"\d+(?: ?- ?\d+)+", re.ASCII)  # or a date, or a telephone number: no difference
BRACKETS = {"(": ")", "[": "]", "{": "}"}


class UnreadableError(Exception):
    """No expression, or one that is too large."""


@dataclass(frozen=True)
class Node:
    """A number (`value`), a letter (`name`), or an operation (`name`) on others."""

    name: str
    inner: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)

    @cached_property
    def letters(self) -> frozenset[str]:
        if self.name[0] == "?":
            return frozenset({self.name})
        return frozenset().union(*(one.letters for one in self.inner))

    @cached_property
    def operations(self) -> frozenset[str]:
        return frozenset({self.name}).union(*(one.operations for one in self.inner))


class Reader:
    """One pass over the tokens of an expression, from the left to the right."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        worded = re.fullmatch("[A-Za-z ]*", text) is not None
        place = 0
        while place < len(text.rstrip()):
            found = TOKEN.match(text, place)
            if found is None or len(self.tokens) == LONGEST:
                raise UnreadableError(text)
            kind = str(found.lastgroup)
            if kind == "word" and self.tokens and self.tokens[-1][0] == "word" and len(found[0]) > 2:
                raise UnreadableError("words")
            runs = letters(found[kind], worded) if kind == "word" else [found[kind]]
            self.tokens += [(kind, one) for one in runs]
            place = found.end()
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

    def whole(self) -> Node:
        """The expression of all tokens."""
        found = self.sum()
        if self.next[0] != "end":
            raise UnreadableError(self.next[1])
        return found

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise UnreadableError("nested too deeply")
        negative = self.take("+", "-") == "-"
        parts = [negated(self.product()) if negative else self.product()]
        while sign := self.take("+", "-"):
            part = self.product()
            parts.append(negated(part) if sign == "-" else part)
        self.depth -= 1
        return Node("+", tuple(parts)) if len(parts) > 1 else parts[0]

    def product(self) -> Node:
        """Factors, with signs between them or not; `a/bc` is a/b times c, as a calculator has it."""
        parts = [self.power()]
        while True:
            if self.take("*", "times", "cdot"):
                parts.append(self.signed())
            elif self.take("/"):
                parts[-1] = Node("/", (parts[-1], self.signed()))
            elif self.begins():
                mixed = len(parts) == 1 and parts[0].name == "number" and self.next[1] == "frac"
                parts.append(self.power())
                if mixed and parts[1].name == "/":
                    parts = [Node("mixed", tuple(parts))]
            else:
                return Node("*", tuple(parts)) if len(parts) > 1 else parts[0]

    def begins(self) -> bool:
        """Whether a factor begins here; a number does so after brackets alone: nobody multiplies by `1 2` or `x2`."""
        kind, text = self.next
        if kind == "number":
            return self.tokens[self.place - 1][1] in (")", "}")
        if kind == "sign":
            return text in ("(", "[", "{") or (text == "|" and not self.bars)
        return kind in ("command", "word") and text not in ("times", "cdot", "rfloor", "rceil")

    def signed(self) -> Node:
        return negated(self.power()) if self.take("-") else self.power()

    def power(self) -> Node:
        base = self.postfixed()
        if self.take("^"):
            return Node("^", (base, self.exponent()))
        return base

    def exponent(self) -> Node:
        self.depth += 1
        found = self.bracketed() or (negated(self.exponent()) if self.take("-") else self.power())
        self.depth -= 1
        return found

    def postfixed(self) -> Node:
        found = self.primary()
        while sign := self.take("!", "^\\circ"):
            found = Node(sign, (found,))
        return found

    def bracketed(self, *opening: str) -> Node | None:
        """What stands in brackets here, if there are any."""
        if (opened := self.take(*(opening or BRACKETS))) is None:
            return None
        bars, self.bars = self.bars, 0
        found = self.sum()
        self.bars = bars
        if not self.take(BRACKETS[opened]):
            raise UnreadableError("not closed")
        return found

    def primary(self) -> Node:
        if (found := self.bracketed()) is not None:
            return found
        kind, text = self.next
        self.place += 1
        if kind == "number" and not re.match(r"0\d", text):  # of a date
            return Node("number", value=Fraction(text))
        if text == "|":
            self.bars += 1
            inner = self.sum()
            self.bars -= 1
            if not self.take("|"):
                raise UnreadableError("not closed")
            return Node("abs", (inner,))
        if kind in ("command", "word"):
            return self.named(text)
        raise UnreadableError(text)

    def argument(self) -> Node:
        """What LaTeX takes for one: a group, a digit or a command."""
        if (found := self.bracketed("{")) is not None:
            return found
        kind, text = self.next
        if kind == "number" and text[1:] and text[0] != ".":  # \frac12
            self.tokens[self.place] = ("number", text[1:])
            return Node("number", value=Fraction(text[0]))
        return self.primary()

    def named(self, name: str) -> Node:
        if name == "frac":
            return Node("/", (self.argument(), self.argument()))
        if name in ("binom", "dbinom", "tbinom"):
            return Node("binom", (self.argument(), self.argument()))
        if name == "sqrt":
            degree = self.bracketed("[") or Node("number", value=Fraction(2))
            return Node("root", (self.bracketed("(", "{") or self.argument(), degree))
        for opening, closing in (("lfloor", "rfloor"), ("lceil", "rceil")):
            if name == opening:
                inner = self.sum()
                if not self.take(closing):
                    raise UnreadableError("not closed")
                return Node(opening, (inner,))
        if name in FUNCTIONS:
            return self.function(name)
        if name in CONSTANTS:
            return Node(name)
        if name in ("f", "g", "h", "F", "G") and self.next[1] == "(":
            raise UnreadableError("a function that nobody knows")
        if len(name) == 1 or name in LETTERS:
            index = self.take("_") and self.subscript()
            return Node(f"?{name}_{index}" if index else f"?{name}")
        raise UnreadableError(name)

    def subscript(self) -> str:
        opened, start = self.take("{"), self.place
        while opened and not self.take("}"):
            if self.next[0] == "end":
                raise UnreadableError("not closed")
            self.place += 1
        if not opened:
            self.place += 1
        return "".join(text for _, text in self.tokens[start : self.place - bool(opened)])

    def function(self, name: str) -> Node:
        r"""A function with its power (\sin^2 x), its base (\log_2 8) and what it is of (\sin 2x + 1: 2x)."""
        base = self.argument() if self.take("_") else None
        power = self.exponent() if self.take("^") else None
        inner = self.bracketed("(", "{", "[")
        if inner is None:
            parts = [self.signed()]
            while self.begins() and self.next[1] not in FUNCTIONS and self.next[1] not in "([{":
                parts.append(self.power())
            inner = Node("*", tuple(parts)) if len(parts) > 1 else parts[0]
        if power is not None and power.name == "neg" and power.inner[0].value == 1 and name in ("sin", "cos", "tan"):
            return Node(f"arc{name}", (inner,))
        found = Node(name, (inner,) if base is None else (inner, base))
        return found if power is None else Node("^", (found, power))


def letters(run: str, worded: bool) -> list[str]:
    """A run of letters: a function's or a constant's name, or letters that are multiplied. Where there is nothing else,
    and of more than two, only in alphabetical order: no two words of the same letters are read.
    """
    if run in FUNCTIONS or run == "pi":
        return [run]
    if (worded or len(run) > 2) and any(one >= other for one, other in pairwise(run)):
        raise UnreadableError(run)
    return [*run]


def negated(node: Node) -> Node:
    return Node("neg", (node,))


@lru_cache(maxsize=2**12)
def expression(text: str) -> Node | None:
    """The expression that a text in plain notation is, and nothing else."""
    if RANGE.fullmatch(text):
        return None
    try:
        return Reader(text).whole()
    except UnreadableError:
        return None
