"""Finding the final answer in a text, and telling whether it is right."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmrl.answers.final import final, gold
from llmrl.answers.judging import ends_boxed, modest, right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{4}", "4"),
        (r"first \boxed{3}, no: \boxed{ 4 }.", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{}", ""),
        (r"\boxed{4", None),
        (r"\boxed{3} or \boxed{4", None),
        ("4", None),
        ("", None),
    ],
)
def test_the_last_box_holds_the_answer(text, expected):
    r"""The final answer is what the last \boxed{} holds, if it is closed."""
    assert expected == final(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"It is \boxed{4}", True),
        (r"It is $\boxed{4}$.", True),
        (r"\[\boxed{4}\]" + "\n", True),
        (r"\boxed{4} and so on", False),
        (r"\boxed{4}, as {x}", False),
        (r"\boxed{4", False),
        ("4", False),
    ],
)
def test_the_asked_format_ends_with_the_box(text, expected):
    """Nothing but the end of a formula or a sentence may follow the box."""
    assert expected == ends_boxed(text)


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("4", "4"),
        (" $4$ ", "4"),
        (r"$\frac{1}{2}$", r"\frac{1}{2}"),
        ("So it is\n" + r"\boxed{4}. " + "x" * 1000, "4"),
        ("", None),
        ("a proof\nof two lines", None),
        ("x" * 301, None),
        (r"\frac{1}{2", None),
        (r"\boxed{4", None),
    ],
)
def test_a_solution_gives_one_short_answer(solution, expected):
    """What is compared with is a solution's box, or else the solution itself, where that is one short answer."""
    assert expected == gold(solution)


@pytest.mark.parametrize(
    ("answer", "solution"),
    [
        ("4", "4"),
        ("004", "4"),
        ("+4", "4"),
        ("4.0", "4"),
        ("1e3", "1000"),
        ("1,000", "1000"),
        ("0.5", r"$\frac{1}{2}$"),
        (r"\frac12", "1/2"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        ("1+x", "x+1"),
        ("(1, 2)", "(1,2)"),
        (r"\{2, 1\}", r"\{1,2\}"),
        ("true", "True"),
        (r"\text{yes}", "Yes"),
        ("$4$", "4"),
        ("2^{10}", "1024"),
        (r"\sqrt{4}", "2"),
    ],
)
def test_equal_answers_are_right(answer, solution):
    """An answer is right if it is the same mathematics or the same words, however it is written."""
    assert right(rf"So \boxed{{{answer}}}.", solution)


@pytest.mark.parametrize(
    ("answer", "solution"),
    [
        ("5", "4"),
        ("-4", "4"),
        ("4.001", "4"),
        ("", "4"),
        ("0.51", r"$\frac{1}{2}$"),
        ("(2,1)", "(1,2)"),
        ("No", "Yes"),
        ("False", "True"),
        ("esy", "Yes"),
        ("4", "Yes"),
        ("x+2", "x+1"),
        ("4" * 301, "4"),
        ("4", "proof\nproof"),
        (r"\frac{1}{", "4"),
    ],
)
def test_other_answers_are_wrong(answer, solution):
    """An answer that differs, or that cannot be compared, is not right."""
    assert not right(rf"So \boxed{{{answer}}}.", solution)


def test_only_a_boxed_answer_is_right():
    """A right number outside a box is no final answer."""
    assert not right("So 4.", "4")


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9}}",
        "10^{10000000}",
        "2**99999999",
        "99999999!",
        "(x+1)^{1000}",
        "{9^{99}}^{99}",
        "((9^{99})^3)^3",
        r"\binom{1000000}{500000}",
        r"\sum_{n=1}^{99} n",
        "(a+b)(a+c)(a+d)(a+e)(a+f)(a+g)(a+h)",
        "1+" * 60 + "1",
    ],
)
def test_an_answer_that_could_explode_is_compared_as_text(answer):
    """What would cost more than an instant to compute is right only if it is written like the solution."""
    assert not modest(answer)
    assert not right(rf"\boxed{{{answer}}}", "4")
    assert right(rf"\boxed{{{answer}}}", answer)


def test_judging_has_no_timer():
    """math-verify's timers need the main thread, and what they cut off depends on the machine."""
    with ThreadPoolExecutor() as threads:
        assert threads.submit(right, r"\boxed{0.5}", r"\frac{1}{2}").result()


def test_no_text_raises():
    """Whatever a model writes, it is judged."""
    generator = random.Random(1)
    pieces = [*r"{}()[]^_$%&\|!,;:=<>+-*/ .1279xyZeé中", "\ud800", "\n", "\0", r"\frac{", r"\sqrt", r"\sin", r"\text{"]
    pieces += [r"\boxed{", r"\left(", r"\right)", r"\begin{pmatrix}", r"\\", r"\infty", r"\pi", "Yes", "99", "^{", "}"]
    judged = set()
    for _ in range(400):
        text = "".join(generator.choices(pieces, k=generator.randint(0, 16)))
        solution = generator.choice(["4", r"\frac{1}{2}", "(1,2)", "Yes", text, text[::-1], ""])
        judged.add(right(rf"\boxed{{{text}}}", solution))
        ends_boxed(text)
    assert {True, False} == judged


def test_plain_answers_need_no_mathematics(python):
    """Whole numbers, equal texts and words are compared without importing math-verify."""
    code = """
import sys
from llmrl.answers.judging import right
assert right(r"\\boxed{4}", "04") and right(r"\\boxed{(1, 2)}", "(1,2)") and not right(r"\\boxed{no}", "Yes")
assert not {"math_verify", "sympy", "torch"} & set(sys.modules)
assert right(r"\\boxed{0.5}", "1/2")
assert "math_verify" in sys.modules
"""
    done = python("-c", code)
    assert (0, "") == (done.returncode, done.stderr)
