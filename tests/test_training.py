"""What a run decides before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import hardware, params, training


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("stage", "rows", "used"), [("reward", 300, 300), ("reward", 250, 200), ("reward", 60, 60)])
def test_evaluation_gets_whole_batches(change, stage: str, rows: int, used: int) -> None:
    """TRL takes the mean over batches, so held-out rows that would make a smaller last one are left out."""
    change("train.per_device_eval_batch_size", "100")

    assert used == training.whole_batches(rows, params.stage(stage))


@pytest.mark.usefixtures("project")
def test_grpo_counts_completions(change) -> None:
    """For grpo a batch is of completions, several a prompt, and eval_rows bounds the prompts."""
    change("grpo.per_device_eval_batch_size", "64")
    change("grpo.num_generations_eval", "4")
    change("grpo.eval_rows", "40")

    assert 32 == training.whole_batches(500, params.stage("grpo"))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("stage", params.STAGES)
def test_a_tracker_names_the_folder_of_the_run(stage: str) -> None:
    """What wandb, mlflow and the others show leads to the run's folder."""
    machine = hardware.detect("fp32", "torch", None, None)
    run = training.Run(params.stage(stage), machine, None, None, None, Path("runs/20260101_000000_abcd"))

    assert f"20260101_000000_abcd-{stage}" == run.arguments["run_name"]
