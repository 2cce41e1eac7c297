"""What judging answers costs, and whether it is right: `python -m bench.judge [--labels FILE]`.

    our judge, math-verify alone, our judge, …

math-verify is asked as TRL's `accuracy_reward` asks it, with its own time-outs; for plain strings the other is exact
match with what the box holds. Prints judgements a second on one core, the medians over pairs, and their ratio. What is
judged differs each time, so that nothing is remembered. Then how many of the attacks and honest rewritings of
tests/answers each judges wrongly, and with `--labels` (GSM8K's model solutions with `is_correct`, a JSON object a line)
how often our verdict is that of the label, with the last line's answer marked in each way.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from llmrl.answers.judging import right

Judge = Callable[[str, str], bool]
Rows = list[tuple[str, str]]

WORKING = "ones 7+5=12, tens 4+8+1=13. "
MARKED = {
    "boxed": r"{steps}\boxed{{{answer}}}",
    "hash": "{steps}\n#### {answer}",
    "tag": "{steps}\n<answer>{answer}</answer>",
    "phrase": "{steps}\nThe answer is {answer}.",
}
KINDS = {  # of answers: text and gold, of numbers that differ each time, and how many are judged at once
    "a plain number, right": ("%(a)s", "%(a)s", 40_000),
    "a plain number, wrong": ("%(a)s", "%(b)s", 40_000),
    "a fraction, wrong": (r"\frac{%(a)s}{%(b)s}", r"\frac{%(b)s}{%(c)s}", 800),
    "a root, wrong": (r"%(a)s\sqrt{%(b)s}", r"%(b)s\sqrt{%(c)s}", 300),
    "a polynomial, right": ("%(a)sx^2+%(b)sx", "%(b)sx+%(a)sx^2", 300),
    "a number with its unit": (r"%(a)s \text{ km}", "%(a)s", 800),
}


def by_math_verify(text: str, solution: str) -> bool:
    """As TRL does it."""
    from math_verify import LatexExtractionConfig, parse, verify

    expected = parse(solution) or parse(f"${solution}$")
    return bool(verify(expected, parse(text, extraction_config=[LatexExtractionConfig(boxed_match_priority=0)])))


def by_match(text: str, solution: str) -> bool:
    """As one would for plain strings."""
    found = re.findall(r"\\boxed\{([^{}]*)\}", text)
    return bool(found) and found[-1] == solution


def rows(text: str, solution: str, count: int, random: Random) -> Rows:
    """Texts with such an answer, and gold answers."""
    numbers = [{letter: random.randint(10, 9999) for letter in "abc"} for _ in range(count)]
    return [(rf"{WORKING}\boxed{{{text % one}}}", solution % one) for one in numbers]


def rate(judge: Judge, pairs: Rows) -> float:
    """Judgements a second of CPU."""
    began = time.process_time()
    for text, solution in pairs:
        judge(text, solution)
    return len(pairs) / (time.process_time() - began)


def compared(name: str, other: Judge, kind: tuple[str, str, int], pairs: int, few: int | None = None) -> str:
    """Our judgements a second, those of another judge on the first few of the rows, and the median of their ratios."""
    rates, random = [], Random(1)
    for _ in range(pairs):
        made = rows(*kind, random)
        rates.append((rate(right, made), rate(other, made[:few])))
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    return f"{name:24} {ours:9,.0f} {theirs:12,.0f} {statistics.median(one / two for one, two in rates):7.2f}"


def tables() -> tuple[Rows, Rows]:
    """The attacks, and a seed of honest rewritings."""
    sys.path.insert(0, "tests/answers")
    from attacks import ATTACKS  # type: ignore[import-not-found]
    from rewritings import rewritings  # type: ignore[import-not-found]

    return [pair for pairs in ATTACKS.values() for pair in pairs], [(text, gold) for _, text, gold in rewritings(1)]


def labelled(path: Path) -> Iterator[tuple[str, str | None, str, bool]]:
    """Steps, answer, solution and label of each model's solution."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        solution = row["ground_truth"].replace("\nA: ", "\n#### ")
        for one in (value for value in row.values() if isinstance(value, dict)):
            steps, mark, answer = one["solution"].rpartition("A: ")
            yield (steps, answer.strip(), solution, one["is_correct"]) if mark else (answer, None, solution, False)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, help="GSM8K's example_model_solutions.jsonl")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    right(r"\boxed{\sqrt{2}x}", r"\sqrt{3}x")  # imports what it needs
    by_math_verify(r"\boxed{\sqrt{2}x}", r"\sqrt{3}x")
    print(f"{'judgements a second':24}      ours  math-verify   ratio")
    for name, kind in KINDS.items():
        print(compared(name, by_math_verify, kind, arguments.pairs, 100))
    print(compared("exact match instead", by_match, KINDS["a plain number, right"], arguments.pairs))
    attacks, honest = tables()
    for name, judge in (("ours", right), ("math-verify", by_math_verify)):
        fooled = sum(judge(*pair) for pair in attacks)
        missed = sum(not judge(*pair) for pair in honest)
        print(
            f"{name}: {fooled} of {len(attacks)} attacks are right, {missed} of {len(honest)} honest answers are wrong"
        )
    for mark, written in MARKED.items() if arguments.labels else ():
        verdicts = [
            (right(steps if answer is None else written.format(steps=steps, answer=answer), solution, [mark]), label)
            for steps, answer, solution, label in labelled(arguments.labels)
        ]
        agreed = sum(verdict == label for verdict, label in verdicts)
        print(f"labels, {mark}: {agreed} of {len(verdicts)} agree")


if __name__ == "__main__":
    main()
