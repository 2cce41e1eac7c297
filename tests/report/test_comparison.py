"""Experiments side by side: seeds as one column, what an interval is over, and when one is called better."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clone import Clone, micro_clone
from planted import answers, mean, recorded, words
from rich.console import Console

from llmrl.errors import InputError
from llmrl.lineage.outdated import UNRECORDED
from llmrl.measuring.answers import summary
from llmrl.report.__main__ import printed
from llmrl.report.comparison import compared, selected, settings_at
from llmrl.report.document import Command, Grid, Section
from llmrl.report.groups import deciding, grouped, over
from llmrl.report.recorded import Recorded, experiment_at


def trained(
    beta: float, seed: int, rate: float, name: str = "", prompts: int = 200, asked: str = "", **params: Any
) -> Recorded:
    """An experiment with this rate of right answers of dpo, and the same sft for each seed."""
    tables = {
        policy: answers(policy, np.random.default_rng([seed, of]), prompts=prompts, rate=right)
        for policy, right, of in (("sft", 0.3, 0), ("dpo", rate, round(1000 * beta)))
    }
    if asked:
        column = pa.array([f"{asked} {row}" for row in range(prompts)])
        tables = {name: table.set_column(2, "prompt", column) for name, table in tables.items()}
    figures = {stage: {"answers": summary(table)} for stage, table in tables.items()}
    made = {"sft": f"sft {seed}", "dpo": f"dpo {beta} {seed}"}
    locks = {stage: {"outs": [{"path": f"models/{stage}", "md5": md5}]} for stage, md5 in made.items()}
    given: dict[str, Any] = {"sft": {"init": "models/base"}, "dpo": {"init": "models/sft", "beta": beta}}
    given |= {"train": {"seed": seed}, "data": {"seed": 1}, "run": {"grace": seed}}
    found = recorded(tables, figures=figures, locks=locks, params=given | params)
    return Recorded(**(vars(found) | {"revision": name or f"b{beta}s{seed}"}))


def of_seeds(beta: float, rates: list[float], **more: Any) -> list[Recorded]:
    return [trained(beta, seed, rate, **more) for seed, rate in enumerate(rates, 1)]


def rows(section: Section, column: str) -> dict[str, dict[str, str]]:
    """The first table with such a column: its rows by their names, each by column."""
    grid = next(block for block in section.blocks if isinstance(block, Grid) and column in block.columns)
    return {row[0]: dict(zip(grid.columns, row, strict=True)) for row in grid.rows}


def cell(section: Section, row: str, column: str) -> str:
    """Of the table that has both."""
    grids = [block for block in section.blocks if isinstance(block, Grid) and column in block.columns]
    return next(line[grid.columns.index(column)] for grid in grids for line in grid.rows if line[0] == row)


def ends(text: str) -> tuple[float, float]:
    """Of the interval in a cell."""
    low, high = text.partition("(")[2].rstrip(")").replace("−", "-").split(" to ")
    return float(low), float(high)


def verdict(*experiments: Recorded) -> str:
    return words(compared([*experiments])).splitlines()[0]


# --- the verdict -----------------------------------------------------------------------------------------------------


def test_better_beyond_seeds() -> None:
    """Three seeds each, all of which say the same: better, with what the interval is over."""
    section = compared([*of_seeds(0.1, [0.7, 0.72, 0.71]), *of_seeds(0.3, [0.4, 0.42, 0.41])])
    mine = "dpo.beta = 0.1, 3 seeds"

    assert words(section, "good").startswith("dpo.beta = 0.1 is better than 0.3: right answers of dpo, sampled +.")
    assert "over 200 prompts and 3 seeds)" in words(section, "good")
    assert "sd" in cell(section, "  its spread over seeds", mine)
    assert mean(cell(section, "dpo: right, sampled", mine)) == pytest.approx(0.71, abs=0.04)
    assert cell(section, "sft", "0.3") == "same model"


def test_seeds_that_disagree_are_not_told() -> None:
    """+.15, +.2 and −.15: over prompts alone each is a difference, together they are none; and what could tell."""
    said = verdict(*of_seeds(0.1, [0.6, 0.65, 0.35]), *of_seeds(0.3, [0.45, 0.45, 0.5]))

    assert said.startswith(
        "Whether dpo.beta = 0.1 is better than 0.3 cannot be told: right answers of dpo, sampled +.0"
    )
    assert "over 200 prompts and 3 seeds" in said
    assert "seeds each could tell a difference as large" in said


def test_one_seed_is_not_enough() -> None:
    """However large the difference, nothing is called better by one training; the command for three is given."""
    section = compared([trained(0.1, 1, 0.9), trained(0.3, 1, 0.3)])

    assert "is better" not in words(section)
    assert "dpo.beta = 0.1 did better than 0.3" in words(section)
    assert "over 200 prompts alone)" in words(section)
    assert "Seeds are not covered" in words(section)
    assert any(isinstance(block, Command) and "train.seed=1,2,3" in block.line for block in section.blocks)


def test_no_difference_of_one_seed() -> None:
    """And what number of prompts could tell it."""
    said = verdict(trained(0.1, 1, 0.52), trained(0.3, 1, 0.5))

    assert "cannot be told" in said
    assert "prompts could tell" in said


def test_seeds_alone_are_one_column() -> None:
    """Their mean and spread, and no verdict."""
    section = compared(of_seeds(0.1, [0.5, 0.6, 0.7]))
    low, high = ends(cell(section, "dpo: right, sampled", "b0.1s1 and 2 more, 3 seeds"))

    assert "They differ in seeds alone" in words(section)
    assert not [one for one in section.blocks if isinstance(one, Grid) and one.columns[0].endswith(" over")]
    assert high - low > 0.4  # Student's of three


def test_three_settings_have_wider_intervals() -> None:
    """Of three pairs one differs by chance more often: the best is compared at a level at which all hold."""
    two = [*of_seeds(0.1, [0.7, 0.72, 0.71]), *of_seeds(0.3, [0.5, 0.52, 0.51])]
    three = [*two, *of_seeds(0.05, [0.6, 0.62, 0.61])]
    first, second = (cell(compared(some), "dpo: right, sampled", "0.3") for some in (two, three))

    assert mean(first) == mean(second)
    assert ends(second)[0] < ends(first)[0] < ends(first)[1] < ends(second)[1]
    assert len([line for line in words(compared(three)).splitlines() if "sampled" in line]) == 2


def test_seeds_that_all_say_the_same_say_nothing_of_the_next() -> None:
    """Student's interval over two equal gains has no width: what is left is over prompts alone, and no "better"."""
    mine, theirs = of_seeds(0.1, [0.9, 0.9]), of_seeds(0.3, [0.3, 0.3])
    for several in (mine, theirs):
        for one in several:
            one.tables["dpo"] = several[0].tables["dpo"]
            one.figures["dpo"] = several[0].figures["dpo"]
    found = over(*groups_of(*mine, *theirs), "dpo", "sampled")
    said = verdict(*mine, *theirs)

    assert (found.seeds, found.over) == (0, "over 200 prompts alone, as 2 seeds say exactly the same")
    assert said.startswith("dpo.beta = 0.1 did better than 0.3: ")
    assert "Seeds are not covered" in said
    for one in mine:
        one.figures["dpo"]["answers"] = summary(one.tables["dpo"]["after"])
    other = over(*groups_of(*asking_others(mine), *asking_others(theirs)), "dpo", "sampled")
    assert other.interval[1] < other.interval[0] < other.interval[2]
    assert "seeds" not in other.over.partition(",")[0]


def asking_others(several: list[Recorded]) -> list[Recorded]:
    """The same answers, said to be to prompts that are others for each seed."""
    given = []
    for seed, one in enumerate(several):
        column = pa.array([f"{seed} {row}" for row in range(200)])
        tables = {
            name: {when: table.set_column(2, "prompt", column) for when, table in of.items()}
            for name, of in one.tables.items()
        }
        given.append(Recorded(**(vars(one) | {"tables": tables})))
    return given


def test_it_is_judged_by_one_figure() -> None:
    """The sampled answers: what the greedy ones say is said beside, and both where they disagree."""

    def greedy(one: Recorded, share: float) -> Recorded:
        table = one.tables["dpo"]["after"]
        column = pa.array(np.arange(len(table)) < share * len(table))
        one.tables["dpo"]["after"] = table.set_column(table.column_names.index("greedy_right"), "greedy_right", column)
        return one

    unsure = verdict(greedy(trained(0.1, 1, 0.5), 0.2), greedy(trained(0.3, 1, 0.5), 0.9))
    torn = verdict(greedy(trained(0.1, 1, 0.8), 0.2), greedy(trained(0.3, 1, 0.5), 0.9))

    assert unsure.startswith("Whether dpo.beta = 0.3 is better than 0.1 cannot be told: right answers of dpo, sampled ")
    assert "It is judged by sampled answers; the greedy ones are better." in unsure
    assert torn.startswith("dpo.beta = 0.1 did better than 0.3 by its sampled answers, and worse by its greedy ones: ")


def test_one_prompt_is_no_prompts() -> None:
    found = over(*groups_of(trained(0.1, 1, 0.9, prompts=1), trained(0.3, 1, 0.3, prompts=1)), "dpo", "sampled")

    assert found.over == "over 1 prompt alone"


# --- pairing ---------------------------------------------------------------------------------------------------------


def groups_of(*experiments: Recorded) -> list[Any]:
    return grouped([*experiments])[0]


def test_paired_is_narrower_than_unpaired() -> None:
    """Where prompts are the same; where they are not, it says so."""
    same = over(*groups_of(trained(0.1, 1, 0.6), trained(0.3, 1, 0.5)), "dpo", "sampled")
    other = over(*groups_of(trained(0.1, 1, 0.6), trained(0.3, 1, 0.5, asked="Why")), "dpo", "sampled")

    assert same.interval[0] == pytest.approx(other.interval[0])
    assert (same.over, other.over) == ("over 200 prompts alone", "over unpaired prompts alone")


def test_seeds_with_prompts_of_their_own() -> None:
    """Each seed of the data has other prompts, which are the same for both settings: Student's over the seeds."""
    mine = [trained(0.1, seed, 0.6, asked=f"{seed}", data={"seed": seed}) for seed in (1, 2, 3)]
    theirs = [trained(0.3, seed, 0.5, asked=f"{seed}", data={"seed": seed}) for seed in (1, 2, 3)]
    found = over(*groups_of(*mine, *theirs), "dpo", "sampled")
    gains = [
        my.figures["dpo"]["answers"]["sampled"] - their.figures["dpo"]["answers"]["sampled"]
        for my, their in zip(mine, theirs, strict=True)
    ]

    assert found.interval[0] == pytest.approx(np.mean(gains))
    assert found.interval[2] - found.interval[0] == pytest.approx(4.3027 * np.std(gains, ddof=1) / 3**0.5, rel=1e-3)
    assert (found.seeds, found.prompts) == (3, 0)


def test_other_seeds_and_numbers_of_seeds() -> None:
    """Are not paired seed by seed, and still cover seeds; one other seed against three tells nothing over seeds."""
    mine = [trained(0.1, seed, 0.9) for seed in (1, 2, 3)]
    theirs = [trained(0.3, seed, 0.3) for seed in (4, 5)]
    found = over(*groups_of(*mine, theirs[0]), "dpo", "sampled")
    said = verdict(*mine, theirs[0])

    assert over(*groups_of(*mine, *theirs), "dpo", "sampled").seeds == 2
    assert over(*groups_of(*mine, trained(0.3, 3, 0.3), *theirs), "dpo", "sampled").seeds == 3  # one pair says less
    assert (found.seeds, found.over) == (0, "over 200 prompts alone, of different seeds")
    assert said.startswith("Whether dpo.beta = 0.1 is better than 0.3 cannot be told over seeds, as they have no seed ")


def test_a_seed_that_one_alone_has_is_left_out() -> None:
    """Of one run missing, the seed that is left is set against its like, and not the mean of two against one."""
    mine, theirs = of_seeds(0.02, [0.5, 0.9]), of_seeds(0.5, [0.5])
    single = over(*groups_of(mine[0], *theirs), "dpo", "sampled")
    section = compared([*mine, *theirs])

    assert over(*groups_of(*mine, *theirs), "dpo", "sampled") == single
    assert "cannot be told: " in verdict(*mine, *theirs)
    assert (
        "Differences in dpo between dpo.beta = 0.02 and 0.5 are over the seeds that both have, without b0.02s2."
        in words(section, "note")
    )
    assert cell(section, "sft", "0.5") == "same model"  # which the setting does not reach
    assert any(isinstance(block, Command) for block in section.blocks)
    assert "without" not in words(compared([*mine, *of_seeds(0.5, [0.5, 0.5])]))


def test_the_better_of_the_common_seeds_is_called_better() -> None:
    """Be its mean over all its seeds the lower one."""
    said = verdict(*of_seeds(0.02, [0.4, 0.42, 0.41, 0.95, 0.95, 0.95]), *of_seeds(0.5, [0.6, 0.62, 0.61]))

    assert said.startswith("dpo.beta = 0.5 is better than 0.02: ")


def test_scores_of_different_reward_models_are_left_out() -> None:
    """Of figures as of differences; where one gave them all, they are there."""
    several = of_seeds(0.1, [0.5, 0.6])
    for one in several:
        one.figures["grpo"] = {"scores": {"dpo": -2.0}}
        one.tables.clear()
        one.locks["reward"] = {"outs": [{"path": "models/reward", "md5": "one"}]}
    alike = compared(several)
    several[1].locks["reward"]["outs"][0]["md5"] = "another"
    apart = compared(several)

    assert cell(alike, "dpo: reward model's score", "b0.1s1 and 1 more, 2 seeds").startswith("−2.00")
    assert "Scores are left out: 2 reward models gave them" in words(apart, "note")
    assert "reward model's score" not in str(apart.blocks)


def test_a_row_of_intervals_holds_at_once() -> None:
    """The correction is by pairs of columns: not for all rows."""
    section = compared([trained(beta, 1, 0.5) for beta in (0.05, 0.1, 0.3)])

    assert "Differences with 98.3 % intervals, of which those of a row hold at once" in str(section.blocks)


def test_each_seed_is_one_line_in_a_terminal() -> None:
    """Of 200 columns, with all four stages."""
    several = [*of_seeds(0.05, [0.5, 0.6]), *of_seeds(0.1, [0.5, 0.6])]
    for at, one in enumerate(several):
        one.tables["sft"]["before"] = answers("base", np.random.default_rng(1))
        one.tables["grpo"] = {"after": answers("grpo", np.random.default_rng(1))}
        one.figures["grpo"] = {"answers": summary(one.tables["grpo"]["after"])}
        one.figures["reward"] = {"accuracy": 0.9, "n": 300}
        one.figures["dpo"] |= {"accuracy": 0.9, "n": 300}
        one.locks["sft"]["outs"][0]["md5"] = str(at)
    grid = next(block for block in compared(several).blocks if isinstance(block, Grid) and block.folded)
    console = Console(width=200, file=io.StringIO())
    console.print(printed(replace(grid, caption="")))
    lines = console.file.getvalue().splitlines()

    assert len(grid.columns) == 7
    assert len(lines) == 5
    assert lines[1].startswith("0.05: b0.05s1")


# --- what counts -----------------------------------------------------------------------------------------------------


def test_what_is_the_same_again_counts_once() -> None:
    """Two names of one experiment are no two seeds."""
    section = compared([trained(0.1, 1, 0.6), trained(0.1, 1, 0.6, name="again"), trained(0.3, 1, 0.5)])

    assert "again is b0.1s1 again" in words(section, "note")
    assert cell(section, "dpo: right, sampled", "dpo.beta = 0.1")  # no "2 seeds"


def test_outdated_figures_are_left_out() -> None:
    """And said to be; such as no lock has yet are shown."""
    mine = of_seeds(0.1, [0.7, 0.7])
    mine[0] = Recorded(**(vars(mine[0]) | {"outdated": {"dpo": "of another run, as dpo.beta has changed since"}}))
    mine[1] = Recorded(**(vars(mine[1]) | {"outdated": {"dpo": UNRECORDED}}))
    section = compared([*mine, *of_seeds(0.3, [0.5, 0.5])])

    assert "b0.1s1, dpo: left out, as its figures are of another run, as dpo.beta has changed" in words(section, "bad")
    assert "b0.1s2, dpo: its figures may change" in words(section, "bad")
    assert groups_of(*mine)[0].means("dpo", "sampled").size == 1


def test_figures_without_answers() -> None:
    """Older revisions have figures alone: these are compared, unpaired."""
    old = trained(0.1, 1, 0.9)
    old.tables.clear()
    section = compared([old, trained(0.3, 1, 0.3)])

    assert "b0.1s1: answers of sft, dpo are not here" in words(section, "note")
    assert "over unpaired prompts alone" in words(section)


@pytest.mark.parametrize("width", [None, 0.0])
def test_no_interval_is_no_proof(width: float | None) -> None:
    """Figures of older revisions, whose interval is not known, or has no width where how many there are is not."""
    both = [trained(0.1, 1, 0.9), trained(0.3, 1, 0.3)]
    for one in both:
        one.tables.clear()
        known = one.figures["dpo"]["answers"]
        one.figures["dpo"]["answers"] = {"sampled": known["sampled"]} | (
            {} if width is None else {"sampled_ci95": width}
        )
    said = verdict(*both)

    assert said.startswith("Whether dpo.beta = 0.1 is better than 0.3 cannot be told: right answers of dpo, sampled +.")
    assert "(no interval is known)" in said


def test_what_differs_is_listed() -> None:
    """Settings, code and seeds; not what changes no result."""
    mine, theirs = trained(0.1, 1, 0.5), copy.deepcopy(trained(0.3, 2, 0.5, train={"seed": 2, "optim": "sgd"}))
    theirs.locks["dpo"]["deps"] = [{"path": "llmrl/training", "md5": "0123456789"}, {"path": "models/sft", "md5": "x"}]
    grid = rows(compared([mine, theirs]), "b0.1s1")

    assert grid["dpo.beta"] == {"what differs": "dpo.beta", "b0.1s1": "0.1", "b0.3s2": "0.3"}
    assert grid["train.optim"]["b0.3s2"] == '"sgd"'
    assert grid["llmrl/training"]["b0.3s2"] == "0123456"
    assert grid["train.seed"]["b0.3s2"] == "2"
    assert not {"run.grace", "models/sft"} & grid.keys()


def test_nothing_to_judge_by() -> None:
    """No policy in common, or no solution."""
    one, other = trained(0.1, 1, 0.5), trained(0.3, 1, 0.5)
    for found in (one, other):
        found.tables.clear()
        found.figures.clear()

    assert "none can be called better" in words(compared([one, other]))


# --- which are selected ----------------------------------------------------------------------------------------------


def test_two_revisions_are_needed() -> None:
    """One cannot be compared."""
    for revisions in ([], ["HEAD"], ["HEAD", "HEAD"]):
        with pytest.raises(InputError, match="two revisions"):
            selected(None, revisions)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment up to dpo, committed, and two betas with two seeds each as experiments of DVC's."""
    clone = micro_clone(tmp_path_factory.mktemp("swept") / "project")
    clone.run("dvc", "repro", "-q", "dpo")
    clone.commit("a run")
    for beta in (0.2, 0.4):
        for seed in (1, 2):
            changes = ("-S", f"dpo.beta={beta}", "-S", f"train.seed={seed}")
            clone.run("dvc", "exp", "run", "-q", "-n", f"b{beta}s{seed}", *changes, "dpo")
    clone.run("dvc", "exp", "run", "-q", "-n", "other", "-S", "dpo.beta=0.2", "-S", "sft.max_steps=2", "dpo")
    clone.run("git", "checkout", "-q", ".")
    return clone


@pytest.mark.slow
def test_by_a_setting(swept: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All experiments that differ in it and in seeds alone, of which nothing is checked out; the others are named."""
    monkeypatch.chdir(swept.folder)
    found = selected("dpo.beta", [])
    section = compared(found)

    assert {"HEAD", "b0.2s1", "b0.2s2", "b0.4s1", "b0.4s2"} == {one.revision for one in found}
    assert "other is left out: it also differs in sft.max_steps." in capsys.readouterr().err
    assert {"dpo.beta = 0.1", "dpo.beta = 0.2, 2 seeds", "dpo.beta = 0.4, 2 seeds"} < set(
        next(block for block in section.blocks if isinstance(block, Grid)).columns
    )
    of = [one.figures["dpo"]["answers"]["tokens"] for one in found if one.params["dpo"]["beta"] == 0.2]
    assert mean(cell(section, "dpo: tokens", "dpo.beta = 0.2, 2 seeds")) == pytest.approx(np.mean(of), abs=0.06)
    assert not swept.run("git", "status", "--porcelain")


@pytest.mark.slow
def test_by_what_is_no_setting(swept: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest name; and one in which none differ."""
    monkeypatch.chdir(swept.folder)

    with pytest.raises(InputError, match=r"dpo.bta: no experiment has such a setting. Did you mean dpo.beta\?"):
        selected("dpo.bta", [])
    with pytest.raises(InputError, match=r"dpo.max_steps: no two of 6 experiments differ in it"):
        selected("dpo.max_steps", [])
    with pytest.raises(InputError, match="nowhere"):
        selected("dpo.beta", ["nowhere"])


@pytest.mark.slow
def test_revisions_of_all_kinds(swept: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workspace, a commit, a branch and an experiment have the same settings as git has them."""
    monkeypatch.chdir(swept.folder)

    assert settings_at("workspace") == settings_at("HEAD") == settings_at("main")
    assert settings_at("b0.4s2")["dpo.beta"] == 0.4
    assert deciding(experiment_at("b0.4s2").params, experiment_at("b0.4s2").locks) == settings_at("b0.4s2")


@pytest.mark.slow
def test_answers_are_found_by_the_models_hash(swept: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit whose lock has the model and not its answers: they are those of another, or of DVC's run cache."""
    monkeypatch.chdir(swept.folder)
    before = experiment_at("HEAD")
    lock = (swept.folder / "dvc.lock").read_text()
    without = lock.replace("path: metrics/sft/held_out", "path: metrics/sft/nowhere", 1)
    assert without != lock
    (swept.folder / "dvc.lock").write_text(without)
    swept.run("git", "commit", "-qam", "a lock without answers")

    assert experiment_at("HEAD").tables["sft"]["after"].equals(before.tables["sft"]["after"])
