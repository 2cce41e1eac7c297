"""Gates: what of a stage's figures is too little, and that nothing is lost where one is."""

from __future__ import annotations

import pytest
from clone import micro_clone

from llmrl.errors import InputError
from llmrl.session import gates

ANSWERS = {"greedy": 0.024, "greedy_low": 0.014, "greedy_high": 0.042, "n": 500, "ended": 0.99, "tokens": 12.1}
FIGURES = {"loss": 0.31, "token_accuracy": 0.88, "answers": ANSWERS}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"sft.token_accuracy": 0.88},  # as much as it is
        {"sft.answers.greedy": 0.04},  # more than the figure, and not more than it may be
        {"reward.accuracy": 0.99, "dpo.answers.greedy": 0.5},  # of others
    ],
)
def test_enough_passes(asked: dict[str, float]) -> None:
    """Within its interval, and where the gate is another stage's."""
    gates.require_met("sft", FIGURES, asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"sft.answers.greedy": 0.2},
            "sft.answers.greedy is 0.024 (95 % interval 0.014 to 0.042, n = 500), less than the 0.2 that run.gates",
        ),
        ({"sft.token_accuracy": 0.9}, "sft.token_accuracy is 0.880 (no interval is known), less than the 0.9"),
        (
            {"sft.answers.sampled": 0.2},
            "sft.answers.sampled was not measured, so that it is not the 0.2 that run.gates in params.yaml asks "
            "(measured of answers: greedy, ",
        ),
        ({"sft.answers.greedy": 0.2, "sft.token_accuracy": 0.9}, "; sft.token_accuracy is"),
    ],
)
def test_too_little_stops(asked: dict[str, float], said: str) -> None:
    """With the figure, its interval, over how many, the gate, and what to do; all that are missed at once."""
    with pytest.raises(InputError) as refused:
        gates.require_met("sft", FIGURES, asked)
    assert str(refused.value).startswith("sft: sft.")
    assert said in str(refused.value)
    assert str(refused.value).endswith(
        "models/sft was not made; the trained model is kept: lower that gate or take it out, and the same command goes "
        "on without training."
    )


@pytest.mark.slow
def test_a_gate_stops_the_pipeline_and_nothing_is_lost(tmp_path) -> None:
    """The stage ends non-zero, with no figures that look like its own; without the gate it is measured, not trained;
    and a stage that is done is not done again for a gate.
    """
    clone = micro_clone(tmp_path / "project")
    clone.params(run={"gates": {"sft.token_accuracy": 0.99}})
    said = clone.run("dvc", "repro", "sft", check=False)

    assert "failed to reproduce 'sft'" in said
    assert "less than the 0.99 that run.gates in params.yaml asks. models/sft was not made" in said
    assert "and `dvc repro sft` goes on without training." in said
    assert not (clone.folder / "models/sft").exists()
    assert not (clone.folder / "metrics/sft/metrics.json").exists()
    assert not (clone.folder / "metrics/sft/held_out").exists()
    assert "sft" in clone.run("dvc", "status")

    clone.params(run={"gates": {}})
    said = clone.run("dvc", "repro", "sft")
    assert "the model is trained; what is left is to measure it" in said
    assert clone.figures("sft")["token_accuracy"] < 0.99
    trained = [run for run in clone.runs() if "training" in run["phases"]]
    assert 1 == len(trained)

    clone.params(run={"gates": {"sft.token_accuracy": 0.99}})
    assert [] == clone.stages("dvc", "repro", "sft")
