"""Answers as a table, and the figures of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import pyarrow as pa
import pytest

from llmrl.answers import gym
from llmrl.answers.final import KINDS
from llmrl.answers.generation import Answer
from llmrl.measuring.answers import SCHEMA, by_one_name, pass_at, summary, tabled


def table(*rows: tuple[str | None, str, list[str]], extras: Sequence[str | None] = ()) -> pa.Table:
    """Solution, greedy answer and samples of each prompt, which may have further columns; an answer that ends in … was
    cut off.
    """

    def answers(texts: list[str]) -> list[Answer]:
        return [Answer(text, len(text), not text.endswith("…"), 0.5 if "again" in text else 0.0) for text in texts]

    prompts: Any = {
        "row": list(range(len(rows))),
        "prompt": [[{"role": "user", "content": f"question {n}"}] for n in range(len(rows))],
        "solution": [row[0] for row in rows],
        "extra": [*extras] or [None] * len(rows),
    }
    return tabled("sft", prompts, [answers([row[1]]) for row in rows], [answers(row[2]) for row in rows], KINDS)


def test_what_is_told_of_each_answer() -> None:
    """Whether it is right, ended, has a marked answer, and how far it repeats itself."""
    (row,) = table(("4", r"\boxed{4}", [r"\boxed{5}", "4", "again…"])).to_pylist()

    assert {"policy": "sft", "row": 0, "prompt": "question 0", "solution": "4"}.items() <= row.items()
    assert (True, True, True, 9) == tuple(row[f"greedy_{what}"] for what in ("right", "ended", "marked", "tokens"))
    assert [False, False, False] == row["sampled_right"]
    assert [True, False, False] == row["sampled_marked"]
    assert [True, True, False] == row["sampled_ended"]
    assert [0.0, 0.0, 0.5] == row["sampled_repetition"]


def test_the_figures_of_a_table() -> None:
    """Whether answers are right is over the prompts that have a solution; the others over all."""
    found = summary(
        table(
            ("4", r"\boxed{4}", [r"\boxed{4}", r"\boxed{5}"]),
            ("4", "no", ["no", r"\boxed{4}"]),
            (None, "", ["a…", "b"]),
        )
    )

    expected = {"greedy": 0.5, "sampled": 0.5, "pass_at_2": 1.0, "n": 2, "ended": 5 / 6, "marked": 0.5}
    assert expected == pytest.approx({name: found[name] for name in expected})
    assert found["greedy_low"] < found["sampled_low"] < 0.5 < found["sampled_high"] < found["greedy_high"]


def test_each_task_has_its_figures() -> None:
    """By its own scorer, also where it has no solution; those of all are over all, and other rows are no task."""
    pytest.importorskip("reasoning_gym")
    rows: list[tuple[str | None, str, list[str]]] = []
    extras: list[str | None] = []
    for task, answers in (("gcd", "rrw"), ("mini_sudoku", "rw"), ("rush_hour", "w")):
        for index, right in enumerate(answers):
            made: dict[str, Any] = {"task": task, "options": {}, "seed": 5, "index": index}
            entry = gym.entry(**made)
            text = f"<answer>\n{entry['answer'] if right == 'r' else 'none'}\n</answer>"
            rows.append((entry["answer"] if task == "gcd" else None, text, [text, "no"]))
            extras.append(json.dumps({"reasoning_gym": made | {"digest": entry["digest"]}}))
    rows += [("4", r"\boxed{4}", ["no", "no"]), (None, "a", ["b", "c"])]
    told = table(*rows, extras=[*extras, None, None])
    found = summary(told)

    assert [*["gcd"] * 3, *["mini_sudoku"] * 2, "rush_hour", None, None] == told["task"].to_pylist()
    assert [True, True, False, True, False, False, True, None] == told["greedy_right"].to_pylist()
    assert (7, 4 / 7, 3 / 14) == pytest.approx((found["n"], found["greedy"], found["sampled"]))
    tasks = {name: (one["n"], one["greedy"], one["sampled"]) for name, one in found["by_task"].items()}
    assert {"gcd": (3, 2 / 3, 1 / 3), "mini_sudoku": (2, 1 / 2, 1 / 4), "rush_hour": (1, 0, 0)} == tasks
    right = sum(one["n"] * one["greedy"] for one in found["by_task"].values()) + 1
    assert found["n"] * found["greedy"] == pytest.approx(right)
    assert by_one_name(found)["by_task.gcd.greedy_high"] == found["by_task"]["gcd"]["greedy_high"]
    assert "by_task" not in summary(table(*rows[:3], extras=extras[:3]))  # they are the same
    assert "by_task" not in summary(told.drop_columns("task").slice(6))  # of before there were any


def test_without_solutions_nothing_is_right_or_wrong() -> None:
    """Answers are counted and not judged, and no share is made up."""
    found = summary(table((None, "a", ["b", "c"])))

    assert {"n", "ended", "marked", "tokens", "repetition"} == set(found)
    assert 0 == found["n"]
    assert table((None, "a", ["b"])).to_pylist()[0]["sampled_right"] == [None]


def test_none_right_is_no_certainty() -> None:
    """0 of 40, printed before as 0 ± 0."""
    found = summary(table(*[("4", "no", ["no"])] * 40))

    assert (0.0, 0.0) == (found["greedy"], found["greedy_low"])
    assert 0.0876 == pytest.approx(found["greedy_high"], abs=1e-4)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_over_all_choices_of_k(k: int) -> None:
    """As counted one by one."""
    samples = [[True, False, False, True, False], [False] * 5, [True] * 5]
    chosen = [fmean(any(some) for some in combinations(one, k)) for one in samples]

    assert fmean(chosen) == pytest.approx(pass_at(k, samples))


def test_the_schema_is_the_same_without_rows() -> None:
    """As where every prompt is refused; a reader finds its columns."""
    assert SCHEMA == table().schema == table((None, "a", ["b"])).schema
