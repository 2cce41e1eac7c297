"""Tasks of reasoning-gym through the real pipeline: a mixture of two, practised on and measured by their scorers."""

from __future__ import annotations

import json
import sys

import pyarrow.parquet as pq
import pytest
from clone import STAGES, Clone, micro_clone

from llmrl.answers import gym
from llmrl.measuring.answers import summary

pytestmark = pytest.mark.slow
WAYS = {f"{way}{end}" for way in ("greedy", "sampled") for end in ("", "_low", "_high")}
MIXED = [
    {
        "source": "reasoning_gym:chain_sum",
        "options": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    },
    {"source": "reasoning_gym:rush_hour", "weight": 0.5},
]
SIZES = {"rows": 48, "eval_rows": 24}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment on them: prompts of both, the others of the first, which has answers."""
    pytest.importorskip("reasoning_gym")
    clone = micro_clone(tmp_path_factory.mktemp("gym") / "clone")
    clone.params(
        data={
            "prompts": SIZES | {"source": MIXED},
            "sft": SIZES | MIXED[0],
            "preference": SIZES | MIXED[0] | {"policy": "data/preference"},
        },
        grpo={"rewards": {"reasoning_gym": 1.0, "reward_model": 0.03}, "max_prompt_length": None},
    )
    clone.commit("tasks of reasoning-gym")
    clone.run("dvc", "repro")
    clone.commit("run")
    return clone


def test_each_policy_is_measured_by_task(clone: Clone) -> None:
    """In the figures of every policy, which are those of the answers that were kept."""
    for stage in STAGES:
        if stage == "reward":
            continue
        found = clone.figures(stage)["answers"]
        table = pq.read_table(clone.folder / f"metrics/{stage}/held_out/after.parquet")
        assert {"chain_sum", "rush_hour"} == found["by_task"].keys()
        assert found["n"] == len(table) == sum(one["n"] for one in found["by_task"].values())
        assert all(one.keys() == WAYS | {"n"} for one in found["by_task"].values())
        assert summary(table) == found
        origin = json.loads(table.schema.metadata[b"origin"])
        assert gym.version() == origin["reasoning_gym"]


def test_the_reward_is_recorded(clone: Clone) -> None:
    """Its curve, and the package by which it was given, with its version."""
    assert "train_reasoning_gym" in clone.figures("grpo") or "signal_reasoning_gym" in clone.figures("grpo")
    made_by = json.loads((clone.folder / "models/grpo/provenance.json").read_text())
    assert gym.version() == made_by["versions"][gym.PACKAGE]
    assert {"llmrl/answers/gym.py", "llmrl/answers/tasks.py"} <= made_by["code"].keys()


def test_what_is_told_of_it(clone: Clone) -> None:
    """On the terminal, in the comparison, in the report, and nothing that verify would find changed."""
    table = clone.run(sys.executable, "-m", "dvc", "metrics", "show", "--md")
    assert "grpo.answers.by_task.chain_sum.greedy" in table
    clone.run(sys.executable, "-m", "llmrl.report")
    assert "chain_sum (n = " in (clone.folder / "report.html").read_text()
    clone.run(sys.executable, "-m", "llmrl.lineage.verify")


def test_other_options_are_another_data_set(clone: Clone) -> None:
    """And the same ones run nothing anew."""
    assert "up to date" in clone.run("dvc", "repro")
    other = [MIXED[0] | {"options": MIXED[0]["options"] | {"max_digits": 3}}, MIXED[1]]
    clone.params(data={"prompts": SIZES | {"source": other}})
    status = json.loads(clone.run("dvc", "status", "--json"))
    assert "data/dvc.yaml:prepare@prompts" in status
    clone.run("git", "checkout", "-q", "params.yaml")
