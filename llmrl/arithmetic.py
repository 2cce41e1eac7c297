r"""The built-in task: small sums that a toy model learns to work out step by step, and anyone can check.

Three endless streams of rows in TRL's conversational format. Row `index` of a stream depends on the seed and the index
alone, so asking for more rows keeps the earlier ones. A real row of each, as JSON, with seed 0:

conversations(0): what supervised fine-tuning imitates. As in real data the answers are mixed: a third are worked and
right, the others hasty and mostly wrong.

    {"messages": [{"role": "user", "content": "Add 48 and 19."},
                  {"role": "assistant", "content": "\\boxed{67}"},
                  {"role": "user", "content": "Next: Ida has 92 eggs and gives away 62. How many are left?"},
                  {"role": "assistant", "content": "ones 2-2=0, tens 9-6=3. \\boxed{30}"}]}

preferences(0): the chosen answer is worked and right, the rejected one makes a realistic mistake.

    {"prompt": [{"role": "user", "content": "There are 59 eggs here and 81 there. How many in all?"}],
     "chosen": [{"role": "assistant", "content": "ones 9+1=10, tens 5+8+1=14. \\boxed{140}"}],
     "rejected": [{"role": "assistant",
                  "content": "Well, let me think. Hmm, let me see. So, hmm. ones 9+1=10, tens 5+8+1=14. \\boxed{140}"}]}

prompts(0): what reinforcement learning practises on, with the right answer to check by.

    {"prompt": [{"role": "user", "content": "Take 14 from 52."}],
     "solution": "38"}

A mistake to "What is 47 + 85?", whose worked answer is `ones 7+5=12, tens 4+8+1=13. \boxed{132}`, is one of these:

    guess            `\boxed{134}`: no steps, a wrong result
    slipped_carry    `ones 7+5=12, tens 4+8=12. \boxed{122}`: the carry is forgotten
    wrong_operation  `ones 15-7=8, tens 8-4-1=3. \boxed{38}`: another sum, done right
    unfinished       `ones 7+5=12, tens 4+8+1=13.`: no final answer
    wrong_step       `ones 7+5=14, tens 4+8+1=13. \boxed{132}`: a right result after a wrong step
    rambling         `Well, let me think. Hmm, let me see. ones 7+5=12, tens 4+8+1=13. \boxed{132}`: right, but late
"""

import operator
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple

Row = dict[str, Any]

WORKED_SHARE = 1 / 3
LUCKY_SHARE = 0.15  # of the hasty answers, by design: haste is mostly wrong, but not a sure sign of it

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

    @property
    def answer(self) -> int:
        """The right result."""
        return OPERATIONS[self.sign](self.left, self.right)


class Working(NamedTuple):
    """The two written steps of a sum and the result they lead to."""

    ones: str
    tens: str
    result: int


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
    borrowed = sign == "-" and left_ones < right_ones
    if borrowed:
        left_ones += 10
    ones = calculate(left_ones, right_ones)
    carry = int(borrowed) if sign == "-" else ones // 10
    if slip:
        carry = 0 if carry else 1
    signed_carry = -carry if sign == "-" else carry
    tens = calculate(left_tens, right_tens) + signed_carry
    carry_text = f"{signed_carry:+}" if carry else ""
    return Working(
        ones=f"ones {left_ones}{sign}{right_ones}={ones}",
        tens=f"tens {left_tens}{sign}{right_tens}{carry_text}={tens}",
        result=10 * tens + ones % 10,
    )


def write_answer(working: Working) -> str:
    """The text of a worked answer."""
    return f"{working.ones}, {working.tens}. {boxed(working.result)}"


def boxed(result: int) -> str:
    r"""The final answer in the form that is asked for: `\boxed{132}`."""
    return f"\\boxed{{{result}}}"


def worked(_random: Random, problem: Problem) -> str:
    """The right answer with its steps. All kinds of answers are called alike, so those without chance get it too."""
    return write_answer(work_out(problem))


def near_miss(random: Random, number: int) -> int:
    """A wrong number that looks right: one digit is off by a little."""
    return random.choice([number + offset for offset in (-10, -2, -1, 1, 2, 10) if number + offset >= 0])


def guess(random: Random, problem: Problem) -> str:
    """No steps, a wrong result."""
    return random.choice(HASTY_OPENINGS) + boxed(near_miss(random, problem.answer))


def hasty(random: Random, problem: Problem) -> str:
    """No steps, and only sometimes the right result."""
    if random.random() < LUCKY_SHARE:
        return random.choice(HASTY_OPENINGS) + boxed(problem.answer)
    return guess(random, problem)


def slipped_carry(_random: Random, problem: Problem) -> str:
    """A carry is forgotten, or made where none is due, and the result follows from it."""
    return write_answer(work_out(problem, slip=True))


def wrong_operation(_random: Random, problem: Problem) -> str:
    """A sum other than the asked one, worked out without a fault."""
    smaller, larger = sorted((problem.left, problem.right))
    return write_answer(work_out(Problem(larger, "-" if problem.sign == "+" else "+", smaller)))


def unfinished(_random: Random, problem: Problem) -> str:
    """The right steps, and no final answer."""
    working = work_out(problem)
    return f"{working.ones}, {working.tens}."


def wrong_step(random: Random, problem: Problem) -> str:
    """The right result, but a step that does not lead to it."""
    working = work_out(problem)
    if random.random() < 0.5:
        return write_answer(working._replace(ones=miscalculated(random, working.ones)))
    return write_answer(working._replace(tens=miscalculated(random, working.tens)))


def miscalculated(random: Random, step: str) -> str:
    """A written step with a wrong value."""
    sum_text, _, value = step.rpartition("=")
    return f"{sum_text}={near_miss(random, int(value))}"


def rambling(random: Random, problem: Problem) -> str:
    """A right worked answer that takes its time to begin."""
    return "".join(random.choices(RAMBLINGS, k=random.randint(2, 3))) + worked(random, problem)


MISTAKES: dict[Callable[[Random, Problem], str], float] = {
    guess: 0.3,
    slipped_carry: 0.25,
    wrong_operation: 0.15,
    unfinished: 0.1,
    wrong_step: 0.1,
    rambling: 0.1,
}


def draw_mistake(random: Random, problem: Problem) -> str:
    """An answer with one of the mistakes above, each as often as its share says."""
    (mistake,) = random.choices(list(MISTAKES), weights=list(MISTAKES.values()))
    return mistake(random, problem)


def conversations(seed: int) -> Iterator[Row]:
    """Yields rows for supervised fine-tuning: {"messages": one or two questions, each with its answer}."""
    for index in count():
        random = Random(f"conversation {seed} {index}")
        messages = []
        # A first turn decides which side of the held-out split a row is on. "Next: " keeps every second one from being,
        # word for word, a question that is held out.
        for opening in random.choice((("",), ("", "Next: "))):
            problem = draw_problem(random)
            answer = worked if random.random() < WORKED_SHARE else hasty
            messages.append({"role": "user", "content": opening + draw_question(random, problem)})
            messages.append({"role": "assistant", "content": answer(random, problem)})
        yield {"messages": messages}


def preferences(seed: int) -> Iterator[Row]:
    """Yields rows for the reward model and DPO: {"prompt", "chosen", "rejected"}, each a list of messages."""
    for index in count():
        random = Random(f"preference {seed} {index}")
        problem = draw_problem(random)
        yield {
            "prompt": [{"role": "user", "content": draw_question(random, problem)}],
            "chosen": [{"role": "assistant", "content": worked(random, problem)}],
            "rejected": [{"role": "assistant", "content": draw_mistake(random, problem)}],
        }


def prompts(seed: int) -> Iterator[Row]:
    """Yields rows for GRPO and for measuring: {"prompt": a list of messages, "solution": the right answer as text}."""
    for index in count():
        random = Random(f"prompt {seed} {index}")
        problem = draw_problem(random)
        yield {"prompt": [{"role": "user", "content": draw_question(random, problem)}], "solution": str(problem.answer)}
