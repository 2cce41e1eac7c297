"""GRPO on prompts it can learn from, and its end where it learns nothing: through the real stage."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
from clone import Clone, micro_clone

HELD_OUT = "data/prompts/eval.parquet"
GRPO = (sys.executable, "-m", "stages.grpo")
pytestmark = pytest.mark.slow  # a policy is trained that is right now and then


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with a policy that is right now and then, and all else that grpo needs."""
    clone = micro_clone(tmp_path_factory.mktemp("difficulty") / "clone")
    clone.params(
        data={"prompts": {"rows": 48, "eval_rows": 8, "source": "builtin:arithmetic"}},
        run={"save_steps": 3},
        sft={"max_steps": 60, "batch": 16, "micro_batch": 16, "eval_strategy": "no"},
        reward={"max_steps": 1, "eval_strategy": "no"},
        grpo={"init": "models/sft", "max_steps": 8, "eval_strategy": "no", "max_completion_length": 32},
    )
    clone.run("dvc", "repro", "sft", "reward")
    clone.commit("all but grpo")
    return clone


@pytest.fixture(scope="module")
def plain(made: Clone) -> tuple[bytes, dict, dict]:
    """What grpo gives on all prompts; its run lies apart."""
    weights, figures, record = trained(made)
    kept = made.folder.parent / "plain"
    shutil.copytree(record["folder"], kept)
    shutil.copytree(made.folder / "metrics/grpo/plots", kept / "plots")
    return weights, figures, record | {"folder": kept}


@pytest.fixture
def clone(made: Clone) -> Iterator[Clone]:
    """The clone as it was made, nothing of grpo in it, brought back afterwards."""
    made.clean("metrics/grpo", "runs", "models/grpo")
    yield made
    made.run("git", "checkout", "-q", ".")


def trained(clone: Clone) -> tuple[bytes, dict, dict]:
    """Run grpo; its weights, figures and record."""
    clone.run(*GRPO)
    return (clone.folder / "models/grpo/model.safetensors").read_bytes(), clone.figures("grpo"), clone.runs()[-1]


def practised(record: dict) -> set[str]:
    """The prompts that a run trained on, and those it evaluated TRL's way."""
    files = (record["folder"] / "completions").glob("*.parquet")
    return {turns[-1]["content"] for file in files for turns in pq.read_table(file)["prompt"].to_pylist()}


def test_only_prompts_within_the_range_are_trained_on(clone) -> None:
    """The others are counted by side, in the figures and on the terminal; every answer they were judged by is kept.

    One without a solution, be it the first, cannot be judged, and stays: accuracy judges the others.
    """
    file = clone.folder / "data/prompts/train.parquet"
    data, table = file.read_bytes(), pq.read_table(file)
    solutions = [None, *table["solution"].to_pylist()[1:]]
    pq.write_table(table.set_column(table.schema.get_field_index("solution"), "solution", [solutions]), file)
    clone.run("dvc", "commit", "-f", "-q", "data/dvc.yaml:prepare@prompts")
    clone.params(grpo={"pass_rate": [0.1, 0.9]})
    _, figures, record = trained(clone)
    file.write_bytes(data)
    judged = pq.read_table(record["folder"] / "prompts.parquet").to_pylist()
    kept = {row["prompt"] for row in judged if row["right"] is None or 0.1 <= row["right"] <= 0.9}
    held_out = {row["prompt"][0]["content"] for row in pq.read_table(clone.folder / HELD_OUT).to_pylist()}
    said = (record["folder"] / "console.log").read_text()

    assert [0] == [row for row, one in enumerate(judged) if one["right"] is None]
    assert {8} == {len(row["sampled"]) for row in judged}
    assert 1 < len(kept) == figures["rows"] < 48
    assert 48 == figures["rows"] + figures["rows_too_easy"] + figures["rows_too_hard"]
    assert f"{figures['rows_too_easy']} too easy, {figures['rows_too_hard']} too hard" in said
    assert practised(record) & kept
    assert practised(record) <= kept | held_out
    assert "accuracy" in figures


def test_judging_disturbs_nothing(clone, plain) -> None:
    """A range that leaves out nothing trains the same weights as none."""
    clone.params(grpo={"pass_rate": [0.0, 1.0]})
    weights, judged, record = trained(clone)

    assert plain[0] == weights
    assert judged == plain[1] | {"rows_too_easy": 0, "rows_too_hard": 0}
    assert "judging prompts" in record["phases"]


def test_killed_it_goes_on_with_the_same_prompts(clone) -> None:
    """And does not judge them again; the weights and figures are those of a run that was never disturbed."""
    clone.params(grpo={"pass_rate": [0.1, 0.9], "max_steps": 30})
    undisturbed = trained(clone)[:2]
    clone.kill("grpo", step=3)
    *resumed, record = trained(clone)

    assert "from step" in (record["folder"] / "console.log").read_text()
    assert "judging prompts" not in record["phases"]
    assert (record["folder"] / "prompts.parquet").exists()
    assert list(undisturbed) == resumed


def test_nothing_left_is_said(clone) -> None:
    """With how many are too easy, how many too hard, and what to do; and at once the next time."""
    clone.params(grpo={"pass_rate": [0.2, 0.3], "pass_samples": 2})
    said = clone.run(*GRPO, check=False)
    again = clone.run(*GRPO, check=False)

    assert "grpo.pass_rate: 0 of 48 prompts are left, and a batch needs 2: to models/sft" in said
    assert "Widen the range" in said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == again.splitlines()[-1]
    assert "judging prompts" not in clone.runs()[-1]["phases"]


def test_it_stops_where_it_learns_nothing_also_after_it_was_resumed(clone) -> None:
    """At the same step, with what to change; without the limit it goes on from its checkpoint to the end."""
    # Two tokens hold no boxed answer: no completion is better than another.
    clone.params(grpo={"rewards": {"ends_marked": 1.0}, "max_completion_length": 2}, run={"patience": 5})
    first, second = (clone.run(*GRPO, check=False) for _ in range(2))
    clone.params(run={"min_signal": 0.0})
    third = clone.run(*GRPO)

    assert "resumed" not in first
    for said in (first, second):
        assert "grpo: step 5: 0% of the groups of the last 5 steps had a signal" in said
        assert "mean reward is 0.0; 100% of the completions are cut off" in said
        assert "grpo.pass_rate" in said
        assert "Traceback" not in said
    assert "from step 3" in second
    assert "from step 3" in third
    assert 0.0 == clone.figures("grpo")["groups_with_signal"]


def test_the_share_of_groups_with_signal_is_shown(plain) -> None:
    """On the terminal while it trains, as a curve, and as a closing figure: the mean over the training."""
    _, figures, record = plain
    said = (record["folder"] / "console.log").read_text()
    curve = (record["folder"] / "plots/metrics/grpo/groups_with_signal.tsv").read_text().splitlines()[1:]
    shares = [float(line.split("\t")[1]) for line in curve]
    logged = [json.loads(line) for line in (record["folder"] / "metrics.jsonl").read_text().splitlines()]

    assert 8 == len(shares)
    assert shares == [1 - line["frac_reward_zero_std"] for line in logged if "frac_reward_zero_std" in line]
    assert sum(shares) / 8 == pytest.approx(figures["groups_with_signal"])
    assert "of groups with signal" in said
    assert "while it trained: groups_with_signal" in said
