"""The audit of the reward model: planted faults are found in words and figures, and what is missing is said."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import vl_convert
from numpy.typing import NDArray
from planted import RATES, answers, judged_by, mean, pairs, quotes, recorded, scores, table, words

from llmrl.measuring.answers import with_origin
from llmrl.report.audit import Contests, contests, from_to, ranks, reliability, reward_model_audited, won, worth
from llmrl.report.document import Chart, Command, Grid
from llmrl.report.recorded import Recorded
from llmrl.report.samples import sampled

WITHIN = "right above wrong, within prompts"
AS_RIGHT = "10 tokens more, as right"


# --- planted faults --------------------------------------------------------------------------------------------------


def test_a_fair_reward_model_is_trusted_as_far_as_it_goes() -> None:
    section = reward_model_audited(judged_by(3.0))

    assert "It is to be trusted as far as this" in words(section, "good")
    assert not words(section, "bad")
    assert mean(table(section, WITHIN)["all"][WITHIN]) > 0.95
    assert mean(table(section, "ranked right")["all"]["ranked right"]) > 0.95


def test_a_reward_model_trained_on_flipped_pairs_is_seen_at_once() -> None:
    """Its held-out pairs are flipped as well, so that their accuracy says nothing."""
    section = reward_model_audited(judged_by(-3.0, chosen=3.0))

    first = section.blocks[0]
    assert first.tone == "bad"
    assert "prefers wrong answers" in first.text
    assert "chosen and rejected may be exchanged in these, too" in first.text
    assert all(mean(row[WITHIN]) < 0.1 for row in table(section, WITHIN).values())
    assert mean(table(section, "ranked right")["all"]["ranked right"]) > 0.95


def test_scores_of_another_run_are_not_trusted_as_these() -> None:
    section = reward_model_audited(
        replace(judged_by(3.0), locks={"grpo": {"outs": []}}, outdated={"grpo": "of another run"})
    )

    assert not words(section, "good")
    assert "By outdated figures: It is to be trusted as far as this" in words(section, "note")


def test_pairs_of_as_many_tokens_are_called_so() -> None:
    """Their tokens have the prompt's among them, so that none else is about as long."""
    tokens = np.repeat([-5.0, 0.0, 5.0], 40)
    score = np.where((tokens == 0) & (np.arange(120) % 4 > 0), -1.0, 1.0)
    text = ranks(Contests(score, tokens, np.zeros(120))).text

    assert "of the 40 whose better answer is of as many tokens" in text
    assert "about as long" not in text


def test_training_pairs_that_are_flipped_alone() -> None:
    text = words(reward_model_audited(judged_by(-3.0)), "bad")

    assert "exchanged in the pairs it was trained on" in text
    assert "ranks the held-out pairs the wrong way round" in text


def test_a_reward_model_that_pays_for_length() -> None:
    section = reward_model_audited(judged_by(0.5, token=0.3))

    assert "It ranks longer answers higher" in words(section, "bad")
    _, shortest, *_, longest = [mean(row["ranked right"]) for row in table(section, "ranked right").values()]
    assert shortest < 0.2 < 0.9 < longest
    assert "whose better answer is the shorter" in words(section)
    ten = table(section, AS_RIGHT)
    assert all(abs(mean(row[AS_RIGHT]) - 3) < 0.4 for row in ten.values())
    told = next(one.caption for one in section.blocks if isinstance(one, Grid) and "ranked right" in one.columns)
    assert re.search(r"With 10 tokens more .* is \+[23]\.\d\d \(\+2\.\d\d to \+3\.\d\d\), correlation 0\.9", told)


def test_a_reward_model_that_pays_for_brevity() -> None:
    assert "It ranks shorter answers higher" in words(reward_model_audited(judged_by(0.5, token=-0.3)), "bad")


def test_longer_right_answers_are_no_pay_for_length() -> None:
    """Where right answers are the longer ones, a fair reward model scores long ones higher, for being right."""
    section = reward_model_audited(judged_by(3.0, right_tokens=15))

    assert "longer answers higher" not in words(section)
    every = table(section, AS_RIGHT)["all"]
    assert mean(every["10 tokens more"]) > 0.5
    assert abs(mean(every[AS_RIGHT])) < 0.2


def test_a_reward_model_that_goes_by_what_right_answers_look_like() -> None:
    """Where right answers are the longer ones, one that knows length alone ranks them right, but none of one length."""
    section = reward_model_audited(judged_by(0.0, token=0.3, right_tokens=15, prompts=300))
    every = table(section, WITHIN)["all"]

    assert mean(every[WITHIN]) > 0.85
    assert mean(every["where it is about as long"]) == pytest.approx(0.5, abs=0.06)
    assert "But where the two are about as long" in words(section, "bad")
    assert "it goes by length, or by what goes with it" in words(section, "bad")


def test_a_reward_model_that_knows_nothing() -> None:
    text = words(reward_model_audited(judged_by(0.0)), "bad")

    assert "no better than chance, or hardly: of a right and a wrong answer" in text
    assert "ranks the held-out pairs no better than chance" in text


def test_too_few_to_tell_is_no_verdict() -> None:
    random = np.random.default_rng(1)
    tables = {"grpo": answers("grpo", random, prompts=6)}
    few = recorded(tables, scores=scores(tables, random, 0.0, token=0.3), pairs=pairs(random, 0.0, token=0.3, n=9))
    section = reward_model_audited(few)

    assert "cannot be told" in words(section, "note")
    assert not words(section, "bad", "good")


def test_the_policy_on_whose_answers_it_is_blind_is_named() -> None:
    random = np.random.default_rng(1)
    tables = {policy: answers(policy, random, prompts=200) for policy in RATES}
    blind = scores(tables, random, {"base": 3.0, "sft": 3.0, "dpo": 3.0, "grpo": 0.0})
    section = reward_model_audited(recorded(tables, scores=blind, pairs=pairs(random, 3.0)))

    assert "least surely of grpo's" in words(section, "bad")
    assert mean(table(section, WITHIN)["dpo"][WITHIN]) > 0.9


def of(score: NDArray[Any], prompt: NDArray[Any] | None = None) -> Contests:
    """Contests of these differences of scores, between answers of one length."""
    return Contests(score, np.zeros(len(score)), np.full(len(score), 9), prompt)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_contests_are_each_right_answer_against_each_wrong_one_of_its_policy_and_prompt() -> None:
    judged = sampled(judged_by(1.0, prompts=15))[0].judged
    expected = sorted(
        float(judged.score[one] - judged.score[other])
        for one in np.flatnonzero(judged.right == 1)
        for other in np.flatnonzero(judged.right == 0)
        if judged.row[one] == judged.row[other] and judged.policy[one] == judged.policy[other]
    )

    assert len(expected) > 50
    assert sorted(contests(judged).score.tolist()) == expected


def test_equal_scores_count_half() -> None:
    share, low, high = won(of(np.array([1.0, 0.0, -1.0, 0.0])))

    assert share == 0.5
    assert low < 0.5 < high


def test_the_interval_of_answers_is_over_prompts() -> None:
    """Contests of one prompt that always come out alike tell as much as one of them."""
    random = np.random.default_rng(1)
    score = random.normal(0.5, 1, 50)
    alone = won(of(score))
    repeated = won(of(np.repeat(score, 9), np.repeat(np.arange(50), 9)))

    assert repeated[0] == pytest.approx(alone[0])
    assert repeated[1:] == pytest.approx(alone[1:], abs=0.01)


def test_interval_of_contests_covers() -> None:
    """In 95 of 100 draws of prompts, with room for chance, the interval has the share of all prompts in it."""
    random, inside, draws = np.random.default_rng(1), 0, 400
    for _ in range(draws):
        prompt = np.repeat(np.arange(40), 4)
        score = random.normal(0.5, 1, 40)[prompt] + random.normal(0, 1, 160)
        _, low, high = won(of(score, prompt))
        inside += low < 0.6382 < high  # the normal distribution at 0.5 / √2
    assert 0.92 < inside / draws < 0.98


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "rightly so"), (4.0, "over"), (0.25, "under")])
def test_calibration(scale: float, verdict: str) -> None:
    """Scores whose sigmoid is the chance, and such as say more, or less, than they know."""
    random = np.random.default_rng(1)
    sure = np.abs(random.normal(0, 2, 4000))
    right = random.random(4000) < 1 / (1 + np.exp(-sure))
    found = reliability(of(scale * np.where(right, sure, -sure)))

    assert sum(n for *_, n in found.bins) == 4000
    assert found.error == pytest.approx(abs(found.said - found.right[0]), abs=0.02)
    if verdict == "rightly so":
        assert found.error < 0.03
        assert sum(low < said < high for said, (_, low, high), _ in found.bins) >= 8
    else:
        assert found.error > 0.05
        assert (found.said > found.right[2]) == (verdict == "over")


def test_calibration_is_said_and_drawn() -> None:
    section = reward_model_audited(judged_by(8.0, chosen=8.0))

    assert "on the policies' answers it is" in words(section).casefold()
    assert set(table(section, "expected calibration error")) == {
        "the policies' answers",
        "held-out pairs",
    }
    drawing = next(one.drawing for one in section.blocks if isinstance(one, Chart) and one.title.startswith("Says"))
    assert drawing["layer"][0]["data"]["values"] == [{"said": 0.5, "right": 0.5}, {"said": 1, "right": 1}]


def test_worth_needs_answers_that_differ_in_length() -> None:
    samples = sampled(judged_by(1.0))[0].scored
    alike = worth(replace(samples, tokens=np.full(len(samples), 7)))

    assert alike.n == 0
    assert np.isnan(alike.score[0])
    assert "as long as each other" in words(reward_model_audited(of_one_length()))


def of_one_length() -> Recorded:
    """An experiment all of whose answers are of 7 tokens, without held-out pairs."""
    one = judged_by(1.0)
    tables = {}
    for policy, given in one.policies().items():
        lengths = pa.array([[7] * 4] * len(given), pa.list_(pa.int32()))
        tables[policy] = given.set_column(given.column_names.index("sampled_tokens"), "sampled_tokens", lengths)
    return recorded(tables, scores=one.tables["grpo"]["scores"])


def test_bins_of_length_have_all_pairs() -> None:
    found = table(reward_model_audited(judged_by(1.0)), "ranked right")
    counts = {name: int(row["pairs"]) for name, row in found.items()}

    assert counts.pop("all") == sum(counts.values()) == 200
    assert len(counts) == 5


def test_span() -> None:
    assert from_to(np.array([-3, 4])) == "−3 to +4"
    assert from_to(np.array([0, 0])) == "0"


# --- examples --------------------------------------------------------------------------------------------------------


def test_examples_are_where_both_disagree_most() -> None:
    random = np.random.default_rng(1)
    tables = {policy: answers(policy, random, prompts=300) for policy in ("dpo", "grpo")}
    given = scores(tables, random, 3.0).to_pylist()
    right = {
        (policy, row["row"]): row["sampled_right"] for policy, table in tables.items() for row in table.to_pylist()
    }
    mixed = [row for row in given if row["policy"] == "grpo" and len({*right["grpo", row["row"]]}) == 2]
    best, worst = mixed[3], mixed[7]
    best["sampled"][right["grpo", best["row"]].index(False)] += 50
    worst["sampled"][right["grpo", worst["row"]].index(True)] -= 50
    section = reward_model_audited(recorded(tables, scores=pa.Table.from_pylist(given)))
    wrong, low = (quotes(section, f"{kind} answers that it scores") for kind in ("Wrong", "Right"))

    assert wrong.quotes[0].text == f"grpo {best['row']}.{right['grpo', best['row']].index(False)}"
    assert low.quotes[0].text == f"grpo {worst['row']}.{right['grpo', worst['row']].index(True)}"
    assert f"right is {best['row'] + 1}" in wrong.quotes[0].facts
    for found in (wrong, low):
        assert len({one.heading for one in found.quotes}) == len(found.quotes) == 5


# --- what is missing -------------------------------------------------------------------------------------------------


def commands(experiment: Recorded) -> list[str]:
    return [one.line for one in reward_model_audited(experiment).blocks if isinstance(one, Command)]


def test_what_is_not_there_is_said_with_the_command_that_brings_it() -> None:
    whole = judged_by(3.0)
    held = whole.tables
    without_pairs = replace(whole, tables={name: of for name, of in held.items() if name != "reward"})
    without_scores = replace(whole, tables=held | {"grpo": {"after": held["grpo"]["after"]}})

    assert commands(whole) == []
    assert commands(recorded({})) == ["dvc repro grpo", "dvc repro reward"]
    assert commands(without_pairs) == ["dvc repro reward"]
    assert commands(without_scores) == ["dvc repro grpo"]
    gone = replace(without_pairs, missing=["metrics/reward/held_out"])
    assert commands(gone) == ["dvc repro"]  # DVC has no remote
    assert commands(replace(gone, remote=True)) == ["dvc pull metrics/reward/held_out"]


def test_without_solutions_length_and_pairs_are_told() -> None:
    section = reward_model_audited(judged_by(0.0, token=0.3, chosen=1.0, judged=False))

    assert "No held-out prompt has a solution" in words(section, "note")
    assert "It ranks longer answers higher: an answer to the same prompt that has" in words(section, "bad")
    assert {row[AS_RIGHT] for row in table(section, AS_RIGHT).values()} == {"–"}


@pytest.mark.parametrize("size", [{"prompts": 1}, {"samples": 1}, {"prompts": 2, "samples": 1}, {"rate": 1.0}])
def test_little_to_go_by(size: dict[str, float]) -> None:
    section = reward_model_audited(judged_by(1.0, **size))

    assert "nan" not in repr([block for block in section.blocks if not isinstance(block, Chart)])
    assert "cannot be set against them" in words(section, "note") or size == {"prompts": 1}


def test_scores_that_are_no_numbers_are_counted_and_left_out() -> None:
    whole = judged_by(3.0)
    given = whole.tables["grpo"]["scores"].to_pylist()
    given[0]["sampled"][0] = float("nan")
    broken = replace(
        whole, tables=whole.tables | {"grpo": whole.tables["grpo"] | {"scores": pa.Table.from_pylist(given)}}
    )

    assert "1 of the 240 sampled answers of base have no score that is a number" in words(reward_model_audited(broken))


def test_scores_of_another_model_are_left_out() -> None:
    """By the hashes of models that both tables have: sft has run again since GRPO scored its answers."""
    whole = judged_by(3.0)
    tables = {stage: {**of} for stage, of in whole.tables.items()}
    tables["sft"]["after"] = with_origin(tables["sft"]["after"], model="new")
    tables["dpo"]["after"] = with_origin(tables["dpo"]["after"], model="same")
    scores = with_origin(tables["grpo"]["scores"], models={"sft": "old", "dpo": "same"})
    tables["grpo"]["scores"] = scores
    section = reward_model_audited(replace(whole, tables=tables))

    assert "Scores of sft are of another model that was called so" in words(section, "note")
    assert "sft" not in table(section, WITHIN)
    assert {"dpo", "grpo"} <= set(table(section, WITHIN))


def test_scores_are_found_by_row() -> None:
    whole = judged_by(3.0)
    own = whole.tables["grpo"]["scores"]
    turned = own.take(pa.array(range(len(own) - 1, -1, -1))).slice(30)
    shorter = replace(whole, tables=whole.tables | {"grpo": whole.tables["grpo"] | {"scores": turned}})
    expected = {(row["policy"], row["row"]): row["sampled"] for row in turned.to_pylist()}
    samples = sampled(shorter)[0].scored

    found: dict[tuple[str, int], list[float]] = {}
    for policy, row, score in zip(samples.policy, samples.row.tolist(), samples.score.tolist(), strict=True):
        found.setdefault((policy, row), []).append(score)
    assert found == expected


def test_the_same_twice_and_every_chart_can_be_drawn() -> None:
    section = reward_model_audited(judged_by(2.0))

    assert section == reward_model_audited(judged_by(2.0))
    charts = [one for one in section.blocks if isinstance(one, Chart)]
    assert len(charts) == 1
    assert vl_convert.vegalite_to_svg(charts[0].drawing).startswith("<svg")
