r"""The built-in task: small sums that a toy model learns to work out step by step, and anyone can check.

Three endless streams of rows, as llmrl/data/rows.py has them. Row `index` of a stream depends on the seed and the index
alone, so asking for more rows keeps the earlier ones.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple

Row = dict[str, Any]

WORKED_SHARE = 1 / 3
LUCKY_SHARE = 0.15  # of the hasty answers, by design: haste is mostly wrong, but not a sure sign of it
# How often each is made. To "What is 47 + 85?" the worked answer is `ones 7+5=12, tens 4+8+1=13. \boxed{132}`, and the
# mistakes are:
MISTAKES = {
    "guess": 0.3,  # `\boxed{134}`: no steps, a wrong result
    "slipped_carry": 0.25,  # `ones 7+5=12, tens 4+8=12. \boxed{122}`: the carry is forgotten
    "wrong_operation": 0.15,  # `ones 15-7=8, tens 8-4-1=3. \boxed{38}`: another sum, done right
    "unfinished": 0.1,  # `ones 7+5=12, tens 4+8+1=13.`: no final answer
    "wrong_step": 0.1,  # `ones 7+5=14, tens 4+8+1=13. \boxed{132}`: a right result after a wrong step
    "rambling": 0.1,  # `Well, let me think. Hmm, let me see. ones 7+5=12, … \boxed{132}`: right, but late
}

OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
NAMES = ("Ana", "Ben", "Eva", "Ida", "Leo", "Max", "Mia", "Tom")
THINGS = ("apples", "books", "cards", "coins", "eggs", "keys", "nuts", "pens", "shells", "stamps")
WORDINGS = {
    "+": (
        "What is {left} + {right}?",
        "Add {left} and {right}.",
        "How much is {left} plus {right}?",
        "{name} has {left} {things} and gets {right} more. How many now?",
        "There are {left} {things} here and {right} there. How many in all?",
    ),
    "-": (
        "What is {left} - {right}?",
        "Take {right} from {left}.",
        "How much is {left} minus {right}?",
        "{name} has {left} {things} and gives away {right}. How many are left?",
        "Of {left} {things} {name} sells {right}. How many are left?",
    ),
    "*": (
        "What is {left} * {right}?",
        "Multiply {left} by {right}.",
        "How much is {left} times {right}?",
        "{name} fills {right} boxes with {left} {things} each. How many in all?",
        "One box holds {left} {things}. How many do {right} boxes hold?",
    ),
}
# The empty opening is the most frequent by far, so the most likely answer of all is a bare guess.
HASTY_OPENINGS = ("", "", "", "Easy: ")
RAMBLINGS = ("Hmm, let me see. ", "Well, let me think. ", "So, hmm. ")


class Problem(NamedTuple):
    """A sum to do: two whole numbers and a sign, which is one of + - *."""

    left: int
    sign: str
    right: int


class Working(NamedTuple):
    """The two written steps of a sum and the result they lead to."""

    steps: str
    result: int

    @property
    def answer(self) -> str:
        return f"{self.steps} {boxed(self.result)}"


def draw_problem(random: Random) -> Problem:
    """Draws a sum. Every answer has two or three digits, and no single slip makes one negative."""
    sign = random.choice("+-*")
    if sign == "-":
        left = random.randint(20, 99)
        return Problem(left, sign, random.randint(10, left - 10))
    return Problem(random.randint(10, 99), sign, random.randint(3, 9) if sign == "*" else random.randint(10, 99))


def draw_question(random: Random, problem: Problem) -> str:
    """Puts a sum into words: millions of different questions, most of them little stories."""
    wording = random.choice(WORDINGS[problem.sign])
    return wording.format(**problem._asdict(), name=random.choice(NAMES), things=random.choice(THINGS))


def work_out(problem: Problem, slip: bool = False) -> Working:
    """Works a sum out column by column; with a slip, a due carry is forgotten, or one is made that is not due."""
    (left_tens, left_ones), (right_tens, right_ones) = divmod(problem.left, 10), divmod(problem.right, 10)
    calculate, sign = OPERATIONS[problem.sign], problem.sign
    if sign == "*":
        right_tens = right_ones  # the one digit multiplies both columns
    carry = calculate(left_ones, right_ones) // 10  # -1 where a subtraction borrows
    if carry < 0:
        left_ones += 10
    ones = calculate(left_ones, right_ones)
    if slip:
        carry = 0 if carry else -1 if sign == "-" else 1
    tens = calculate(left_tens, right_tens) + carry
    carried = f"{carry:+}" if carry else ""
    steps = f"ones {left_ones}{sign}{right_ones}={ones}, tens {left_tens}{sign}{right_tens}{carried}={tens}."
    return Working(steps, 10 * tens + ones % 10)


def boxed(result: int) -> str:
    r"""The final answer in the form that is asked for: `\boxed{132}`."""
    return f"\\boxed{{{result}}}"


def answer(random: Random, problem: Problem, kind: str) -> str:
    """An answer to a sum: `worked` (right, with its steps), `hasty` (without, and only sometimes right), or with the
    mistake of that name, as above.
    """
    right = work_out(problem)
    match kind:
        case "worked":
            return right.answer
        case "hasty" | "guess":
            lucky = kind == "hasty" and random.random() < LUCKY_SHARE
            opening = random.choice(HASTY_OPENINGS)
            return opening + boxed(right.result if lucky else near_miss(random, right.result))
        case "slipped_carry":
            return work_out(problem, slip=True).answer
        case "wrong_operation":
            smaller, larger = sorted((problem.left, problem.right))
            return work_out(Problem(larger, "-" if problem.sign == "+" else "+", smaller)).answer
        case "unfinished":
            return right.steps
        case "wrong_step":
            ones, tens = re.finditer(r"(?<==)\d+", right.steps)
            value = ones if random.random() < 0.5 else tens
            wrong = near_miss(random, int(value[0]))
            steps = f"{right.steps[: value.start()]}{wrong}{right.steps[value.end() :]}"
            return right._replace(steps=steps).answer
        case "rambling":
            return "".join(random.choices(RAMBLINGS, k=random.randint(2, 3))) + right.answer
    raise ValueError(f"{kind} is no kind of answer")


def near_miss(random: Random, number: int) -> int:
    """A wrong number that looks right: one digit is off by a little."""
    return random.choice([number + offset for offset in (-10, -2, -1, 1, 2, 10) if number + offset >= 0])


def conversations(seed: int) -> Iterator[Row]:
    """Yields rows for supervised fine-tuning: {"messages": one or two questions, each with its answer}.

    As in real data the answers are mixed: a third are worked and right, the others hasty and mostly wrong.
    """
    for index in count():
        random = Random(f"conversation {seed} {index}")
        messages = []
        # A first turn decides which side of the held-out split a row is on. "Next: " keeps every second one from being,
        # word for word, a question that is held out.
        for opening in random.choice((("",), ("", "Next: "))):
            problem = draw_problem(random)
            kind = "worked" if random.random() < WORKED_SHARE else "hasty"
            messages.append({"role": "user", "content": opening + draw_question(random, problem)})
            messages.append({"role": "assistant", "content": answer(random, problem, kind)})
        yield {"messages": messages}


def preferences(seed: int) -> Iterator[Row]:
    """Yields rows for the reward model and DPO: {"prompt", "chosen", "rejected"}, each a list of messages.

    The chosen answer is worked and right, the rejected one makes a realistic mistake.
    """
    for index in count():
        random = Random(f"preference {seed} {index}")
        problem = draw_problem(random)
        prompt = [{"role": "user", "content": draw_question(random, problem)}]
        (mistake,) = random.choices(list(MISTAKES), weights=list(MISTAKES.values()))
        chosen = [{"role": "assistant", "content": answer(random, problem, "worked")}]
        rejected = [{"role": "assistant", "content": answer(random, problem, mistake)}]
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def prompts(seed: int) -> Iterator[Row]:
    """Yields rows for GRPO and for measuring: {"prompt": a list of messages, "solution": the right result as text}."""
    for index in count():
        random = Random(f"prompt {seed} {index}")
        problem = draw_problem(random)
        prompt = [{"role": "user", "content": draw_question(random, problem)}]
        yield {"prompt": prompt, "solution": str(work_out(problem).result)}
