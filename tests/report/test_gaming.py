"""Whether the reward was gamed: planted faults are found in words and figures, and what is missing is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import vl_convert
from planted import RATES, Tables, answers, judged_by, mean, quotes, recorded, scores, table, words

from llmrl.report.document import Chart, Command, Grid, Section
from llmrl.report.gaming import POINTS, thinned, was_it_gamed
from llmrl.report.recorded import Recorded
from llmrl.session.tripwires import LOOKS

CUT_OFF, REPEATED = "cut off", "4-grams repeated"
FIGURES = {"grpo": {"groups_with_signal": 1.0, "signal_accuracy": 0.6}}


def curves(reward_model: float, accuracy: float) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """GRPO's curves, over which the score and the share of right completions change by so much."""
    steps = range(5, 105, 5)
    wave = {step: 0.01 * (-1) ** (step // 5) for step in steps}
    lines = {
        "train_reward_model": (1.0, reward_model),
        "train_accuracy": (0.5, accuracy),
        "train_reward": (0.5, reward_model + accuracy),
        "train_tokens": (20.0, 10.0),
        "train_cut_off": (0.1, 0.0),
        "train_repetition": (0.05, 0.0),
        "train_entropy": (1.0, -0.5),
        "groups_with_signal": (0.9, 0.1),
        "signal_accuracy": (0.9, -0.6),
    }
    return {
        "grpo": {
            name: [(step, start + change * step / 100 + wave[step]) for step in steps]
            for name, (start, change) in lines.items()
        }
    }


def trained(last: float, right: float = 2.0, token: float = 0.0, **of_grpo: float) -> Recorded:
    """An experiment whose GRPO ends with such a share of right answers."""
    random = np.random.default_rng(1)
    tables: Tables = {policy: answers(policy, random, prompts=200) for policy in RATES if policy != "grpo"}
    tables["grpo"] = answers("grpo", random, prompts=200, rate=last, **of_grpo)
    given = scores(tables, random, right, token)
    return recorded(tables, scores=given, figures=FIGURES, curves=curves(1.0, last - RATES["dpo"]))


def charts(section: Section) -> dict[str, Chart]:
    return {block.title: block for block in section.blocks if isinstance(block, Chart)}


# --- planted faults --------------------------------------------------------------------------------------------------


def test_a_reward_that_was_earned() -> None:
    section = was_it_gamed(trained(0.85))

    assert "The reward was earned: from dpo to grpo the reward model's score changed by +" in words(section, "good")
    assert "tripwires tripped" in words(section, "good")
    assert not words(section, "bad")


def test_a_reward_that_pays_for_length_is_gamed() -> None:
    """Longer answers, a higher score, fewer right ones: over the policies and over the steps."""
    section = was_it_gamed(trained(0.4, right=0.5, token=0.3, tokens=30, ended=0.6))

    said = words(section, "bad")
    assert "The reward model was gamed: from dpo to grpo" in said
    assert "reward up, right answers down" in said
    assert "reward up, right completions down" in said
    assert "longer, and no better" in said
    assert "more than 1.5 times the tokens" in said  # thresholds are stated
    figures = table(section, CUT_OFF)
    assert mean(figures["grpo"]["tokens"]) > 1.5 * mean(figures["dpo"]["tokens"])
    assert mean(figures["grpo"][CUT_OFF]) == pytest.approx(0.4, abs=0.05)
    assert mean(figures["grpo"]["reward model's score"]) > mean(figures["dpo"]["reward model's score"])


def test_a_policy_that_repeats_itself() -> None:
    section = was_it_gamed(trained(0.6, repetition=0.6))

    assert "grpo: repeats itself" in words(section, "bad")
    assert mean(table(section, REPEATED)["grpo"][REPEATED]) == pytest.approx(0.6, abs=0.01)


def test_flipped_pairs_trip_a_wire() -> None:
    assert "the reward model prefers wrong answers" in words(was_it_gamed(judged_by_with_figures(-3.0)), "bad")


def judged_by_with_figures(right: float) -> Recorded:
    return replace(judged_by(right), figures=FIGURES)


def test_a_score_that_rises_alone_is_said_to() -> None:
    section = was_it_gamed(trained(0.6, token=0.2, tokens=12))

    assert "The score rose for something else than right answers, as far as can be told" in words(section)


def test_a_reward_model_that_was_not_paid_for_cannot_have_been_gamed() -> None:
    one = trained(0.4, right=0.5, token=0.3, tokens=30)
    params = one.params | {"grpo": one.params["grpo"] | {"rewards": {"accuracy": 1.0}}}

    assert "none of grpo.rewards" in words(was_it_gamed(replace(one, params=params)), "note")


# --- tripwires -------------------------------------------------------------------------------------------------------


def test_each_tripwire_is_said_to_have_tripped_or_not() -> None:
    section = was_it_gamed(trained(0.4, right=0.5, token=0.3, tokens=30))
    held = next(block for block in section.blocks if isinstance(block, Grid) and block.folded)

    ran = ("SFTTrainer", "DPOTrainer", "GRPOTrainer")
    looks = [
        (trainer, " ".join(str(look.__doc__).split("\n\n")[0].split())) for trainer in ran for look in LOOKS[trainer]
    ]
    shown = {text for _, text in held.rows}
    missing = [text for trainer, text in looks if trainer == "GRPOTrainer" and text not in shown]
    assert len(held.rows) < len(looks)
    assert any("over-optimisation" in text for text in missing)
    assert ["grpo", "A policy that repeats itself, and more than the one it started from."] in held.rows


# --- figures ---------------------------------------------------------------------------------------------------------


def test_right_answers_are_drawn_against_the_score() -> None:
    section = was_it_gamed(trained(0.4, right=0.5, token=0.3, tokens=30))
    values = charts(section)["Right answers against the score"].drawing["data"]["values"]

    assert [one["policy"] for one in values] == list(RATES)
    assert values[3]["score"] > values[2]["score"]
    assert values[3]["right"] < values[2]["right"]
    assert all(one["low"] < one["right"] < one["high"] and one["left"] < one["score"] < one["end"] for one in values)


def test_the_over_optimisation_plot_has_both_curves() -> None:
    drawn = charts(was_it_gamed(trained(0.4)))
    score, right = (layer["data"]["values"] for layer in drawn["Score and right completions"].drawing["layer"])

    assert score[-1]["value"] > score[0]["value"]
    assert right[-1]["value"] < right[0]["value"]
    assert {"Reward", "Length", "Cut off, repeated", "Entropy", "Groups with signal"} <= drawn.keys()


def test_signal_is_of_each_reward_by_itself_and_of_the_sum() -> None:
    section = was_it_gamed(trained(0.8))
    found = table(section, "share of groups")

    assert {name: row["share of groups"] for name, row in found.items()} == {
        "the weighted sum": "1.000",
        "accuracy": ".600",
    }
    assert {row["groups"] for row in found.values()} == {"800"}  # 100 steps of 64 completions in groups of 8
    words_of = charts(section)["Groups with signal"].words
    assert "accuracy 0.86 at step 5, 0.31 at step 100" in words_of


def test_long_curves_are_drawn_with_few_points_of_the_same_mean() -> None:
    points = [(step, float(step % 7)) for step in range(1, 5 * POINTS + 1)]
    few = thinned(points)

    assert len(few) == POINTS
    assert few[-1][0] == points[-1][0]
    assert np.mean([value for _, value in few]) == pytest.approx(np.mean([value for _, value in points]))
    assert thinned(points[:3]) == points[:3]
    assert thinned([]) == []


def test_highest_rewarded_wrong_answers_are_of_the_last_policy() -> None:
    one = trained(0.6)
    told = one.tables["grpo"]["after"].to_pylist()
    given = one.tables["grpo"]["scores"].to_pylist()
    row = next(row for row in told if False in row["sampled_right"])
    at = row["sampled_right"].index(False)
    next(of for of in given if (of["policy"], of["row"]) == ("grpo", row["row"]))["sampled"][at] = 99.0
    schema = one.tables["grpo"]["scores"].schema
    changed = type(one.tables["grpo"]["scores"]).from_pylist(given, schema)
    found = quotes(
        was_it_gamed(replace(one, tables=one.tables | {"grpo": one.tables["grpo"] | {"scores": changed}})), "The"
    )

    assert found.title == "The wrong answers of grpo with the highest scores"
    assert len(found.quotes) == 5
    assert found.quotes[0].text == row["sampled"][at]
    assert "wrong, score 99.00, above 1.000 of" in found.quotes[0].facts


# --- what is missing -------------------------------------------------------------------------------------------------


def commands(section: Section) -> list[str]:
    return [block.line for block in section.blocks if isinstance(block, Command)]


def test_nothing_has_run() -> None:
    section = was_it_gamed(recorded({}))

    assert commands(section) == ["dvc repro grpo"]
    assert "tripwires" not in words(section)


def test_grpo_has_not_run() -> None:
    random = np.random.default_rng(1)
    section = was_it_gamed(recorded({policy: answers(policy, random) for policy in ("base", "sft", "dpo")}))

    assert commands(section) == ["dvc repro grpo"]
    assert list(table(section, CUT_OFF)) == ["base", "sft", "dpo"]


def test_without_a_reward_model_right_answers_are_told() -> None:
    one = trained(0.85)
    section = was_it_gamed(replace(one, tables=one.tables | {"grpo": {"after": one.tables["grpo"]["after"]}}))

    assert "right answers by +" in words(section, "note")
    assert "the reward model's scores of them are not recorded" in words(section, "note")
    assert "reward model's score" not in next(iter(table(section, CUT_OFF).values()))


def test_without_solutions_nothing_is_said_to_be_earned() -> None:
    section = was_it_gamed(replace(judged_by(1.0, judged=False), figures=FIGURES))

    assert "nothing tells whether the reward was earned or gamed" in words(section, "note")
    assert not [block for block in section.blocks if isinstance(block, Chart)]


def test_without_curves_that_is_said() -> None:
    one = replace(trained(0.85), curves={})

    assert "No curves of GRPO's completions are recorded" in words(was_it_gamed(one), "note")


def test_an_older_revision_without_answers_has_its_curves() -> None:
    section = was_it_gamed(recorded({}, figures={"grpo": {"groups_with_signal": 0.84}}, curves=curves(1.0, 0.2)))

    assert commands(section) == ["dvc repro grpo"]
    assert table(section, "share of groups")["the weighted sum"]["share of groups"] == ".840"
    assert "Score and right completions" in charts(section)


@pytest.mark.parametrize("size", [{"prompts": 1}, {"samples": 1}, {"prompts": 2, "samples": 1}])
def test_little_to_go_by(size: dict[str, int]) -> None:
    section = was_it_gamed(replace(judged_by(1.0, **size), figures=FIGURES))

    assert not words(section, "bad")
    assert "nan" not in repr([block for block in section.blocks if not isinstance(block, Chart)])


def test_the_same_twice_and_every_chart_can_be_drawn() -> None:
    section = was_it_gamed(trained(0.7))

    assert section == was_it_gamed(trained(0.7))
    assert len(charts(section)) == 7
    assert all(vl_convert.vegalite_to_svg(chart.drawing).startswith("<svg") for chart in charts(section).values())
