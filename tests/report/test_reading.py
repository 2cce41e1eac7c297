"""What changed, to read: which answers stand side by side, and how many prompts each stage gained and lost."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from llmrl.measuring.answers import SCHEMA
from llmrl.report.document import Command, Given, Reader, Section, Words
from llmrl.report.reading import what_changed, what_changed_between
from llmrl.report.recorded import Recorded

INITS = {"sft": {"init": "models/base"}, "dpo": {"init": "models/sft"}, "grpo": {"init": "models/dpo"}}


def answers(policy: str, right: list[bool | None], asked: str = "prompt", samples: int = 2) -> pa.Table:
    """Answers to as many prompts, of which these are right, the sampled ones as the greedy one."""
    rows = [
        {
            "policy": policy,
            "row": row,
            "prompt": f"{asked} {row}",
            "solution": None if ok is None else str(row),
            "greedy": f"{policy} says {row}",
            "greedy_right": ok,
            "greedy_tokens": 3,
            "greedy_ended": True,
            "sampled": [f"{policy} guesses {row}.{at}" for at in range(samples)],
            "sampled_right": [ok] * samples,
            "sampled_tokens": [4] * samples,
            "sampled_ended": [False] * samples,
        }
        for row, ok in enumerate(right)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def scores(policies: list[str], rows: int, value: float = 0.5) -> pa.Table:
    """The reward model's, of two samples each."""
    return pa.Table.from_pylist(
        [
            {"policy": policy, "row": row, "greedy": value + row, "sampled": [value, -value]}
            for policy in policies
            for row in range(rows)
        ]
    )


def recorded(tables: dict[str, dict[str, pa.Table]], revision: str = "workspace", **more: Any) -> Recorded:
    fields = {"params": INITS, "figures": {}, "data": {}, "curves": {}, "locks": {}, "provenance": {}} | more
    return Recorded(revision=revision, commit=None, tables=tables, **fields)


def words(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Words)]


def reader(section: Section) -> Reader:
    (found,) = (block for block in section.blocks if isinstance(block, Reader))
    return found


CHAIN = {
    "sft": {"before": answers("base", [False] * 4), "after": answers("sft", [True, True, False, False])},
    "dpo": {"after": answers("dpo", [True, False, True, True])},
    "grpo": {"after": answers("grpo", [True, False, True, False]), "scores": scores(["base", "grpo"], 4)},
}


def test_what_each_stage_gained_and_lost() -> None:
    """Over what it starts from, prompt by prompt."""
    said = words(what_changed(recorded(CHAIN)))
    what = "{} of 4 prompts gained and {} lost by its greedy answers; {} are right as before, {} wrong as before."
    assert [
        "sft, against base: " + what.format(2, 0, 0, 2),
        "dpo, against sft: " + what.format(2, 1, 1, 0),
        "grpo, against dpo: " + what.format(0, 1, 2, 1),
    ] == said


def test_the_answers_stand_side_by_side() -> None:
    """In the order of training, the greedy one first, with the reward model's scores where it has seen them."""
    found = reader(what_changed(recorded(CHAIN)))
    assert ["base", "sft", "dpo", "grpo"] == found.policies
    asked = found.prompts[2]
    assert ("prompt 2", "2") == (asked.prompt, asked.solution)
    assert Given("base", "base says 2", False, True, 3, True, 2.5) == asked.answers[0]
    assert [
        Given("grpo", "grpo says 2", True, True, 3, True, 2.5),
        Given("grpo", "grpo guesses 2.0", True, False, 4, False, 0.5),
        Given("grpo", "grpo guesses 2.1", True, False, 4, False, -0.5),
    ] == asked.answers[-3:]
    assert [None] * 6 == [one.score for one in asked.answers[3:9]]


def test_a_rewired_graph() -> None:
    """Of `grpo.init=models/sft` what grpo gained is told against sft."""
    said = words(what_changed(recorded(CHAIN, params=INITS | {"grpo": {"init": "models/sft"}})))
    assert said[-1].startswith("grpo, against sft: 1 of 4 prompts gained and 1 lost")


def test_nothing_to_judge_by() -> None:
    """Prompts without a solution are read all the same."""
    tables = {
        "sft": {"before": answers("base", [None] * 3), "after": answers("sft", [None] * 3)},
        "dpo": {"after": answers("dpo", [None] * 3, samples=0)},
    }
    section = what_changed(recorded(tables))
    assert [
        "sft, against base: no prompt that both answered has a solution to judge by.",
        "dpo, against sft: no prompt that both answered has a solution to judge by.",
        "grpo: no answers are recorded.",
    ] == words(section)
    assert [None] * 7 == [one.right for one in reader(section).prompts[0].answers]


def test_a_score_that_is_no_number() -> None:
    tables = CHAIN | {"grpo": CHAIN["grpo"] | {"scores": scores(["grpo"], 4, float("nan"))}}
    assert {None} == {one.score for asked in reader(what_changed(recorded(tables))).prompts for one in asked.answers}


def test_other_prompts_are_left_out_and_counted() -> None:
    """A stage that was not run again after the data changed has answers to others."""
    section = what_changed(recorded(CHAIN | {"sft": {"after": answers("sft", [True] * 6, "another")}}))
    assert "Left out are answers to prompts that the last policy was not asked: 6 of sft." in words(section)
    assert {"dpo", "grpo"} == {one.policy for asked in reader(section).prompts for one in asked.answers}
    assert "dpo, against sft: no prompt that both answered has a solution to judge by." in words(section)


@pytest.mark.parametrize(
    ("revision", "missing", "command"),
    [
        ("workspace", [], "dvc repro"),
        ("old", [], "git checkout old -- params.yaml && dvc repro"),
        ("workspace", ["metrics/sft/held_out"], "dvc pull metrics/sft/held_out"),
        ("old", ["models/sft", "metrics/sft/held_out"], "dvc pull --all-commits"),
    ],
)
def test_what_is_missing_is_said_with_the_command(revision: str, missing: list[str], command: str) -> None:
    section = what_changed(recorded({}, revision, missing=missing))
    assert [command] == [block.line for block in section.blocks if isinstance(block, Command)]
    assert not [block for block in section.blocks if isinstance(block, Reader)]
    assert "No answers" in words(section)[0] or "not in this clone's cache" in words(section)[0]


def test_several_experiments() -> None:
    """The last policy of each, by its experiment, counted against the first."""
    others = [recorded({"grpo": {"after": answers("grpo", [ok] * 4)}}, f"exp-{ok}".lower()) for ok in (True, False)]
    section = what_changed_between([recorded(CHAIN), *others, recorded({}, "empty")])
    assert ["workspace", "exp-true", "exp-false"] == reader(section).policies
    assert "empty: no answers are recorded." == words(section)[0]
    assert words(section)[1].startswith("exp-true, against workspace: 2 of 4 prompts gained and 0 lost")
    assert words(section)[2].startswith("exp-false, against workspace: 0 of 4 prompts gained and 2 lost")
    assert 0.5 == reader(section).prompts[0].answers[0].score


def test_experiments_that_end_in_other_stages() -> None:
    """Their columns say which policy it is."""
    section = what_changed_between([recorded(CHAIN), recorded({"sft": CHAIN["sft"]}, "short")])
    assert ["workspace grpo", "short sft"] == reader(section).policies


def test_experiments_of_other_prompts_do_not_stand_side_by_side() -> None:
    other = recorded({"grpo": {"after": answers("grpo", [True] * 4, "another")}}, "other")
    section = what_changed_between([recorded(CHAIN), other])
    assert words(section) == [
        "Their held-out prompts are not the same, so that their answers do not stand side by side."
    ]
    assert what_changed_between([recorded({}, "a"), recorded({}, "b")]).blocks
