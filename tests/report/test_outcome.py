"""What came of it: figures and gains against the answers they are of, and what is said of a stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import vl_convert
from planted import RATES, answers, judged_by, mean, recorded, scores, words

from llmrl.graph import STAGES
from llmrl.lineage.outdated import UNRECORDED
from llmrl.measuring.answers import summary, with_origin
from llmrl.measuring.intervals import wilson
from llmrl.report.document import Chart, Command, Grid, Section
from llmrl.report.measures import TITLES, measured
from llmrl.report.outcome import what_came_of_it
from llmrl.report.recorded import Recorded

RATED = {"base": 0.0, "sft": 0.3, "dpo": 0.6, "grpo": 0.9}


def experiment(rates: dict[str, float] = RATED, prompts: int = 100, **also: Any) -> Recorded:
    """Policies of these rates, with their figures as stages record them."""
    random = np.random.default_rng(1)
    tables = {policy: answers(policy, random, prompts=prompts, rate=rate) for policy, rate in rates.items()}
    figures = {stage: {"answers": summary(tables[stage])} for stage in tables if stage in STAGES}
    if "base" in tables:
        figures["sft"]["answers_before"] = summary(tables["base"])
    return recorded(tables, **({"figures": figures} | also))


def rows(section: Section, column: str) -> dict[str, dict[str, str]]:
    """The first table with such a column: its rows by their names, each by column."""
    grid = next(block for block in section.blocks if isinstance(block, Grid) and column in block.columns)
    return {row[0]: dict(zip(grid.columns, row, strict=True)) for row in grid.rows}


def test_figures_are_those_of_metrics() -> None:
    """Every figure and interval of the answers is that which the stage recorded; none is said to differ."""
    found = experiment()
    section = what_came_of_it(found)
    grid = rows(section, "grpo")

    for policy, one in measured(found)[0].items():
        told = found.figures["sft"]["answers_before"] if policy == "base" else found.figures[policy]["answers"]
        for name in ("greedy", "sampled"):
            assert one.figure(name) == pytest.approx((told[name], told[f"{name}_low"], told[f"{name}_high"]))
        for name in [name for name in TITLES if name in told]:
            assert one.figure(name)[0] == pytest.approx(told[name], abs=1e-6)
            assert mean(grid[TITLES[name]][policy]) == pytest.approx(told[name], abs=0.06 if name == "tokens" else 6e-4)
    assert {"prompts with a solution", "right, greedy", "right, sampled", "pass@2", "pass@4", "ended"} < grid.keys()
    assert ["base", "sft", "dpo", "grpo"] == list(grid["pass@2"])[1:]
    assert "does not" not in words(section)
    assert "not" not in words(section, "bad")


def test_none_right_has_an_interval() -> None:
    """0 of 100 is not 0 for sure."""
    grid = rows(what_came_of_it(experiment()), "grpo")

    assert grid["right, greedy"]["base"] == ".000 (.000 to .037)"
    assert grid["prompts with a solution"]["base"] == "100"


def test_gains_are_of_the_same_prompts() -> None:
    """Over what the stage started from; the interval is narrower than that of two figures by themselves."""
    found = experiment()
    gain = rows(what_came_of_it(found), "dpo over sft")["right, sampled"]["dpo over sft"]
    difference = found.figures["dpo"]["answers"]["sampled"] - found.figures["sft"]["answers"]["sampled"]

    assert mean(gain) == pytest.approx(difference, abs=6e-4)
    assert gain.startswith("+.")


def test_a_stage_that_helped_did_not_and_cannot_be_told() -> None:
    """In a sentence each, with n and the interval."""
    rates = {"base": 0.0, "sft": 0.7, "dpo": 0.4, "grpo": 0.41}
    section = what_came_of_it(experiment(rates))

    assert words(section, "good").startswith("sft helped: right answers +")
    assert "over 100 prompts, against base." in words(section, "good")
    assert words(section, "bad").startswith("dpo did not help, it made answers worse: right answers −")
    assert words(section, "note").startswith("Whether grpo helped cannot be told with n = 100: ")
    assert "in 4 of 5 cases takes about" in words(section, "note")


def test_one_way_better_and_the_other_worse() -> None:
    """Neither is said alone."""
    random = np.random.default_rng(1)
    tables = {policy: answers(policy, random, prompts=200, rate=0.5) for policy in ("base", "sft")}
    wrong = pa.array([False] * 200)
    tables["base"] = with_column(tables["base"], "greedy_right", wrong)
    tables["sft"] = with_column(tables["sft"], "greedy_right", pc.invert(wrong))
    tables["sft"] = with_column(tables["sft"], "sampled_right", pa.array([[False] * 4] * 200))

    assert "sft helped greedy answers and made sampled ones worse" in words(what_came_of_it(recorded(tables)))


def first_right(table: pa.Table, share: float) -> pa.Table:
    """With this share of its greedy answers right, the first ones."""
    right = np.arange(len(table)) < share * len(table)
    return with_column(table, "greedy_right", pa.array(right))


def test_a_stage_is_judged_by_one_figure() -> None:
    """Two, each at 95 %, would differ in more than one of twenty cases: what the greedy answers say is said beside."""
    base, sft = (answers(name, np.random.default_rng(1), prompts=200, rate=0.5) for name in ("base", "sft"))
    tables = {"base": first_right(base, 0.4), "sft": first_right(sft, 0.6)}
    said = words(what_came_of_it(recorded(tables)), "note")

    assert said.startswith("Whether sft helped cannot be told with n = 200: right answers .000 (")
    assert "and +.200 (" in said
    assert "It is judged by its sampled answers; the greedy ones got better." in said


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_a_rewired_graph() -> None:
    """grpo.init: models/sft is a gain over sft."""
    found = experiment()
    found.params["grpo"]["init"] = "models/sft"
    grid = rows(what_came_of_it(found), "grpo over sft")

    assert mean(grid["right, sampled"]["grpo over sft"]) > 0.5


def test_a_stage_that_started_from_another_model() -> None:
    """Nothing is told of what it gained: the answers beside it are not of what it started from."""
    locks = {
        "sft": {"outs": [{"path": "models/sft", "md5": "new"}]},
        "dpo": {"deps": [{"path": "models/sft", "md5": "old"}], "outs": [{"path": "models/dpo", "md5": "d"}]},
    }
    section = what_came_of_it(experiment(locks=locks))

    assert "dpo: it started from another sft than the one whose answers are here, and cannot be compared" in words(
        section, "note"
    )
    assert "dpo over sft" not in str(section.blocks)
    assert "grpo over dpo" in str(section.blocks)


def test_answers_of_another_model_by_that_name() -> None:
    """Whatever the locks have: what the answers themselves tell of the models is compared."""
    random = np.random.default_rng(1)
    base, sft, dpo = (answers(policy, random) for policy in ("base", "sft", "dpo"))
    told = {"model": "b", "init": "models/base", "init_model": "b"}
    tables = {
        "base": with_origin(base, **told),
        "sft": with_origin(sft, **(told | {"model": "new"})),
        "dpo": with_origin(dpo, model="d", init="models/sft", init_model="old"),
    }
    section = what_came_of_it(recorded(tables))

    assert "sft over base" in str(section.blocks)
    assert "dpo: it started from another sft than the one whose answers are here" in words(section, "note")
    assert "dpo over sft" not in str(section.blocks)


def test_a_policy_that_lies_elsewhere() -> None:
    """Its own answers tell what a stage started from, whatever the settings have become; no stage is called so."""
    random = np.random.default_rng(1)
    old = answers("sft", random, rate=0.1)
    old = with_column(old, "policy", pa.array(["../old/sft"] * len(old)))
    dpo = answers("dpo", random, rate=0.9)
    found = recorded({"sft": answers("sft", random, rate=0.9), "dpo": dpo})
    found.tables["dpo"] = {
        "before": with_origin(old, model="o", init="../old/sft", init_model="o"),
        "after": with_origin(dpo, model="d", init="../old/sft", init_model="o"),
    }
    section = what_came_of_it(found)

    assert mean(rows(section, "dpo over ../old/sft")["right, sampled"]["dpo over ../old/sft"]) > 0.7
    assert "against ../old/sft" in words(section, "good")


def test_other_prompts() -> None:
    """Of a policy that was asked others nothing is compared; of one that was asked more, those in common."""
    random = np.random.default_rng(1)
    sft, dpo = answers("sft", random, prompts=80, rate=0.2), answers("dpo", random, prompts=100, rate=0.9)
    grid = rows(what_came_of_it(recorded({"sft": sft, "dpo": dpo})), "dpo over sft")
    other = with_column(sft, "prompt", pa.array([f"Why {row}?" for row in range(80)]))

    assert grid["prompts in common"]["dpo over sft"] == "80"
    assert "was asked other prompts" in words(what_came_of_it(recorded({"sft": other, "dpo": dpo})))


def test_figures_without_answers() -> None:
    """Of a revision before answers were kept: the figures, an interval where it is known, and what brings the rest."""
    old = {"greedy": 0.02, "greedy_ci95": 0.0134, "sampled": 0.26, "sampled_ci95": 0.02, "n": 500, "tokens": 12.1}
    locks = {"sft": {"outs": [{"path": "models/sft", "md5": "a"}]}}
    section = what_came_of_it(recorded({}, figures={"sft": {"answers": old, "answers_before": old}}, locks=locks))
    grid = rows(section, "sft")
    low, high = wilson(0.02, 500)

    assert grid["right, sampled"]["sft"] == ".260 (.240 to .280)"
    assert grid["right, greedy"]["sft"] == f".020 ({low:.3f} to {high:.3f})".replace("0.", ".")
    assert grid["tokens"]["base"].startswith("12.1")
    assert any(isinstance(block, Command) for block in section.blocks)
    assert "Answers of sft are missing" in words(section)


def test_an_older_interval_without_a_width() -> None:
    """None right is not none for sure; where n is not known, no interval is."""
    old = {"greedy": 0.0, "greedy_ci95": 0.0, "sampled": 0.0, "sampled_ci95": 0.0}
    figures = {"sft": {"answers": old | {"n": 40}, "answers_before": old}}
    grid = rows(what_came_of_it(recorded({}, figures=figures)), "sft")

    for way in ("right, greedy", "right, sampled"):
        assert grid[way] | {"": ""} == {"": "", "base": ".000", "sft": ".000 (.000 to .088)"}


def test_nothing_at_all() -> None:
    """No stage has run: it says so, with the commands, and has no table."""
    section = what_came_of_it(recorded({}))

    assert "Answers of sft are missing: sft has not run." in words(section)
    assert not [block for block in section.blocks if isinstance(block, Chart)]


def test_no_solutions() -> None:
    """Nothing is right or wrong; what is known without is shown."""
    random = np.random.default_rng(1)
    section = what_came_of_it(recorded({policy: answers(policy, random, judged=False) for policy in RATES}))
    grid = rows(section, "grpo")

    assert "no held-out prompt has a solution" in words(section, "note")
    assert grid["prompts with a solution"]["sft"] == "0"
    assert "right, sampled" not in grid
    assert grid["tokens"]["sft"]


@pytest.mark.parametrize(("prompts", "samples"), [(1, 1), (1, 4), (2, 1)])
def test_one_prompt_and_one_sample(prompts: int, samples: int) -> None:
    """Little is told, and nothing breaks."""
    random = np.random.default_rng(1)
    tables = {policy: answers(policy, random, prompts=prompts, samples=samples) for policy in RATES}
    section = what_came_of_it(recorded(tables, scores=scores(tables, random, 1.0)))

    assert "cannot be told" in words(section)
    assert "nan" not in str(section.blocks)


def test_outdated_stages_are_marked() -> None:
    """In the table and in words, with why."""
    why = {"dpo": "of another run, as dpo.beta has changed since", "grpo": UNRECORDED, "prepare@sft": "of another run"}
    section = what_came_of_it(replace(experiment(), outdated=why))

    assert "dpo: its figures are of another run, as dpo.beta has changed since." in words(section, "bad")
    assert f"grpo: its figures are {UNRECORDED}." in words(section, "bad")
    assert "dpo (outdated)" in rows(section, "sft")["right, greedy"]
    assert "prepare" not in words(section)
    assert "dpo helped" not in words(section, "good")
    assert "By outdated figures: dpo helped: right answers +" in words(section, "note")
    assert "sft helped" in words(section, "good")


def test_a_stage_that_a_gate_stopped() -> None:
    """It has drawn curves, and written no figures: the answers are those of the run before, which dvc.lock has."""
    found = experiment(locks={"dpo": {"outs": [{"path": "models/dpo", "md5": "d"}]}})
    del found.figures["dpo"]
    section = what_came_of_it(replace(found, outdated={"dpo": UNRECORDED, "reward": "of another run"}))

    assert "dpo: its figures are those that dvc.lock has recorded, as its last run ended before" in words(
        section, "bad"
    )
    assert UNRECORDED not in words(section)
    assert "reward" not in words(section)  # which never ran
    assert "dpo (outdated)" in rows(section, "sft")["right, greedy"]


def test_a_figure_edited_by_hand() -> None:
    """What metrics/ says and the answers do not is said."""
    found = experiment()
    found.figures["dpo"]["answers"]["greedy"] = 0.99

    assert "metrics/ says of dpo what its answers do not: greedy .990, not" in words(what_came_of_it(found), "bad")


def test_scores_and_pairs() -> None:
    """The reward model's score of each policy with its interval, and how many pairs DPO's ranks right."""
    figures = {
        "reward": {"accuracy": 0.5, "n": 300},
        "dpo": {"accuracy": 0.9, "n": 300},
    }
    section = what_came_of_it(replace(judged_by(2.0), figures=figures))
    low, high = wilson(0.9, 300)

    assert mean(rows(section, "grpo")["reward model's score"]["grpo"]) > mean(
        rows(section, "grpo")["reward model's score"]["sft"]
    )
    ranked = rows(section, "grpo")["held-out pairs ranked right"]
    assert ranked["dpo"] == f".900 ({low:.3f} to {high:.3f})".replace("0.", ".")
    assert ranked["grpo"] == "–"
    assert "interval over pairs (n = 300)" in str(section.blocks)
    del figures["dpo"]["n"]
    assert (
        rows(what_came_of_it(replace(judged_by(2.0), figures=figures)), "grpo")["held-out pairs ranked right"]["dpo"]
        == ".900"
    )


def test_the_chart_is_drawn() -> None:
    """Vega-Lite takes it, with figures of all policies, and says the same in words."""
    chart = next(block for block in what_came_of_it(experiment()).blocks if isinstance(block, Chart))

    assert "<svg" in vl_convert.vegalite_to_svg(chart.drawing)
    assert len(chart.drawing["data"]["values"]) == 8
    assert "grpo" in chart.words
