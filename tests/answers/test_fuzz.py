"""Strings that nobody thought of: each is judged, in bounded work, and alike in any process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from attacks import ATTACKS
from rewritings import rewritings

from llmrl.answers.final import ends_marked, final, gold
from llmrl.answers.judging import right, same_answer

LIMIT = 0.1  # seconds of CPU, where `work` takes as many as WORK
WORK = 0.0082
LONGEST = 10_000
PIECES = [
    *"{}()[]^_$%&\\|!,;:=<>+-*/ .'\"0123579xyZeiAB",
    *("\ud800", "\n", "\0", "é", "中", "\u200b", "½", "²", "π", "√", "°", "−", "\r", "\u0663"),
    *(rf"\{name}{{" for name in ["frac", "sqrt", "text", "boxed", "overline", "binom", "mathrm", "phantom"]),
    *(rf"\{name} " for name in ["frac", "sqrt", "sin", "ln", "tan", "exp", "pi", "pm", "cup", "le", "in"]),
    *(rf"\{name} " for name in ["cdot", "times", "infty", "ldots", "lfloor", "rfloor"]),
    *(r"\left(", r"\right)", r"\begin{pmatrix}", r"\end{pmatrix}", r"\\", r"\{", r"\}", r"^\circ", r"\log_", r"\sqrt["),
    *(
        "####",
        "<answer>",
        "</answer>",
        "</think>",
        "The answer is ",
        "Answer: ",
        " or ",
        " and ",
        " cm",
        " apples",
        "Yes",
    ),
    *(r"\approx ", "4.67", "10^{99}", "x=", "y+x=", r"\ne ", r"\mod ", "52!", "0." + "0" * 40 + "1", " : "),
    *("100!", "9^{99}", "10^{", "^{", "e^{", "1,000", "3:30 PM", "99", "0.333...", "million", "twenty", "}{", "]("),
]
NESTED = [
    "()",
    "{}",
    "[]",
    "||",
    r"\frac{ }{2}",
    r"\sqrt{ }",
    "x^{ }",
    r"\sin( )",
    "e^{ }",
    r"\left( \right)",
    "( +1)^2",
]
NESTED += [r"1+\frac{1}{ }", r"\text{ }", r"\ln( +x)", "-( )", r"\boxed{ }", r"\{ \}", "x_{ }", r"\{1, \}", "(x+i)^{ }"]


def strings(seed: int) -> Iterator[tuple[str, str]]:
    """Texts and gold answers without end: by grammar, by repetition, by nesting, by mutation of real answers."""
    random = Random(seed)
    real = [text for _, text, _ in rewritings(seed)] + [text for pairs in ATTACKS.values() for text, _ in pairs]
    golds = [gold(solution) or "4" for _, _, solution in rewritings(seed)]

    def made() -> str:
        match random.randrange(6):
            case 0:
                return "".join(random.choices(PIECES, k=random.randint(0, 40)))
            case 1:
                piece = "".join(random.choices(PIECES, k=random.randint(1, 4)))
                return piece * random.randint(1, LONGEST // len(piece))
            case 2:
                opening, _, closing = random.choice(NESTED).partition(" ")
                opening, closing = (opening, closing) if closing else (opening[0], opening[1])
                depth = random.choice([1, 2, 3, 5, 8, 11, 13, 20, 50, 150, 1000])
                return opening * depth + random.choice(golds) + closing * depth
            case kind:
                letters = list(random.choice(golds if kind < 5 else real))
                for _ in range(random.randint(1, 6)):
                    place = random.randint(0, len(letters))
                    match random.randrange(3):
                        case 0:
                            letters[place:place] = random.choice(PIECES)
                        case 1:
                            del letters[place : place + 1]
                        case 2:
                            letters[place:place] = letters[: random.randint(0, len(letters))]
                return "".join(letters) * (random.randint(1, 40) if kind == 4 else 1)

    while True:
        text = made()[:LONGEST]
        solution = random.choice([random.choice(golds), made()[:300], text[:300]])
        yield (text if random.random() < 0.2 else rf"\boxed{{{text}}}"), solution


def judged(text: str, solution: str) -> tuple[float, list[object]]:
    """Seconds of CPU, and all that is said of a text."""
    began = time.process_time()
    verdict = [right(text, solution), ends_marked(text), final(text), gold(solution)]
    return time.process_time() - began, verdict


def work() -> float:
    """Seconds of CPU that a fixed piece of work takes here."""
    began = time.process_time()
    sum(number * number % 7 for number in range(200_000))
    return time.process_time() - began


def slow(text: str, solution: str) -> bool:
    """Whether it takes too long thrice, with nothing remembered: once may be the machine's fault. On a slower machine
    it may take longer.
    """
    limit = LIMIT * max(1.0, min(work() for _ in range(5)) / WORK)

    def again() -> float:
        for function in (gold, same_answer):
            function.cache_clear()
        return judged(text, solution)[0]

    return all(again() > limit for _ in range(3))


def fuzz(seed: int, count: int) -> str:
    """Judge so many strings; a hash of all that is said."""
    said, verdicts = hashlib.sha256(), set()
    judged(r"\boxed{\sqrt{2}x}", r"\sqrt{3}x")  # imports the arithmetic
    for (text, solution), _ in zip(strings(seed), range(count), strict=False):
        seconds, verdict = judged(text, solution)
        assert verdict[0] in (True, False)
        assert seconds < LIMIT or not slow(text, solution), (text[:300], solution)
        verdicts.add(verdict[0])
        said.update(repr(verdict).encode("utf-8", "surrogatepass"))
    assert verdicts == {True, False}
    return said.hexdigest()


def test_some_strings() -> None:
    """Three thousand of them."""
    fuzz(1, 3_000)


@pytest.mark.slow
def test_many_strings() -> None:
    """A hundred thousand of them."""
    fuzz(2, 100_000)


def test_verdicts_are_the_same_in_any_process(python) -> None:
    """Whatever was judged before, and however sets are ordered, of which each process has an order of its own."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_fuzz; print(test_fuzz.fuzz(3, 500))"
    fuzz(4, 200)
    assert [f"{fuzz(3, 500)}\n"] * 2 == [python("-c", code).stdout for _ in range(2)]
