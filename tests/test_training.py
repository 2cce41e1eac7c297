"""What a run decides before it trains."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrl import params, training


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
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_without_a_limit_the_trainers_own_holds(project: Path, stage: str) -> None:
    """A row longer than TRL would cut is left out where max_length is not set, too: a cut answer teaches not to end."""
    settings = project / "params.yaml"
    settings.write_text(re.sub(r"\n  max_length: .*", "", settings.read_text()))
    long, short = ([{"role": "assistant", "content": "sums " * count}] for count in (2000, 2))
    asked = [{"role": "user", "content": "What?"}]
    rows = {"sft": {"messages": [asked + end for end in (long, short)]}}.get(
        stage, {"prompt": [asked, asked], "chosen": [long, short], "rejected": [short, short]}
    )
    folder = project / training_stage(stage).data
    folder.mkdir()
    for side in ("train", "eval"):
        pq.write_table(pa.table(rows), folder / f"{side}.parquet")
    shutil.copytree("models/tiny", params.stage(stage).own.init)
    run, too_long = training.prepared(training_stage(stage), params.stage(stage), SimpleNamespace(path=project, id="x"))

    assert (1, 1, 2) == (len(run.train_rows), len(run.eval_rows), too_long)


def training_stage(name: str) -> training.Stage:
    """A stage by its name."""
    return importlib.import_module(f"stages.{name}").STAGE
