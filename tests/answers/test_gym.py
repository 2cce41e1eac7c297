"""The tasks of reasoning-gym: their entries, made again anywhere, and their scorers, which are given any text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmrl.answers import gym
from llmrl.answers.tasks import is_right, score, share_right, task_of
from llmrl.errors import InputError

pytest.importorskip("reasoning_gym")
ROOT = Path(__file__).parents[2]
TASKS = gym.tasks()
WITHOUT_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}  # which only score one
# Of whose entries some of another process would be others: these go through sets, or draw what everybody draws.
OF_SETS = ("isomorphic_strings", "list_functions", "polynomial_multiplication", "ransom_note", "word_ladder", "acre")
SUM = {"task": "chain_sum", "options": {"min_terms": 2, "max_terms": 2}, "seed": 3, "index": 4}


def extra(task: str, index: int = 0, options: dict[str, Any] | None = None, seed: int = 7) -> tuple[str, Any]:
    """What a row of an entry has beside its solution, and the answer that the task has for it."""
    made = {"task": task, "options": options or {}, "seed": seed, "index": index}
    entry = gym.entry(**made)
    return json.dumps({"of_mine": 1, "reasoning_gym": made | {"digest": entry["digest"]}}), entry["answer"]


def tagged(answer: object) -> str:
    return f"Well.\n<answer>{answer}</answer>"


@pytest.mark.parametrize("task", TASKS)
def test_each_task_finds_its_own_answer_right(task: str) -> None:
    """As it stands between tags, boards of several lines too; none of what is no answer to anything is."""
    for index in range(2):
        row, answer = extra(task, index)
        assert (answer is None) == (task in WITHOUT_ANSWER)
        if answer is not None:
            assert is_right(tagged(answer), None, row) is True, answer
            assert is_right(tagged(answer) + tagged("no idea"), None, row) is False
        for wrong in ("nothing of the kind", "nan", "1e5", "((", '[{"a": [1]}]'):
            assert is_right(tagged(wrong), None, row) is False, wrong
        assert is_right("no mark", None, row) is False


def test_entries_are_the_same_in_any_process_and_order() -> None:
    """Also of tasks that go through sets, and beyond the entries of one seed."""
    orders = [[(task, index) for index in (0, 3, gym.SIZE + 1)] for task in OF_SETS]
    wanted = [one for order in orders for one in order]
    here = [gym.entry(task, {}, 11, index)["digest"] for task, index in wanted]
    code = f"""
import json
from llmrl.answers import gym
print(json.dumps([gym.entry(task, {{}}, 11, index)["digest"] for task, index in {wanted[::-1]}]))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert here == json.loads(there.stdout)[::-1]
    assert len({*here}) == len(here)


def test_options_decide_the_entries() -> None:
    """As does the seed."""
    entries = [gym.entry(**SUM | change)["question"] for change in ({}, {"options": {}}, {"seed": 4}, {})]
    assert entries[0] == entries[3]
    assert len({*entries}) == 3


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[str]:
    """Python that leaves a file behind, which no scorer must have run."""
    file = tmp_path / "run"
    yield f"__import__('pathlib').Path({str(file)!r}).touch()"
    assert not file.exists()


@pytest.mark.parametrize("task", sorted(gym.PYTHON | gym.SYMPY))
def test_no_scorer_runs_an_answer(task: str, attacked: str) -> None:
    """Those that evaluate it are not given what could call anything."""
    row, _ = extra(task)
    for answer in (
        attacked,
        f"[{attacked}]",
        f"Symbol({attacked!r})",
        f"x + eval({attacked!r})",
        f"[{attacked} for x in [1]]",
    ):
        assert is_right(tagged(answer), None, row) is False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("countdown", "9**9**9**9**9"),
        ("coin_flip", "1e99999999"),
        ("rubiks_cube", "U99999999 R99999999"),
        ("simple_integration", "(x+1)**9801*sin(x)"),
        ("spiral_matrix", "9**9**9**9**9"),
        ("propositional_logic", "¬" * 3000 + "P"),
    ],
)
def test_a_scorer_that_works_without_bound_is_ended(task: str, answer: str) -> None:
    """What it was given is wrong, and the next answer is judged as ever."""
    row, _ = extra(task)
    assert is_right(tagged(answer), None, row) is False
    other, right = extra("chain_sum")
    assert is_right(tagged(right), None, other) is True


def test_what_misleads_a_scorer() -> None:
    """Some take for right what is not: a number that only begins so, any text, numbers that were not given."""
    for task, wrong in (
        ("coin_flip", "0"),
        ("game_of_life_halting", "maybe"),
        ("puzzle24", "6*4*1*1"),
        ("complex_arithmetic", "nan"),
    ):
        row, answer = extra(task)
        assert is_right(tagged(wrong), None, row) is False
        assert is_right(tagged(answer), None, row) is True


def test_an_interrupted_session_goes_on_judging() -> None:
    """A signal that ends a stage does not end what judges its answers, or they would be found wrong."""
    row, answer = extra("gcd")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(gym.started().pid, number)
    assert is_right(tagged(answer), None, row) is True


def test_scores_lie_between() -> None:
    """Where a task gives some points; of two final answers the lower ones count, of more none."""
    made = {"task": "word_sorting", "options": {}, "seed": 7, "index": 0}
    entry = gym.entry(**made)
    made["digest"] = entry["digest"]
    words = entry["answer"].split(", ")
    swapped = ", ".join([words[1], words[0], *words[2:]])
    assert score(tagged(entry["answer"]), made) == 1
    assert 0 < score(tagged(swapped), made) < 1
    assert score(tagged(swapped), made) == score(tagged(entry["answer"]) + tagged(swapped), made)
    assert score(tagged(1) + tagged(2) + tagged(entry["answer"]), made) == 0
    assert score("no mark", made) == 0
    assert score(rf"\boxed{{{entry['answer']}}}", made, ["tag"]) == 0


def test_rows_of_no_task_are_judged_by_their_solution() -> None:
    """As by judging.right; a column of that name that says no task is data of somebody's own."""
    for other in (None, '{"level": 3}', '{"reasoning_gym": "of my own"}', '{"reasoning_gym": {"task": "mine"}}'):
        assert task_of(other) is None
        assert is_right(r"\boxed{0.5}", r"$\frac{1}{2}$", other) is True
        assert is_right(r"\boxed{0.5}", "1", other) is False
        assert is_right(r"\boxed{0.5}", None, other) is None
    row, answer = extra("chain_sum")
    assert task_of(row) == "chain_sum"
    assert share_right([tagged(answer), "#### 1e9"], None, row) == 0.5
    assert share_right([r"\boxed{4}", "#### 4", "4"], "4", None) == pytest.approx(2 / 3)
    assert share_right([r"\boxed{4}"], None, None) is None


def test_another_version_of_the_package() -> None:
    """Which makes another entry than the row has is told, not judged by."""
    row, answer = extra("chain_sum")
    with pytest.raises(
        InputError, match=r"makes another entry 0 of chain_sum .* `dvc repro --force data/dvc.yaml:prepare@prompts`"
    ):
        is_right(
            tagged(answer), None, row.replace('"index": 0', '"index": 0, "x": 1').replace('"digest": "', '"digest": "0')
        )


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear message."""
    monkeypatch.setattr(gym.importlib.util, "find_spec", lambda _: None)
    gym.started.cache_clear()
    with pytest.raises(InputError, match=r"reasoning-gym is not installed in .*: `make reasoning-gym` installs it"):
        gym.tasks()


def test_nothing_imports_the_package() -> None:
    """It takes a second, and seeds random numbers that are everybody's: only the process of its own does."""
    code = "import sys; from llmrl.answers import gym; assert gym.tasks(); assert 'reasoning_gym' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
