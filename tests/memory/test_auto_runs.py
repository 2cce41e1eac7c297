"""`auto` in real stages: recorded as the number it became, the same for a run that goes on, and the model of that
number.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from clone import Clone, micro_clone
from tensors import BUILT_IN

from llmrl import params
from llmrl.devices import Machine
from llmrl.memory import auto
from llmrl.memory.shape import Shape

AUTO = {"micro_batch": "auto", "gradient_checkpointing": "auto"}
CPU = Machine("cpu", "CPU")


def gib(clone: Clone, micro_batch: int) -> float:
    """The memory in which sft fits with such a micro-batch, and would not with one sequence more."""
    settings = params.experiment(clone.folder / "params.yaml").stages["sft"]
    takes = [
        auto.training(auto.with_both(settings, size, checkpointing=False), Shape.of(BUILT_IN), CPU)
        for size in (micro_batch, micro_batch + 1)
    ]
    return sum(takes) / 2 / 2**30


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, which asks for `auto`, with its data sets and its base model."""
    clone = micro_clone(tmp_path_factory.mktemp("auto") / "clone")
    clone.params(train=AUTO, grpo={"micro_batch": "auto", "generation_batch_size": 4})
    clone.params(sft={"max_steps": 6, "gradient_checkpointing": False, "per_device_eval_batch_size": 2})
    clone.params(answers={"batch": 2}, run={"save_steps": 1})
    clone.run("dvc", "repro", "models/dvc.yaml", "data/dvc.yaml")
    return clone


@pytest.fixture
def clone(prepared: Clone, tmp_path: Path) -> Clone:
    """The same in a folder of its own."""
    shutil.copytree(prepared.folder, tmp_path / "clone", symlinks=True)
    return Clone(tmp_path / "clone")


def recorded(clone: Clone, stage: str) -> list[tuple[int, bool]]:
    """What the last run of a stage, and the model that it made, say."""
    run = next(one for one in reversed(clone.runs()) if one["stage"] == stage)
    made = json.loads((clone.folder / f"models/{stage}/provenance.json").read_text())
    return [tuple(one["settings"][name] for name in AUTO) for one in (run, made)]


@pytest.mark.slow
def test_the_number_and_the_model_of_the_number(clone: Clone) -> None:
    """All four stages take what the plan says, and record it; the chain is whole; and who writes the number has the
    same model, which is not trained anew.
    """
    plan = clone.run(sys.executable, "-m", "llmrl.plan")
    assert re.search(r"\n +micro batch +8 \(auto\) +8 \(auto\) +8 \(auto\) +4 \(auto\)", plan), plan
    assert re.search(r"\n +gradient checkpointing +false \(auto\) +false \(auto\) +false \(auto\)", plan), plan
    said = clone.run("dvc", "repro")
    assert re.search(r"micro batch +8 \(auto\)", said)
    assert recorded(clone, "sft") == recorded(clone, "reward") == recorded(clone, "dpo") == [(8, False)] * 2
    assert recorded(clone, "grpo") == [(4, False)] * 2
    clone.commit("run")
    clone.run(sys.executable, "-m", "llmrl.lineage.verify")
    models = {stage: (clone.folder / f"models/{stage}/model.safetensors").read_bytes() for stage in ("sft", "grpo")}
    clone.params(train={"micro_batch": 8, "gradient_checkpointing": False}, grpo={"micro_batch": 4})
    said = clone.run("dvc", "repro")

    assert "this very model is trained already" in said
    for stage, model in models.items():
        assert model == (clone.folder / f"models/{stage}/model.safetensors").read_bytes()


def test_a_run_that_goes_on(clone: Clone) -> None:
    """It has the number that it began with; with another number it is another experiment, which begins anew."""
    clone.params(run={"memory_gib": gib(clone, 4)})
    clone.kill("sft", step=3)
    assert 4 == clone.runs()[-1]["settings"]["micro_batch"]
    said = clone.run(sys.executable, "-m", "stages.sft")
    assert "resumed   from step 3" in said
    assert (4, False) == recorded(clone, "sft")[0]
    clone.kill("sft", step=3)
    clone.params(run={"memory_gib": gib(clone, 2)})
    said = clone.run(sys.executable, "-m", "stages.sft")

    assert "resumed" not in said
    assert [(2, False)] * 2 == recorded(clone, "sft")


@pytest.mark.slow
def test_two_processes(clone: Clone) -> None:
    """Each holds its share of the batch at once, and both agree on that."""
    clone.launch("torchrun --standalone --nproc_per_node=2")
    clone.run("dvc", "repro", "sft")

    assert [(4, False)] * 2 == recorded(clone, "sft")


def test_an_architecture_that_is_not_known(clone: Clone) -> None:
    """It is refused before anything is loaded or recorded, and the plan says the same."""
    config = clone.folder / "models/base/config.json"
    config.chmod(0o644)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "gpt_neox"}))
    said = clone.run(sys.executable, "-m", "stages.sft", check=False)

    assert said == (
        "params.yaml: micro_batch: auto goes by the memory a model takes, which is not known of one of type gpt_neox. "
        "Write a number.\n"
    )
    assert [] == clone.runs()
    clone.params(model={"source": "raw", "revision": None})
    (clone.folder / "models/raw").mkdir(exist_ok=True)
    shutil.copy(config, clone.folder / "models/raw/config.json")
    plan = " ".join(clone.run(sys.executable, "-m", "llmrl.plan").split())
    assert "micro batch ? (auto) ? (auto) ? (auto) ? (auto)" in plan
    assert "which is not known of one of type gpt_neox. Write a number, and true or false." in plan
