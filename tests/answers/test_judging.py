"""Telling whether an answer is right: by what answers are, on threads, with no mathematics where none is needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from llmrl.answers.judging import right

RIGHT = {  # gold answers, and what else is right
    "4": [
        "004",
        "+4",
        "4.0",
        "4.",
        "$4$",
        "x = 4",
        "= 4",
        "(4)",
        "{4}",
        "four",
        "4 \\text{ apples}",
        "**4**",
        "x=2+2=4",
    ],
    "1000": ["1e3", "1,000", "1{,}000", "1,\\!000", "1\\,000", "1 000", "10^3", "1 \\times 10^{3}", "1 thousand"],
    "300000000": ["3 \\times 10^{8}", "3e8", "3·10⁸", "300 million", "300,000,000"],
    "132": ["132.", "€132", "\\$132", "132 apples", "132~\\text{km}", "\\approx 132", "132 \\text{ square meters}"],
    r"$\frac{1}{2}$": ["0.5", "1/2", r"\frac12", r"\dfrac{1}{2}", "½", ".5", "1:2"],
    r"-\frac{3}{2}": [r"\frac{-3}{2}", r"-1\frac{1}{2}", "-1 1/2", "-1.5"],
    "90": ["90^{\\circ}", "90^\\circ", "90°", "90 degrees"],
    "90^{\\circ}": ["90", "90°"],
    "50\\%": ["50%", "50", "0.5", "\\frac{1}{2}", "50 percent"],
    "0.5": ["50%"],
    "50": ["50\\%"],
    "5 \\text{ m}": ["5", "5 meters", "5 \\text{m}"],
    "60 km/h": ["60 kilometers per hour", "60\\text{ km/h}"],
    r"0.\overline{3}": ["1/3", r"0.\bar{3}", "0.333..."],
    r"2\sqrt{3}": [r"2 \cdot \sqrt{3}", "2√3", "2*sqrt(3)", r"2\sqrt3 \text{ cm}", r"\sqrt{3} \cdot 2"],
    r"\frac{\sqrt{2}}{2}": [r"\frac{1}{\sqrt{2}}", r"\sqrt{2}/2"],
    r"\frac{\pi}{4}": ["pi/4", "π/4", r"\frac{1}{4}\pi"],
    "x+1": ["1+x", "1 + x", "(x+1)"],
    "x^2+2x+1": ["(x+1)^2", "2x + x^2 + 1", "x**2 + 2*x + 1"],
    "y=2x+1": ["2x+1", "y = 1 + 2x", "y - 2x = 1", "2x - y + 1 = 0"],
    "x=5": ["5", "x = 5", "x=10/2=5"],
    "(1,2)": ["(1, 2)", "1, 2", r"\left(1, 2\right)", "(x,y)=(1,2)"],
    r"\{1,2\}": [r"\{2, 1\}", "1, 2", "2 and 1", "x = 1 or x = 2", "x=1, x=2"],
    r"\pm 3": ["3, -3", "-3 and 3", r"x = \pm 3", r"\{-3, 3\}"],
    r"3 \pm \sqrt{2}": [r"3-\sqrt2, 3+\sqrt{2}"],
    r"(3,\infty)": ["x > 3", "3 < x", r"x \in (3, \infty)", r"(3,+\infty)"],
    r"(1,2]": [r"1 < x \le 2", r"2 \ge x > 1"],
    r"x \geq 3": [r"[3,\infty)", "x>=3", "x ≥ 3"],
    r"(-\infty,1)\cup(3,\infty)": ["x<1 or x>3", r"(3,\infty) \cup (-\infty,1)"],
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": [r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"],
    "A": ["A.", "(A)", r"\text{A}", "A: 12 apples", "a", "A) 12", "option A", r"\textbf{(A) }12"],
    "A: 12 apples": ["A", "(A)"],
    "Yes": ["yes", r"\text{yes}", "Yes.", "**YES**"],
    "3:30 PM": ["15:30", "3:30 p.m.", "3:30", "03:30 PM"],
    "3:4": ["3 : 4", "3/4", r"\frac34", "3 to 4"],
    "3+4i": ["4i + 3"],
    r"\infty": ["∞", r"+\infty", "infinity"],
    r"\emptyset": [r"\varnothing", r"\{\}"],
}
WRONG = {
    "6": ["{" * 12 + "5" + "}" * 12, "5"],
    "132": [
        "47 + 85",
        "47+85=132",
        "132 or 133",
        "132, 133",
        "264/2",
        "132 thousand",
        "132 is wrong",
        "132!",
        "[131,133]",
    ],
    "12": ["1 2", "1{,}2", "3 \\cdot 4", "twelve or so", "12x"],
    "5": [
        "4=5",
        "5=5",
        "2+3=5",
        "x=5=6",
        "5x",
        "-5",
        "",
        "NaN",
        "\\phantom{5}",
        "５",
        "5\u200b",
        "٥",
        "x=2+3",
        "5 = x + 0",
    ],
    "4": ["2+2", "\\sqrt{4}", "2^2", "4" * 301, "Yes", "4.001", "8/2", "\\frac{8}{2}", "4:1"],
    "5 \\text{ m}": ["5 \\text{ cm}", "500 \\text{ cm}"],
    "1/2^{99}": ["1/2^98", "0"],
    r"\frac{1}{2}": ["0.51", r"\frac{2}{4}", "2/4", "0.5000000000000000000001", "1 2"],
    "1/3": ["0.333", "0.333..."],
    r"\pi": ["3.14159", "22/7", r"\pi + 10^{-25}"],
    r"2\sqrt{3}": [r"\sqrt{12}", "3.4641016151377544", r"2\sqrt{3}+10^{-29}"],
    r"\frac{\pi}{4}": [r"\arctan 1"],
    "0.5": ["5%", "0.5%"],
    "x+1": ["x+2", "y+1", "X+1"],
    "x=5": ["x=6", "y=5", "2x=10", "5=6"],
    "|x|": ["x", "-x"],
    "(1,2)": ["(2,1)", "[1,2]", r"\{1,2\}", "(1,2,3)"],
    r"\{1,2\}": ["(1,2)", "1,2,2", "1", "1,3"],
    r"\pm 3": ["3", "-3"],
    r"\infty": [r"-\infty", "10^{99}"],
    "A": ["B", "A or B", "A, B", "A B C D", "A: 12, B: 13", "\u0410", "(A)(B)"],
    "Yes": ["No", "esy", "Yes or no", "Yes, no", "4"],
    "True": ["False"],
    "3:30 PM": ["3:30 AM", "3:31 PM", "3"],
    "3:4": ["6:8", "4:3", "3:4:5"],
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": [r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", "(1,2,3,4)"],
    "proof\nproof": ["4"],
}


AS_IN_DATA_SETS = {  # gold answers as data sets have them, and what models answer
    r"9.8 \mathrm{~m} / \mathrm{s}^{2}": ["9.8", r"9.8 \text{ m/s}^2", "9.8 m/s²"],
    "60": [
        r"\$60 \text{ per day}",
        r"60 \text{ apples left}",
        r"\$60/day",
        "60 bags of apples",
        r"60 \text{ more}",
        "60元",
    ],
    "72": [r"\text{Answer: } 72", r"\color{blue}{72}", r"\Large 72", r"\therefore 72", r"\boxed{72}", "f(2) = 72"],
    "204": [r"204 \pmod{1000}", r"\mathbf{(D)}\ 204", "D) 204", "f^{-1}(2) = 204"],
    r"25^\circ \text{C}": ["25°C", r"25 \text{ degrees Celsius}"],
    r"\frac{14}{3}": [r"\frac{14}{3} \approx 4.67", r"x = \frac{14}{3} \approx 4.667", r"4\tfrac23", r"14\over 3"],
    "4.67": [r"\frac{14}{3} \approx 4.67"],
    r"x \in [-2,7]": ["[-2,7]", r"-2 \le x \le 7", r"\{x \mid -2 \le x \le 7\}"],
    r"\{x \mid x > 2\}": ["x>2", r"(2,\infty)", r"\{x: x > 2\}"],
    r"\mathbb{R}": [r"(-\infty,\infty)", "ℝ", r"\text{all real numbers}", r"x \in \mathbb R"],
    r"\mathbb{Z}": [r"\mathbb Z", "ℤ"],
    r"n \cdot 2^{n-1}": ["n2^{n-1}", "2^{n-1}n"],
    r"x \equiv 7 \pmod{12}": [r"x\equiv7\pmod{12}", r"7 \pmod{12}", r"x \equiv 7 \bmod 12"],
    r"\binom{n}{k}": [r"{n \choose k}", r"\dbinom nk", r"\frac{n!}{k!(n-k)!}"],
    "(n-1)!": [r"\frac{n!}{n}"],
    r"k\pi": [r"k\pi, k \in \mathbb{Z}", r"k \pi \text{ for all integers } k"],
    r"(3,\pi)": [r"(r,\theta)=(3,\pi)"],
    "x = 3, y = 4": ["(x,y)=(3,4)", r"\begin{cases} x = 3 \\ y = 4 \end{cases}", "(3,4)"],
    r"\text{no solution}": [r"\text{No solutions}", "There is no solution."],
    "20": ["20 gallons needed", r"20\text{ cups of feed}", r"\$20\text{ saved}", "20 flowers per bed", "20 per family"],
    r"5 \text{ m}": ["5m"],
    r"5 \text{ apples}": [r"5 \text{ apples left}"],
    r"\frac{3}{4}": ["three-fourths"],
    "(0,1)": ["]0,1["],
    "-5": ["minus 5"],
    "5": ["USD 5", r"5 \text{ USD}"],
    r"\sqrt{2}": ["√(2)"],
    r"\chi+1": ["χ + 1"],
    r"5 \text{ m}^2": [r"5 \text{ meters squared}"],
    r"5 \text{ per cent}": ["5 percent"],
    r"10 \text{ cm}^2": ["10 (cm^2)"],
    r"5 \Omega": [r"5 \text{ ohms}"],
    "ellipse": ["an ellipse", "Ellipse"],
    r"\text{H}_2\text{O}": ["H_2O", "H₂O"],
    "1:20": ["1 to 20", r"\frac{1}{20}"],
    r"\sqrt{ab}": [r"\sqrt a \sqrt b"],
    "Yes": ["Yes, it converges", "Yes (n=3)"],
    "No": ["No, it is not."],
    "12": [
        "12 red marbles",
        "12 shaded squares",
        "12 even numbers",
        "12 points",
        r"\text{Total cost: } \$12",
        "12 sq. ft.",
    ],
    "C": ["C - Paris", "C, Paris", "[C]", "C. Vitamin C", r"C \text{ (5)}"],
    "(C) 5": ["5", "C", "(C)"],
    "July 4": ["July 4th"],
    r"\frac{7}{3}": [r"\frac{7}{3}=2\frac{1}{3}"],
    "25%": [r"25\% \text{ increase}"],
    "3:4": ["a:b=3:4"],
    r"-\frac{1}{2}": ["-(1/2)", r"-\left(\frac{1}{2}\right)", "(-1)/2"],
    "i": ["i", "(i)"],
    r"\begin{pmatrix}1\\2\end{pmatrix}": [
        r"\begin{bmatrix}1\\[4pt]2\end{bmatrix}",
        r"\mathbf{v} = \begin{pmatrix}1\\2\end{pmatrix}",
    ],
}
FOOLED = {  # what a reader of the code found that it took for right
    "A": ["(a) or (b)", "(A) or any other option"],
    "(a) 5, (b) 7": ["(a) 6, (b) 7"],
    "(A) 5, (B) 7": ["(A) 1, (B) 1"],
    "a) 5": ["a) 6"],
    "E. coli": ["E. faecalis"],
    "a:b=2:3": ["a:b=3:2"],
    "(a)(b+c)": ["(a)(b-c)"],
    "-1, 4": [r"-1 \le x \le 4", r"x \in [-1,4]"],
    r"x \in [-2,7]": ["-2, 7"],
    "|x-3|": ["3-x"],
    "|x+y|": ["|x|+|y|"],
    r"\sqrt{x^2-6x+9}": ["3-x"],
    r"\lfloor n/5 \rfloor": [r"\lfloor n/100\rfloor"],
    r"\lfloor x \rfloor": [r"\lceil x\rceil-1"],
    "10/24/2002": ["5/12/2002"],
    "mW": ["MW"],
    "ax+b": ["aX+B"],
    "AaBb": ["AABB"],
    "a > b": ["c > b"],
    "x<5, y<3": ["y<5, x<3"],
    "5": ["5 crores", "5 mil", "5 doubled", "5 tenfold", "5 possibly"],
    "3:4": [r"0.75\%"],
    "1/2": [r"-\frac{-1}{2}"],
    r"2\pi": [r"\frac{3\pi}{1.5}", r"\frac{2\pi^2}{\pi}", r"\sqrt{4\pi^2}", r"\pi\div\frac12"],
    r"2\sqrt3": [r"2\sqrt[4]{9}"],
    r"x = \frac{\pi}{4}": [r"4x=\pi"],
    r"\frac{\pi}{4}": [r"\frac{\pi}{4}^\circ"],
    "(1,2)": ["(y,x)=(1,2)"],
    "P(A)": ["AP"],
    "2.5": [r"2+0.5 \approx 2.5", r"2.46 \approx 2.5"],
    "3": ["three quarters", "3 tenths"],
    r"k\pi": [r"k\pi \text{ for all but three}"],
    "x<2 or x>3": ["y<2 or z>3"],
    "132": ["wrong: 132", r"\not=132", '"131 or" = 132', "132 mod 7"],
    r"\pi x": [r"\pi x+10^{-400}"],
    "x+1": [r"x+1+(\pi-3.14159265358979)^{30}"],
    "Kelvin": ["\u212aelvin"],
    "I": ["\u0131"],
}


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(gold, answer) for gold, answers in table.items() for answer in answers]


@pytest.mark.parametrize(("gold", "answer"), pairs(RIGHT) + pairs(AS_IN_DATA_SETS))
def test_equal_answers_are_right(gold: str, answer: str) -> None:
    """An answer is right if it is the same number, mathematics or words, however it is written."""
    assert right(rf"So \boxed{{{answer}}}.", gold)


@pytest.mark.parametrize(("gold", "answer"), pairs(WRONG) + pairs(FOOLED))
def test_other_answers_are_wrong(gold: str, answer: str) -> None:
    """An answer that differs, leaves something to reckon, or cannot be compared, is not right."""
    assert not right(rf"So \boxed{{{answer}}}.", gold)


def test_only_a_marked_answer_is_right() -> None:
    """A right number without a mark is no final answer; nor is one whose mark is not asked for."""
    assert not right("So 4.", "4")
    assert right("#### 4", "4")
    assert not right("#### 4", "4", ["boxed"])
    assert not right(r"\boxed{4}", r"\boxed{4")


def test_two_final_answers_are_wrong() -> None:
    """Whichever of them is right."""
    assert not right(r"\boxed{3}, no: \boxed{4}", "4")
    assert not right(r"\boxed{4}. No, the answer is 3.", "4")
    assert right(r"\boxed{4.0}, that is \boxed{4}", "4")


@pytest.mark.parametrize(
    "answer",
    [
        *("9^{9^{9}}", "10^{10000000}", "2**99999999", "99999999!", "((9^{99})^{99})^{99}", "{9^{99}}^{99}"),
        *(r"\binom{1000000}{500000}", r"\sum_{n=1}^{99} n", r"e^{e^{e^{e^{9}}}}", "(" * 149 + "x" + ")" * 148),
        "1+" * 148 + "1",
    ],
)
def test_what_explodes_is_compared_as_text(answer: str) -> None:
    """What would cost more than an instant to compute is right only if it is written like the solution."""
    assert not right(rf"\boxed{{{answer}}}", "4x")
    assert right(rf"\boxed{{{answer}.}}", answer)  # another text, the same notation


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        *((answer, "5") for answer in (r"52! \approx 8.06", r"10^{99} \approx 1.5", r"\frac{1}{10^{99}} \approx 0.0")),
        (r"2^{2000} \approx 1.1", "2^{2000}"),
        ("y+x=10^{99}", r"y = \sin x"),
        ("x^2+y^2=10^{99}", r"x^2+y^2=\pi"),
        ("i = y", "y - 100! = 0"),
        ("x^" + "-" * 95 + "y", "x"),
        ("1/" * 49 + "x", "x"),
    ],
)
def test_what_is_too_large_is_wrong(answer: str, gold: str) -> None:
    """A value that cannot be told from others ends in no exception."""
    assert not right(rf"\boxed{{{answer}}}", gold)


def test_judging_on_threads() -> None:
    """With no timer, which would need the main thread, and with an arithmetic of its own on each."""
    table = [(rf"\boxed{{{n}\sqrt{{2}} + {n}}}", rf"{n} + {n}\sqrt{{2}}") for n in range(3, 200)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda pair: right(*pair), table))
        assert not any(threads.map(lambda pair: right(pair[0], pair[1] + "+10^{-29}"), table))


def test_plain_answers_need_no_mathematics(python) -> None:
    """Numbers, equal texts and words are compared without importing any library of mathematics."""
    code = """
import sys
from llmrl.answers.judging import right
assert right(r"\\boxed{4}", "04") and right(r"\\boxed{(1, 2)}", "(1,2)") and not right(r"\\boxed{no}", "Yes")
assert right(r"\\boxed{0.5}", "1/2") and right(r"\\boxed{x+1}", "1+x")
assert not {"mpmath", "sympy", "torch"} & set(sys.modules)
assert right(r"\\boxed{sqrt(2)*2}", r"2\\sqrt{2}")
assert "mpmath" in sys.modules and "sympy" not in sys.modules
"""
    done = python("-c", code)
    assert (0, "") == (done.returncode, done.stderr)
