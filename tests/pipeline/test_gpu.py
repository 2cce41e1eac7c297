"""The four stages on CUDA: precision, Liger's kernels, adapters, equal runs, and a run that was killed.

Each test starts its stages by itself, without `dvc repro`, in a clone of its own, so that eight of them fill a GPU:
`python -m pytest -n 8 --dist worksteal tests/pipeline/test_gpu.py`. Where there is no GPU they are skipped.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from clone import STAGES, Clone, micro_clone
from small import TINY

from llmrl.answers.generation import answering, generate
from llmrl.models.loading import load_policy, load_tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SETS = ("sft", "preference", "prompts")
FEEDS = (("llmrl.base",), *(("llmrl.data.prepare", name) for name in SETS), ("llmrl.pairs",))
LORA = {"rank": 8, "alpha": 16}


def fed(folder: Path, **train: object) -> Clone:
    """The micro experiment with its data and base model."""
    clone = micro_clone(folder)
    clone.params(train=train)
    for module in FEEDS:
        clone.run("python", "-m", *module)
    return clone


def only(stage: str, folder: Path, **train: object) -> Clone:
    """The micro experiment with what one stage needs, where each starts from the base model, not from another's."""
    clone = fed(folder, **train)
    clone.params(**{name: {"init": "models/base"} for name in STAGES})
    if stage == "grpo":
        trained(clone, "reward")
    return clone


def trained(clone: Clone, *stages: str) -> dict[str, bytes]:
    """The weights that the stages make, run one after the other."""
    for stage in stages:
        clone.run("python", "-m", f"stages.{stage}")
    return {stage: (clone.folder / f"models/{stage}/model.safetensors").read_bytes() for stage in stages}


def forget(clone: Clone, stage: str) -> None:
    """Have a stage begin anew."""
    shutil.rmtree(clone.folder / f"models/{stage}")
    shutil.rmtree(clone.folder / ".llmrl")


def losses(clone: Clone) -> list[float]:
    """Of the steps of the last run."""
    lines = (clone.runs()[-1]["folder"] / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_four_stages(tmp_path: Path, lora: dict | None) -> None:
    """In the fastest precision of the chip, with Liger's kernels, and with the memory taken on record."""
    clone = fed(tmp_path / "clone", lora=lora)
    trained(clone, *STAGES)
    best = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

    assert list(STAGES) == [run["stage"] for run in clone.runs()]
    for run in clone.runs():
        assert f"{torch.cuda.get_device_name()}, {best}; adamw_torch_fused, layers by liger" == run["device"]
        assert 0 < run["peak_gib"]["allocated"] <= run["peak_gib"]["reserved"]
        assert 0 < run["phase_gib"]["training"]["allocated"] <= run["peak_gib"]["allocated"]
        assert run["answers_by"] == ("transformers" if run["stage"] == "reward" else "cuda_graphs")


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_fp16(tmp_path: Path, stage: str) -> None:
    """As on a chip that has no bf16: a stage runs to its end, by losses that are finite."""
    clone = only(stage, tmp_path / "clone", precision="fp16")
    trained(clone, stage)

    assert ", fp16; " in clone.runs()[-1]["device"]
    assert [True] * 3 == [math.isfinite(loss) for loss in losses(clone)]


@pytest.mark.parametrize("stage", STAGES)
def test_two_equal_runs(tmp_path: Path, stage: str) -> None:
    """They make the same bytes, with transformers' full_determinism."""
    clone = only(stage, tmp_path / "clone", full_determinism=True)
    first = trained(clone, stage)
    forget(clone, stage)

    assert first == trained(clone, stage)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_it_ends_in_the_same_bytes(tmp_path: Path, stage: str, lora: dict | None) -> None:
    """Also on CUDA, with full_determinism."""
    clone = only(stage, tmp_path / "clone", full_determinism=True, lora=lora)
    clone.params(run={"save_steps": 1})
    undisturbed = trained(clone, stage)
    forget(clone, stage)
    clone.kill(stage, step=2)

    assert undisturbed == trained(clone, stage)
    assert "resumed" in (clone.runs()[-1]["folder"] / "console.log").read_text()


def test_liger_s_kernels_compute_the_same(tmp_path: Path) -> None:
    """The losses in float32 are those of torch's own layers."""
    clone = fed(tmp_path / "clone", precision="fp32", kernels="torch")
    trained(clone, "sft")
    expected = losses(clone)
    clone.params(train={"kernels": "liger"})
    trained(clone, "sft")

    assert "layers by liger" in clone.runs()[-1]["device"]
    assert expected == pytest.approx(losses(clone), rel=1e-3)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_killed_it_ends_in_the_same_bytes_by_cuda_graphs(tmp_path: Path, lora: dict | None) -> None:
    """With full_determinism it takes them where it is told to."""
    clone = only("grpo", tmp_path / "clone", full_determinism=True, lora=lora)
    clone.params(run={"save_steps": 1}, answers={"engine": "cuda_graphs"})
    undisturbed = trained(clone, "grpo")
    forget(clone, "grpo")
    clone.kill("grpo", step=2)

    assert undisturbed == trained(clone, "grpo")
    assert "cuda_graphs" == clone.runs()[-1]["answers_by"]


@pytest.mark.parametrize("options", [{"do_sample": False}, {"do_sample": True, "top_k": 0}], ids=["greedy", "sampled"])
def test_answers_by_cuda_graphs_are_transformers_own(options: dict) -> None:
    """In float32, of prompts of unlike lengths in several batches, each recorded anew."""
    policy, tokenizer = load_policy(TINY).cuda(), load_tokenizer(TINY)
    prompts = [[{"role": "user", "content": f"{'1 + ' * length}2?"}] for length in range(1, 8)]
    found = []
    for engine in ("transformers", "cuda_graphs"):
        with answering(policy, "fp32", 1):
            found.append(generate(policy, tokenizer, prompts, 6, engine=engine, max_new_tokens=40, **options))

    assert found[0] == found[1]


def test_no_more_than_there_is(tmp_path: Path) -> None:
    """A stage that takes more than run.memory_gib stops before it loads, and says what would fit."""
    clone = fed(tmp_path / "clone")
    clone.params(run={"memory_gib": 0.01})
    said = clone.run("python", "-m", "stages.sft", check=False)

    assert "more than the 10.24 MiB of run.memory_gib" in said
    assert "Nothing was loaded" in said
