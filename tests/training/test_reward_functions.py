"""What a reward is given, and what it may return: anything else stops the training, with step, reward and row."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
from small import made

from llmrl import rewards
from llmrl.answers import tasks as by_scorers
from llmrl.data import prepare
from llmrl.data.extra import TAKEN
from llmrl.errors import InputError
from llmrl.training import rows
from llmrl.training.reward_functions import checked

GIVEN = {
    "prompts": [[{"role": "user", "content": f"{number}?"}] for number in range(3)],
    "completions": [[{"role": "assistant", "content": text}] for text in ("one", "two", "three")],
    "solution": ["1", "2", None],
    "trainer_state": SimpleNamespace(global_step=6),
}


def mine(scores):
    """A reward that gives these scores."""

    def reward(**_):
        return scores

    return reward


@pytest.mark.parametrize("scores", [[1, 0.5, None], [True, False, 1], (1.0, 2.0, 3.0)])
def test_good_scores_pass(scores):
    """Numbers and None, as they are."""
    assert list(scores) == checked(mine(scores), [])(**GIVEN)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0, 2.0], "returned 2 scores for 3 completions"),
        (1.0, "returned no list for 3 completions"),
        (None, "returned no list"),
        ([1.0, float("nan"), 0.0], "returned nan, in row 2 of the batch (prompt '1?', completion 'two'); a finite"),
        ([float("inf"), 0.0, 0.0], "returned inf, in row 1 of the batch (prompt '0?'"),
        ([1.0, 1.0, "good"], "returned 'good', in row 3 of the batch (prompt '2?', completion 'three')"),
    ],
)
def test_bad_scores_are_named(scores, said):
    """With the step, the reward, the row, counted from 1, and the value."""
    with pytest.raises(InputError) as caught:
        checked(mine(scores), [])(**GIVEN)
    assert str(caught.value).startswith("grpo: step 7: the reward reward ")
    assert said in str(caught.value)


def test_a_reward_that_raises_is_named():
    """With its file and line, and the first row that raises."""

    def length(solution, **_):
        return [len(gold) for gold in solution]

    with pytest.raises(InputError) as caught:
        checked(length, [])(**GIVEN)
    assert "grpo: step 7: the reward length raised TypeError: " in str(caught.value)
    assert "(test_reward_functions.py:" in str(caught.value)
    assert "in row 3 of the batch (prompt '2?', completion 'three')" in str(caught.value)


def test_further_columns_and_settings_are_given_by_name():
    """A column as None for each where no row has it; settings as they stand, be they as long as the batch."""
    given = {}

    def reward(solution, task, tests, **rest):
        given.update(rest, solution=solution, task=task, tests=tests)
        return [0.0] * len(tests)

    extra = ['{"task": "sum", "extra": [1, {"a": "é"}]}', None, '{"task": "code"}']
    checked(reward, ["task", "tests", "extra"], marks=["a", "b", "c"])(**GIVEN, extra=extra)

    assert GIVEN.keys() | {"task", "tests", "extra", "marks"} == given.keys()
    assert (["sum", None, "code"], [None] * 3) == (given["task"], given["tests"])
    assert [[1, {"a": "é"}], None, None] == given["extra"]
    assert ["a", "b", "c"] == given["marks"]


@pytest.mark.parametrize("names", [["task", "id"], ["id", "task"], ["extra"], []])
def test_a_reward_is_given_what_is_named_and_nothing_else(names):
    """In that order, be more in the rows; and the column of them all, `extra`, only where there is one of that name."""
    given = {}

    def reward(**found):
        given.update(found)
        return [0.0] * 3

    extra = ['{"image": {"path": "a.png"}, "id": 7, "extra": "b"}', '{"image": "c"}', None]
    columns = {"task": [None] * 3, "id": [7, None, None], "extra": ["b", None, None]}
    checked(reward, names)(**GIVEN, extra=extra)

    assert [*(GIVEN | {name: columns[name] for name in names}).items()] == [*given.items()]


def test_rows_without_extra_have_none_of_the_columns():
    """A list of None each, of the batch's length."""
    given = []

    def reward(task, **_):
        given.extend(task)
        return [0.0] * 3

    checked(reward, ["task"])(**GIVEN)
    assert [None] * 3 == given


def test_a_column_that_no_row_of_the_data_has_is_missing():
    """A reward that asks for it is not given None in silence."""

    def reward(test, **_):
        return [0.0] * len(test)

    with pytest.raises(InputError, match=r"reward raised TypeError: .*missing 1 required .* 'test'"):
        checked(reward, ["tests"])(**GIVEN, extra=['{"tests": []}'] * 3)


def test_the_row_whose_column_makes_a_reward_raise_is_named():
    """Found by giving it one row alone, of the columns too, but all of a setting, be it as long as the batch."""

    def reward(tests, marks, **_):
        assert 3 == len(marks)
        return [len(one) for one in tests]

    extra = ['{"tests": []}', '{"tests": 1}', '{"tests": [1]}']
    with pytest.raises(InputError, match=r"TypeError: .*, in row 2 of the batch \(prompt '1\?', completion 'two'\)"):
        checked(reward, ["tests"], marks=["a", "b", "c"])(**GIVEN, extra=extra)


def test_prepared_columns_reach_a_reward_of_the_trainer(project, change, monkeypatch):
    """From files of one's own through TRL's trainer; and nothing else that a reward is given has a free name: not what
    cannot be handed on, though some rows could say it.
    """
    names = []

    def mine(task, tests, extra, **rest):
        assert all(one in (None, "of the data") for one in extra)
        names.extend(rest)
        return [len(one) if kind == "code" else None for kind, one in zip(task, tests, strict=True)]

    change("data.prompts.source", "raw")
    lines = [{"prompt": f"{number}?", "task": "sum"} for number in range(40)]
    # No held-out row has this one's columns.
    lines += [{"prompt": "a" * 50, "task": "code", "tests": [[1, {"in": "2"}], None], "extra": "of the data"}]
    (project / "data/raw/prompts/b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    images = [{"bytes": bytes_, "path": "a.png"} for bytes_ in (None, b"\x89", None)]
    table = pa.Table.from_pylist([{"prompt": f"{n}!", "scan": image} for n, image in enumerate(images)])
    pq.write_table(table, project / "data/raw/prompts/a.parquet")
    prepare.main("prompts")
    train, held_out = (rows.read(project / f"data/prompts/{side}.parquet") for side in ("train", "eval"))
    monkeypatch.setattr(rewards, "mine", mine, raising=False)
    trainer, _ = made(project, "grpo", {"rewards": {"mine": 1.0}})
    last = train.select([len(train) - 1, len(train) - 1, 0])
    scores = [
        trainer._calculate_rewards(
            [*some], [*some["prompt"]], [[{"role": "assistant", "content": "4"}]] * len(some), [[1]] * len(some)
        )
        for some in (last, held_out)
    ]

    assert [[[2.0], [2.0], [None]], [[None]] * len(held_out)] == [
        [[None if score != score else score for score in row] for row in found.tolist()] for found in scores
    ]
    assert set(names) <= TAKEN
    assert {"marks", "max_completion_length", "trainer_state"} <= set(names)


def test_scorers_reward_a_training(project, change, monkeypatch):
    """Two tasks of reasoning-gym and the built-in one through a step of the trainer: the first are judged by their
    scorers, the last by its solution; and the curves are those of a reward that judges by the data.
    """
    pytest.importorskip("reasoning_gym")
    tasks = [
        f"\n    - source: {name}" for name in ("reasoning_gym:gcd", "reasoning_gym:word_sorting", "builtin:arithmetic")
    ]
    change("data.prompts.source", "".join(tasks))
    change("data.prompts.rows", "9")
    change("data.prompts.eval_rows", "6")
    prepare.main("prompts")
    train = rows.read(project / "data/prompts/train.parquet")
    monkeypatch.setattr(small, "ROWS", small.ROWS | {"grpo": train[0] | {"prompt": small.QUESTION}})
    chosen = {"reasoning_gym": 1.0, "accuracy": 0.0}
    trainer, _ = made(project, "grpo", {"rewards": chosen}, logging_steps=1)
    given = [
        (row, f"<answer>{text}</answer>") for row in train for text in (row["solution"] or "", "no", "10, 20", "20, 10")
    ]
    turns = [[{"role": "assistant", "content": text}] for _, text in given]
    asked = [row for row, _ in given]
    found = trainer._calculate_rewards(asked, [row["prompt"] for row in asked], turns, [[1]] * len(given)).tolist()
    for (row, text), (scored, right) in zip(given, found, strict=True):
        made_by = by_scorers.maker_of(row["extra"])
        assert (scored != scored) == (made_by is None)
        assert made_by is None or scored == pytest.approx(by_scorers.score(text, made_by))
        assert right == (row["solution"] is not None and text == f"<answer>{row['solution']}</answer>")
    trainer.train()
    (log,) = [one for one in trainer.state.log_history if "judged/reasoning_gym" in one]
    assert {"rewards/reasoning_gym/mean", "signal/reasoning_gym", "signal/accuracy"} <= log.keys()


def logged(function, columns=(), **given):
    """The scores, and what TRL is told to log."""
    found = {}
    completion_ids = [[1, 2, 3, 4, 1, 2, 3, 4], [1, 2, 3], [5, 6, 7, 8]]
    given = GIVEN | {"completion_ids": completion_ids, "log_metric": found.__setitem__} | given
    return checked(function, columns)(**given), found


def test_the_signal_of_each_reward_is_logged():
    """The share of groups whose scores differ, by the prompts; one that takes a solution, or another column of the
    data, judges; and how much completions repeat themselves.
    """
    pair = {"prompts": [GIVEN["prompts"][0]] * 2 + [GIVEN["prompts"][1]]}

    def solved(solution, **_):
        return [float(one == "1") for one in solution]

    def tested(tests, **_):
        return [tests[0], 0.0, None]

    scores, found = logged(solved, **pair)
    assert [1.0, 0.0, 0.0] == scores
    assert {"signal/solved": 0.5, "judged/solved": 0.5, "repetition": pytest.approx(0.2 / 3)} == found
    _, found = logged(tested, ["tests"], **pair)
    assert {"signal/tested": 0.0, "judged/tested": 0.0} == {name: found[name] for name in found if "/" in name}
    _, found = logged(mine([1, 1.0, None]), ["tests"], **pair)
    assert {"signal/reward": 0.0} == {name: found[name] for name in found if "/" in name}


def test_scores_that_stop_the_stage_log_nothing():
    """As there are none."""
    with pytest.raises(InputError):
        logged(mine([1.0, float("nan"), 0.0]))
