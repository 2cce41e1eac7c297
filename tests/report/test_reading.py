"""What changed, to read: which answers stand side by side, and how many prompts each stage gained and lost."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llmrl.measuring.answers import SCHEMA, with_origin
from llmrl.report.document import Asked, Command, Given, Reader, Report, Section, Words
from llmrl.report.page import web_page
from llmrl.report.reading import fitted, what_changed, what_changed_between
from llmrl.report.recorded import Recorded, bringing

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
    """Of `grpo.init=models/sft` what grpo gained is told against sft, and so the reader compares them."""
    section = what_changed(recorded(CHAIN, params=INITS | {"grpo": {"init": "models/sft"}}))
    assert words(section)[-1].startswith("grpo, against sft: 1 of 4 prompts gained and 1 lost")
    assert {"sft": "base", "dpo": "sft", "grpo": "sft"} == reader(section).before


def test_what_it_was_trained_from_goes_before_what_is_asked() -> None:
    """As the answers tell, else the lock; settings may be edited since."""
    edited = INITS | {"grpo": {"init": "models/sft"}}
    locks = {"grpo": {"params": {"params.yaml": {"grpo": {"init": "models/dpo"}}}}}
    section = what_changed(recorded(CHAIN, params=edited, locks=locks))
    assert words(section)[-1].startswith("grpo, against dpo: 0 of 4 prompts gained and 1 lost")
    assert "dpo" == reader(section).before["grpo"]
    told = CHAIN | {"grpo": {"after": with_origin(CHAIN["grpo"]["after"], init="models/base/", init_model="a")}}
    section = what_changed(recorded(told, params=edited, locks=locks))
    assert words(section)[-1].startswith("grpo, against base: 2 of 4 prompts gained and 0 lost")
    assert "base" == reader(section).before["grpo"]


def test_nothing_is_compared_with_another_model_of_that_name() -> None:
    """Where sft was trained anew and dpo was not, what dpo gained is not known."""
    sft, dpo = (CHAIN[stage]["after"] for stage in ("sft", "dpo"))
    again = {
        "sft": CHAIN["sft"] | {"after": with_origin(sft, model="new")},
        "dpo": {"after": with_origin(dpo, model="b", init="models/sft", init_model="old")},
    }
    section = what_changed(recorded(again))
    assert "dpo: it was trained from another sft than the one whose answers are here." == words(section)[1]
    assert {"sft": "base"} == reader(section).before


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
        "Answers of grpo are missing: grpo has not run.",
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


SFT = "metrics/sft/held_out"
GONE = f"{SFT} is neither here nor in this machine's cache"


@pytest.mark.parametrize(
    ("missing", "locks", "why", "commands"),  # with a remote
    [
        ([], [], "sft, dpo, grpo have not run", {"dvc repro sft dpo grpo": "trains and measures"}),
        (
            [],
            ["sft", "dpo", "grpo"],
            "sft, dpo, grpo were measured before they were kept",
            {"dvc repro sft dpo grpo": "measures anew"},
        ),
        (
            ["models/sft", SFT],
            ["sft", "dpo"],
            f"{GONE}; dpo was measured before they were kept; grpo has not run",
            {
                f"dvc pull {SFT}": "fetches what was pushed; `dvc repro` makes what was not",
                "dvc repro dpo": "measures anew",
                "dvc repro grpo": "trains and measures",
            },
        ),
    ],
)
@pytest.mark.parametrize("revision", ["workspace", "a b; rm -r ."])
def test_what_is_missing_is_said_with_the_commands(
    revision: str, missing: list[str], locks: list[str], why: str, commands: dict[str, str]
) -> None:
    """Of each stage why; of another revision where the commands do it. Code that kept no answers keeps none again: its
    settings are for the code that is here.
    """
    section = what_changed(
        recorded({}, revision, missing=missing, remote=True, locks={one: {"outs": []} for one in locks})
    )
    assert [f"Answers are missing: {why}."] == words(section)
    if revision != "workspace":
        anew = {
            "git checkout 'a b; rm -r .' -- params.yaml && dvc repro": "makes and measures anew, with the code that"
        }
        there = {line: f"in a checkout of {revision} {what}" for line, what in commands.items() if "anew" not in what}
        commands = there | (anew if locks else {})
    found = {block.line: block.what for block in section.blocks if isinstance(block, Command)}
    assert commands.keys() == found.keys()
    assert all(found[line].startswith(what) for line, what in commands.items())
    assert not [block for block in section.blocks if isinstance(block, Reader)]


@pytest.mark.parametrize(
    ("revision", "commit", "remote", "line"),
    [
        ("workspace", None, False, "dvc repro"),
        ("workspace", None, True, f"dvc pull {SFT} metrics/dpo/held_out"),
        ("HEAD", "0123456789" * 4, False, "git checkout 0123456 -- params.yaml && dvc repro"),
        ("HEAD", "0123456789" * 4, True, f"dvc pull {SFT} metrics/dpo/held_out"),
        ("no-commit", "0123456789" * 4, False, "git checkout 0123456 -- params.yaml && dvc repro"),
        ("no-commit", "0123456789" * 4, True, "dvc exp pull origin no-commit"),
    ],
)
def test_what_brings_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str, commit: str | None, remote: bool, line: str
) -> None:
    """One line, whichever of them is asked for; an experiment, whose name git does not know, with all that it made."""
    monkeypatch.chdir(tmp_path)
    for command in ("init -q", "-c user.name=a -c user.email=a@example.org commit -q --allow-empty -m first"):
        subprocess.run(("git", *command.split()), check=True)
    missing = [SFT, "metrics/dpo/held_out", "models/sft"]
    experiment = replace(recorded({}, revision, missing=missing, remote=remote), commit=commit)
    assert line == bringing(experiment, ["metrics/dpo/held_out"]).line == bringing(experiment, [SFT]).line


def test_a_revision_is_named_by_its_commit() -> None:
    """Where it has one: git does not know an experiment by its name."""
    found = what_changed(replace(recorded({}, "my-experiment", locks={"sft": {"outs": []}}), commit="0123456789" * 4))
    (anew,) = (block.line for block in found.blocks if isinstance(block, Command) and "params.yaml" in block.line)
    assert "git checkout 0123456 -- params.yaml && dvc repro" == anew


def test_two_models_of_one_name_are_said() -> None:
    """Both started from models outside models/ that were one after the other in its place; the same one is none."""
    first, other, dpo = (
        with_origin(answers(name, [True] * 2), model=model)
        for name, model in (("../old/sft", "a"), ("../old/sft", "b"), ("dpo", "c"))
    )
    tables = {"sft": {"before": first, "after": answers("sft", [True] * 2)}, "dpo": {"before": other, "after": dpo}}
    section = what_changed(recorded(tables))
    said = (
        "metrics/dpo/held_out/before.parquet has answers of another model that is called ../old/sft, too; they are not"
    )
    assert f"{said} shown." in words(section)
    assert ["../old/sft", "sft", "dpo"] == reader(section).policies
    tables["dpo"]["before"] = first
    assert said not in " ".join(words(what_changed(recorded(tables))))


def large(prompts: int, samples: int, characters: int) -> Reader:
    """Of two policies."""
    answered = [
        Given(policy, "x" * characters, None, at == 0, 1, True)
        for policy in ("sft", "dpo")
        for at in range(samples + 1)
    ]
    return Reader(["sft", "dpo"], [Asked(f"prompt {at}", None, answered) for at in range(prompts)])


def test_of_more_than_a_browser_reads_samples_are_left_out() -> None:
    """As many of each policy to each prompt, the last ones; it is said how many, and where they are."""
    assert fitted(large(10, 4, 1000), 110_000) == large(10, 4, 1000)
    found = fitted(large(10, 4, 1000), 66_000)
    assert 10 == len(found.prompts)
    assert {6} == {len(asked.answers) for asked in found.prompts}
    assert {2} == {sum(one.greedy for one in asked.answers) for asked in found.prompts}
    assert (
        "40 of 100 answers are left out, as the page would have 0 MB with them. It has the greedy ones and 2 of up to "
        "4 sampled by each policy, to 10 of 10 prompts; all are in metrics/<stage>/held_out/*.parquet."
    ) == found.left_out


def test_of_greedy_answers_alone_prompts_are_left_out() -> None:
    """The last ones, where not even those fit, or there are no others."""
    for samples in (0, 4):
        found = fitted(large(10, samples, 1000), 6_600)
        assert ["prompt 0", "prompt 1", "prompt 2"] == [asked.prompt for asked in found.prompts]
        assert {True} == {one.greedy for asked in found.prompts for one in asked.answers}
        assert "to 3 of 10 prompts" in found.left_out
        assert f"{20 * (samples + 1) - 6} of {20 * (samples + 1)} answers" in found.left_out


@pytest.mark.parametrize("text", ["plain", "<b>&</b>", 'a "quoted"\\ line\n', "日本語"])
def test_the_bound_is_that_of_the_page(text: str) -> None:
    """As JSON within HTML has a text: what is escaped there counts as it is."""
    answered = [Given("sft", text * 500, None, True, 1, True)]
    whole = Reader(["sft"], [Asked("p", None, answered)] * 20)
    size = len(web_page(Report("", "", [Section("", "", [whole])])).encode())
    size -= len(web_page(Report("", "", [Section("", "", [Reader(["sft"], [])])])).encode())
    assert fitted(whole, size * 1.05) == whole
    assert fitted(whole, size * 0.95).left_out


def test_several_experiments() -> None:
    """The last policy of each, by its experiment, counted against the first."""
    others = [recorded({"grpo": {"after": answers("grpo", [ok] * 4)}}, f"exp-{ok}".lower()) for ok in (True, False)]
    section = what_changed_between([recorded(CHAIN), *others, recorded({}, "empty")])
    assert ["workspace", "exp-true", "exp-false"] == reader(section).policies
    assert {"exp-true": "workspace", "exp-false": "workspace"} == reader(section).before
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
