"""Finding the final answer in a text, as it is marked."""

from __future__ import annotations

import time

import pytest

from llmrl.answers.final import KINDS, ends_marked, final, finals, gold


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{4}", "4"),
        (r"first \boxed{3}, no: \boxed{ 4 }.", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\boxed{4}}", r"\boxed{4}"),
        (r"\fbox{4}", "4"),
        (r"\boxed {4}", "4"),
        (r"\boxed4", "4"),
        (r"\boxed -1.5.", "-1.5"),
        (r"\\boxed{4}", "4"),
        (r"\boxed{$4$}", "4"),
        (r"\boxed{}", ""),
        (r"so -\boxed{4}", "-4"),
        (r"\boxed{4", None),
        (r"\boxed{3} or \boxed{4", None),
        (r"\boxed{3 and \boxed{4}", "4"),
        (r"\boxedabc{4}", None),
        ("so she has\n#### 72", "72"),
        ("so she has 72. #### 1,072", "1,072"),
        ("#### Step 1\nsum\n#### 72", "72"),
        ("#### Yes", "Yes"),
        ("##### 72", None),
        ("<answer>72</answer>", "72"),
        ("<answer>\n72\n</answer>", "72"),
        ("<answer>72", None),
        ("</answer>72", None),
        ("The answer is 72.", "72"),
        ("the final answer is: **72**", "72"),
        ("The answer to the question is 7.5. Well!", "7.5"),
        ("The answer to this sum is 7.5.", "7.5"),
        ("The answer for Paris is 2.", "2"),
        ("**Answer:** 72", "72"),
        ("**Final Answer**: $72$", "72"),
        ("Answer:\n72", "72"),
        ("The answers are 1 and 2.", "1 and 2"),
        ("<think>The answer is 5, so \\boxed{5}</think> It is \\boxed{6}", "6"),
        ("The answer is:\n\\[\n72\n\\]", "72"),
        ("The answer is 72, which is even.", "72"),
        ("The answer is 72, which may be 73.", "72, which may be 73"),
        ("The answer is 12 ft. 6 in.", "12 ft. 6 in"),
        ("The correct option is (C).", "(C)"),
        ("### Answer\n72", "72"),
        ("#### 72<|im_end|>", "72"),
        ("<answer>The answer is 72.</answer>", "72."),
        ("This answer is 72.", None),
        ("The answer is 72?", None),
        ("The answer is " + "x" * 400, None),
        ("answering is fun", None),
        ("4", None),
        ("", None),
    ],
)
def test_marks(text: str, expected: str | None) -> None:
    """The last mark of the first kind that there is holds the final answer, if it is closed."""
    assert expected == final(text)


@pytest.mark.parametrize(
    ("marks", "expected"),
    [(KINDS, "1"), (["hash", "boxed"], "2"), (["tag"], "3"), (["phrase", "hash"], "4"), ([], None)],
)
def test_the_setting(marks: list[str], expected: str | None) -> None:
    """Kinds are tried in the order of the setting, and others not at all."""
    assert expected == final("\\boxed{1}\n#### 2\n<answer>3</answer>\nThe answer is 4.", marks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{4}, that is \boxed{4}", ["4"]),
        (r"\boxed{3}, no: \boxed{4}", ["4", "3"]),
        (r"\boxed{} \boxed{4}", ["4"]),
        (r"\boxed{4} \boxed{}", []),
        (r"The answer is 3. No: \boxed{4}", ["4", "3"]),
        (r"The answer is 36 times 2. So \boxed{72}", ["72"]),
        ("#### 73\nso \\boxed{72}", ["72", "73"]),
        ("<answer>73</answer> \\boxed{72}", ["72", "73"]),
        ("<answer>73<answer>72</answer>", ["72", "73"]),
        (r"\boxed{\text{Answer: } 72}", [r"\text{Answer: } 72"]),
        (r"\boxed{4}. No, the answer is 3.", ["4", "3"]),
        (r"\boxed{4}. The answer is above.", ["4"]),
        ("The answer is an integer. The answer is 4.", ["4"]),
        ("The answer is 3. The answer is 4.", ["4", "3"]),
        ("The answer is yes. The answer is no.", ["no", "yes"]),
        (r"\boxed{A}. The answer is option B.", ["A", "option B"]),
        ("Answer: C\nThis answer is correct.", ["C"]),
        (r"\boxed{Yes}. The answer is clear.", ["Yes"]),
        (r"\boxed{Yes}. The answer is no.", ["Yes", "no"]),
        (r"\boxed{\pi}. The answer is 3.14.", ["\\pi", "3.14"]),
        ("#### Answer: 73\n#### 72", ["72", "73"]),
        ("none", []),
    ],
)
def test_all_final_answers(text: str, expected: list[str]) -> None:
    """What a text says besides, after its mark or by one of the same kind, counts against it."""
    assert expected == finals(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"It is \boxed{4}", True),
        (r"It is $\boxed{4}$.", True),
        (r"\[\boxed{4}\]" + "\n", True),
        (r"**\boxed{4}**", True),
        ("#### 72\n", True),
        ("<answer>72</answer>", True),
        ("The answer is 72.", True),
        ("The answer is 72. Bye", False),
        (r"\boxed{4} and so on", False),
        (r"\boxed{4}, as {x}", False),
        (r"\boxed{}", False),
        (r"\boxed{4", False),
        ("4", False),
    ],
)
def test_the_asked_format(text: str, expected: bool) -> None:
    """Nothing but the end of a formula or a sentence follows the answer."""
    assert expected == ends_marked(text)


def test_the_format_follows_the_setting() -> None:
    """Only the marks that are asked for are the format."""
    assert not ends_marked("#### 72", ["boxed"])
    assert ends_marked("#### 72", ["boxed", "hash"])


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("4", "4"),
        (" $4$ ", "4"),
        (r"$\frac{1}{2}$", r"\frac{1}{2}"),
        ("$5", "$5"),
        ("So it is\n" + r"\boxed{4}. " + "x" * 1000, "4"),
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May,\nso she has 72.\n#### 1,072", "1072"),
        ("so she has 72. #### 1,072", "1072"),
        ("1,234,567.5", "1234567.5"),
        ("1,2", "1,2"),
        ("…\nThe answer is 72.", "72"),
        ("<answer>B</answer>", "B"),
        ("", None),
        ("a proof\nof two lines", None),
        ("x" * 301, None),
        (r"\frac{1}{2", None),
        (r"\boxed{4", None),
    ],
)
def test_a_solution_gives_one_short_answer(solution: str, expected: str | None) -> None:
    """What is compared with is a solution's own mark, of any kind, or the solution itself where that is short."""
    assert expected == gold(solution)


@pytest.mark.parametrize(
    "piece",
    [
        *("\\boxed{", "{", "}", "\\", "answer is ", "answer: .", "answer to a ", "<answer>", "</answer>", "####", " "),
        *("#### x\n", "\\boxed{5}", "####a ", "**Answer:** ", "answers ", "\n", "$", "answer" + " " * 90, "box"),
        "\\boxed 1.1.1.1.",
    ],
)
def test_finding_is_linear(piece: str) -> None:
    """Ten thousand characters take each function less than a tenth of a second, whatever is repeated in them."""
    text = (piece * 10_000)[:10_000]
    times = []
    for _ in range(3):
        gold.cache_clear()
        began = time.process_time()
        finals(text), ends_marked(text), gold(text)
        times.append(time.process_time() - began)
    assert min(times) < 0.2  # of three functions
