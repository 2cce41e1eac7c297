"""Tasks of reasoning-gym as a source of data: `source: reasoning_gym:<task>`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmrl import params
from llmrl.answers import gym
from llmrl.answers.tasks import is_right
from llmrl.data import asking, prepare, sieve
from llmrl.errors import InputError

pytest.importorskip("reasoning_gym")
SUMS = "{min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 3}"


@pytest.fixture
def sums(change):
    """All three sets of sums of two numbers, 40 to train on and 15 held out."""
    for name in ("sft", "preference", "prompts"):
        source = {"source": f"reasoning_gym:chain_sum\n    options: {SUMS}", "rows": "40", "eval_rows": "15"}
        for key, value in source.items():
            change(f"data.{name}.{key}", value)
    return change


def prepared(name: str) -> tuple[list[dict], list[dict], dict[str, Any]]:
    """The rows of both sides, and the report."""
    prepare.main(name)
    train, held_out = (pq.read_table(f"data/{name}/{side}.parquet").to_pylist() for side in ("train", "eval"))
    return train, held_out, json.loads(Path(f"data/{name}/source.json").read_text())


def made(row: dict) -> dict[str, Any]:
    return json.loads(row["extra"])["reasoning_gym"]


@pytest.mark.usefixtures("sums")
def test_the_three_sets(capsys) -> None:
    """Of the same task: answers between tags, in pairs beside those of other entries, and prompts that say what made
    them; all held out by the one salted hash.
    """
    train, held_out, report = prepared("prompts")
    assert [40, 15] == [len(train), len(held_out)]
    salt, share = params.experiment().data.salt, params.experiment().data.eval_share
    for rows, side in ((train, False), (held_out, True)):
        for row in rows:
            assert side == asking.held_out(asking.opening(row), salt, share)
            assert (
                row["prompt"][0]["content"]
                == gym.entry(**{k: v for k, v in made(row).items() if k != "digest"})["question"]
            )
            assert is_right(f"<answer>{row['solution']}</answer>", None, row["extra"])
    (source,) = report["sources"]
    assert "reasoning_gym:chain_sum" == source["source"]
    assert {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 3} == source["options"]
    assert f"reasoning-gym {gym.version()}" == source["package"]
    pairs, _, _ = prepared("preference")
    for pair in pairs:
        chosen, rejected = (pair[side][0]["content"] for side in ("chosen", "rejected"))
        assert chosen.startswith("<answer>")
        assert rejected.startswith("<answer>")
        assert chosen != rejected
    conversations, _, _ = prepared("sft")
    assert {"user", "assistant"} == {turn["role"] for row in conversations for turn in row["messages"]}
    assert conversations[0]["messages"][1]["content"].startswith("<answer>")
    asked = [{row["prompt"][0]["content"] for row in rows} for rows in (train, held_out)]
    assert not asked[1] & {row["messages"][0]["content"] for row in conversations}
    assert "recognised as: reasoning_gym" in capsys.readouterr().out


def test_the_seed_decides_and_more_rows_keep_the_earlier_ones(sums) -> None:
    """Row after row; another seed has others."""
    first, held_out, _ = prepared("prompts")
    again, _, _ = prepared("prompts")
    sums("data.prompts.rows", "60")
    more, more_held_out, _ = prepared("prompts")
    assert first == again == more[:40]
    assert held_out == [row for row in more_held_out if row in held_out]
    sums("data.seed", "2")
    others, _, _ = prepared("prompts")
    assert {made(row)["seed"] for row in first}.isdisjoint(made(row)["seed"] for row in others)


def test_a_mixture_by_weight(sums) -> None:
    """Of two tasks and the built-in one; the held-out rows of all are mixed, so that the first are a sample of them."""
    sums(
        "data.prompts.source",
        f"\n    - source: reasoning_gym:chain_sum\n      options: {SUMS}\n      weight: 2"
        "\n    - source: reasoning_gym:gcd\n      template: '{question} Shortly.'\n    - source: builtin:arithmetic",
    )
    sums("data.prompts.options", "null")
    sums("data.prompts.rows", "80")
    sums("data.prompts.eval_rows", "40")
    train, held_out, report = prepared("prompts")
    assert 80 == len(train)
    for rows, wanted in ((train, (40, 20, 20)), (held_out, (20, 10, 10))):
        tasks = [made(row)["task"] if row["extra"] else None for row in rows]
        assert wanted == tuple(map(tasks.count, ("chain_sum", "gcd", None)))
    tasks = [made(row)["task"] if row["extra"] else None for row in held_out[:15]]
    assert {"chain_sum", "gcd", None} == {*tasks}
    assert all(row["prompt"][0]["content"].endswith("Shortly.") for row in train[40:60])
    assert ["package" in one for one in report["sources"]] == [True, True, False]


def test_a_task_ends(sums, monkeypatch, capsys) -> None:
    """One of few different entries is made until no others come, which is said."""
    monkeypatch.setattr(sieve, "IDLE", 50)
    sums("data.prompts.options", "{min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1}")
    sums("data.prompts.rows", "4000")
    train, held_out, report = prepared("prompts")
    assert 100 < len(train) + len(held_out) <= 200
    assert report["sources"][0]["ended"]
    assert "made until no others came: reasoning_gym:chain_sum (" in capsys.readouterr().out


def test_a_task_without_answers(sums) -> None:
    """Is for prompts, which its scorer judges; there is nothing to train on."""
    for name in ("prompts", "sft"):
        sums(f"data.{name}.source", "reasoning_gym:rush_hour")
        sums(f"data.{name}.options", "null")
    train, held_out, _ = prepared("prompts")
    assert {None} == {row["solution"] for row in train + held_out}
    assert is_right("<answer>F+1</answer>", None, train[0]["extra"]) is False
    with pytest.raises(
        InputError, match=r"data\.sft in params.yaml: reasoning_gym:rush_hour has no answers of its own"
    ):
        prepare.main("sft")


def test_boards_are_no_solutions(sums) -> None:
    """An answer of several lines is for the scorer, and for rewards that ask for it by its name."""
    sums("data.prompts.source", "reasoning_gym:mini_sudoku")
    sums("data.prompts.options", "{min_empty: 2, max_empty: 3}")
    train, _, _ = prepared("prompts")
    answer = json.loads(train[0]["extra"])["answer"]
    assert train[0]["solution"] is None
    assert 4 == len(answer.splitlines())
    assert is_right(f"<answer>\n{answer}\n</answer>", None, train[0]["extra"]) is True


MISTAKES = {
    "task": (
        "source",
        "reasoning_gym:chain_summ",
        ['"reasoning_gym:chain_summ"', "no such task", "Did you mean reasoning_gym:chain_sum?"],
    ),
    "spelling": ("source", "reasoning-gym/chain_sum", ["is not a source", "Did you mean reasoning_gym:chain_sum?"]),
    "option": (
        "options",
        "{min_term: 2}",
        ["data.prompts.options.min_term", "no option of chain_sum", "Did you mean min_terms?"],
    ),
    "size": ("options", "{size: 2}", ["data.prompts.options.size", "no option of chain_sum"]),
    "value": (
        "options",
        "{min_terms: 0}",
        ["data.prompts.options", "chain_sum does not take them: min_terms must be positive"],
    ),
    "kind": ("options", "{min_terms: many}", ["data.prompts.options", "chain_sum does not take them"]),
    "of others": ("source", "raw", ["data.prompts.options", "raw has none"]),
    "rows": ("rows", "null", ["data.prompts.rows", "has no end"]),
    "split": ("split", "half", ["data.prompts.split", "reasoning_gym:chain_sum has none"]),
    "eval": ("eval", "half", ["data.prompts.eval", "reasoning_gym:chain_sum has none"]),
}


@pytest.mark.parametrize("key", MISTAKES)
def test_mistakes(sums, key: str) -> None:
    """Each is refused with its key, its line and what would be right, before anything is made."""
    name, value, said = MISTAKES[key]
    if name in ("split", "eval"):
        sums("data.prompts.options", f"{SUMS}\n    {name}: {value}")
    else:
        sums(f"data.prompts.{name}", value)
    with pytest.raises(InputError) as refused:
        params.experiment()
    text = str(refused.value)
    assert "params.yaml:" in text
    for part in said:
        assert part in text, text


@pytest.mark.usefixtures("sums")
def test_without_the_package(monkeypatch) -> None:
    """The check says what installs it."""
    monkeypatch.setattr(gym.importlib.util, "find_spec", lambda _: None)
    gym.started.cache_clear()
    with pytest.raises(
        InputError, match=r"data\.prompts\.source.*reasoning-gym is not installed.*`make reasoning-gym`"
    ):
        params.experiment()
