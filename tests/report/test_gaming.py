"""Whether the reward was gamed: planted faults are found in words and figures, and what is missing is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import vl_convert
from planted import RATES, Tables, answers, judged_by, mean, pairs, quotes, recorded, scores, table, words

from llmrl.measuring.answers import with_origin
from llmrl.report import audit
from llmrl.report.document import Chart, Command, Grid, Section, Words
from llmrl.report.gaming import POINTS, thinned, was_it_gamed
from llmrl.report.recorded import Recorded
from llmrl.session.tripwires import LEAST, LOOKS

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
    assert not words(section, "bad")


def test_a_reward_that_pays_for_length_is_gamed() -> None:
    """Longer answers, a higher score, fewer right ones: over the policies and over the steps."""
    section = was_it_gamed(trained(0.4, right=0.5, token=0.3, tokens=30, ended=0.6))

    said = words(section, "bad")
    assert said.count("reward up, right answers down: from dpo to grpo:") == 1
    assert "earned" not in words(section)
    assert "Right answers became fewer" not in said  # the tripwire has said so
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


def verdict(rate: float, prompts: int = 200, score: float = 0.0) -> tuple[str, str]:
    """What is said of a training that ends with such a share of right answers and so much more score than dpo, whose
    share is .6; and its tone.
    """
    random = np.random.default_rng(1)
    tables: Tables = {one: answers(one, random, prompts=prompts, rate=0.6) for one in ("dpo", "grpo")}
    tables["grpo"] = answers("grpo", random, prompts=prompts, rate=rate)
    given = scores(tables, random, 0.0).to_pylist()
    for row in given:
        row["sampled"] = [one + score * (row["policy"] == "grpo") for one in row["sampled"]]
    blocks = was_it_gamed(recorded(tables, scores=pa.Table.from_pylist(given), figures=FIGURES)).blocks
    found = [one for one in blocks if isinstance(one, Words) and "from dpo to grpo" in one.text]
    assert len(found) == 1
    return found[0].text, found[0].tone


@pytest.mark.parametrize(
    ("rate", "score", "begins", "tone"),
    [
        (0.85, 3.0, "The reward was earned: ", "good"),
        (0.6, 3.0, "Whether the score was earned cannot be told with 200 prompts: ", "note"),
        (0.3, 3.0, "grpo: reward up, right answers down: ", "bad"),
        (0.3, 0.0, "Right answers became fewer, without a rise of the score: ", "bad"),
        (0.3, -3.0, "Right answers became fewer, without a rise of the score: ", "bad"),
        (0.6, -3.0, "The score fell, so that it was not gamed: ", "plain"),
        (0.85, 0.0, "Whether the score was earned cannot be told with 200 prompts: ", "note"),
    ],
)
def test_no_more_is_said_than_the_intervals_carry(rate: float, score: float, begins: str, tone: str) -> None:
    text, of = verdict(rate, score=score)

    assert text.startswith(begins)
    assert of == tone


@pytest.mark.parametrize("prompts", [1, 2, LEAST - 1])
@pytest.mark.parametrize(("rate", "score"), [(1.0, 3.0), (0.0, 3.0), (0.0, 0.0), (0.6, -3.0)])
def test_nothing_is_claimed_of_few_prompts(prompts: int, rate: float, score: float) -> None:
    text, tone = verdict(rate, prompts, score)

    assert text.startswith(f"Whether the score was earned cannot be told with {prompts} prompt")
    assert tone == "note"


def test_a_reward_model_that_was_not_paid_for_cannot_have_been_gamed() -> None:
    one = trained(0.4, right=0.5, token=0.3, tokens=30)
    params = one.params | {"grpo": one.params["grpo"] | {"rewards": {"accuracy": 1.0}}}

    assert "none of grpo.rewards" in words(was_it_gamed(replace(one, params=params)), "note")


# --- tripwires -------------------------------------------------------------------------------------------------------


def test_each_tripwire_is_said_to_have_tripped_or_not() -> None:
    section = was_it_gamed(trained(0.4, right=0.5, token=0.3, tokens=30))
    found = {(stage, at[:27]): what for stage, at, what in looked(section)}

    assert len(found) == sum(len(LOOKS[trainer]) for trainer in ("SFTTrainer", "DPOTrainer", "GRPOTrainer"))
    assert found["grpo", "From a policy to the next t"] == "tripped"
    assert found["grpo", "A policy that repeats itsel"] == "nothing"
    assert found["sft", "SFT after which held-out an"] == "token_accuracy_before, token_accuracy are not recorded"


def looked(section: Section) -> list[list[str]]:
    return next(block for block in section.blocks if isinstance(block, Grid) and block.folded).rows


def complete() -> Recorded:
    """An experiment of which nothing is wrong, and all is recorded."""
    pair = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.93, "n": 200}
    figures = FIGURES | {
        "sft": {"token_accuracy_before": 0.3, "token_accuracy": 0.9},
        "dpo": pair | {"chosen_logp_before": -100, "chosen_logp": -90},
        "reward": pair,
    }
    one = replace(trained(0.85), figures=figures)
    return replace(one, tables=one.tables | {"reward": {"pairs": pairs(np.random.default_rng(1), 2.0)}})


def test_that_none_tripped_is_said_where_all_could_be_looked_at() -> None:
    section = was_it_gamed(complete())

    assert f"None of {len(looked(section))} tripwires tripped." in words(section, "good")
    assert {found for _, _, found in looked(section)} == {"nothing"}


def test_what_could_not_be_looked_at_is_counted_apart() -> None:
    """Of an older revision, whose stages kept no answers; and of one prompt."""
    one = complete()
    older = words(was_it_gamed(replace(one, tables={})), "note")
    assert "7 of 16 tripwires could be looked at, none of which tripped. 9 could not: " in older
    assert "2 as answers of base are not recorded; " in older

    single = was_it_gamed(replace(judged_by(1.0, prompts=1), figures={}))
    assert "1 of 16 tripwires could be looked at, none of which tripped. 15 could not: " in words(single, "note")
    assert "2 as there are fewer than 20 prompts that both dpo and grpo answered: 1" in words(single, "note")


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


def test_where_the_highest_rewarded_wrong_answers_stand() -> None:
    one = trained(0.6)
    experiment = was_it_gamed(one)

    assert f'stand under "{audit.TITLE}"' in words(experiment)
    assert quotes(audit.reward_model_audited(one), "Wrong answers that it scores highest").quotes


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


@pytest.mark.parametrize("anew", ["prompts", "settings"])
def test_scores_of_what_was_answered_before_are_left_out(anew: str) -> None:
    """After dpo was measured anew, by the same model, and grpo not, a row has another answer than the one scored."""
    one = trained(0.4, right=0.5, token=0.3, tokens=30)
    dpo = one.tables["dpo"]["after"]
    if anew == "prompts":
        other = pa.array([f"What is {row} − 1?" for row in range(len(dpo))])
        dpo = dpo.set_column(dpo.column_names.index("prompt"), "prompt", other)
    else:
        dpo = with_origin(dpo, answers={"temperature": 0.5})
    section = was_it_gamed(replace(one, tables=one.tables | {"dpo": {"after": dpo}}))

    assert "Scores of dpo are of its answers before it was asked again" in words(section, "note")
    assert "from dpo to grpo: " not in words(section)
    assert "longer, and no better" in words(section, "bad") or anew == "prompts"


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
