"""bench.speed and bench.generation: what they measure, by which settings, and that their code runs, on a CPU with
narrow models (--smoke).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.models.llama import modeling_llama

from bench import gpu_page, inputs, speed
from bench.gpu_jobs import AUTO, EQUAL, NEW, PROFILES, TRL
from bench.speed import ORDER, SIDES, Job
from llmrl.devices import Machine
from llmrl.memory.shape import Shape, numbers

ROOT = Path(__file__).parents[2]
WAYS = (TRL, "cuda_graphs", "transformers")
CARD = Machine("cuda", "a card", "bf16", total=80 * 2**30, generation=9)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A profile's folder, with its model's config alone."""
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "models/base/config.json").write_text(json.dumps(inputs.MODELS[request.param]))
    monkeypatch.chdir(tmp_path)
    return request.param


def test_what_matters_most_comes_first() -> None:
    found = [(job.stage, job.side, job.cap) for job in speed.jobs([*PROFILES], [*ORDER])]

    assert [("sft", TRL, 5.0), ("sft", EQUAL, 5.0), ("sft", AUTO, 5.0), ("sft", AUTO, None)] == found[:4]
    assert ("grpo", TRL, 5.0) == found[4]


@pytest.mark.parametrize("place", PROFILES, indirect=True)
@pytest.mark.parametrize("smoke", [False, True])
def test_settings_of_each_measurement(place: str, smoke: bool) -> None:
    """Each is a params.yaml that its stage accepts, a few steps of which are not all timed; with TRL's micro-batch it
    is TRL's step.
    """
    for job in (Job(place, stage, side, cap) for stage in ORDER for side in SIDES for cap in (5.0, None)):
        made = speed.settings_of(job, smoke, CARD)

        assert job.steps[1] < job.steps[0] == made.trl["max_steps"]
        assert 0 == made.own.batch % made.own.micro_batch
        if job.side == EQUAL:
            assert (8, 8, True) == (made.own.micro_batch, made.own.batch, made.option("gradient_checkpointing"))
        if job.stage == "grpo":
            assert (8 if smoke else NEW) == made.option("max_completion_length")


@pytest.mark.parametrize("place", ["smollm2-135m"], indirect=True)
def test_auto_goes_by_the_cap(place: str) -> None:
    """Under a cap by a card of 6 GB, else by the device."""
    found = {cap: speed.settings_of(Job(place, "sft", AUTO, cap), False, CARD) for cap in (5.0, None)}

    assert (32, False) == (found[None].own.micro_batch, found[None].option("gradient_checkpointing"))
    assert found[5.0].option("gradient_checkpointing")
    assert found[5.0].own.micro_batch < 32


def test_layers_are_put_back() -> None:
    """Liger's stay in transformers' modules, where the next model of whatever trainer would be made of them."""
    own = modeling_llama.LlamaMLP
    with speed.own_layers():
        modeling_llama.LlamaMLP = torch.nn.Identity

    assert own is modeling_llama.LlamaMLP


def test_time_is_up_with_a_step() -> None:
    control = transformers.TrainerControl()
    for end, stops in ((float("inf"), False), (0.0, True)):
        speed.Clock(end).on_step_end(None, None, control)

        assert stops == control.should_training_stop


@pytest.mark.parametrize("place", ["smollm2-135m"], indirect=True)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nSee …"), {"fits": False, "said": "CUDA out of memory."}),
        (RuntimeError("no such kernel"), {"failed": "RuntimeError: no such kernel"}),
    ],
)
def test_what_fails_is_a_result(place: str, error: Exception, said: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory is one, and whatever else goes wrong: the rest is measured all the same."""

    def raising(*_: Any) -> None:
        raise error

    monkeypatch.setattr(speed, "trained", raising)

    assert said.items() <= speed.measured(Job(place, "sft", AUTO, 5.0), True, CARD, float("inf")).items()


def test_what_a_token_reads() -> None:
    """SmolLM2-135M's weights in bf16 are 269 MB, and a token in its cache 23,040 bytes."""
    shape = Shape.of(inputs.MODELS["smollm2-135m"])
    assert shape is not None

    assert 269_030_016 + 64 * 100 * 23_040 == gpu_page.read(shape, numbers(shape.tensors()), 64, 100)


def call(tmp_path: Path, module: str, *options: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """A module's exit and its results."""
    command = (sys.executable, "-m", f"bench.{module}", "--out", str(tmp_path / "out"), "--work", str(tmp_path))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run((*command, *options), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    file = tmp_path / f"out/{module}.jsonl"
    return done, [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("module", ["speed", "generation"])
def test_without_a_gpu(module: str, tmp_path: Path) -> None:
    done, _ = call(tmp_path, module)

    assert 2 == done.returncode
    assert f"bench.{module}: there is no GPU here; --smoke tries the same code with narrow models.\n" == done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_smoke_of_speed(profile: str, tmp_path: Path) -> None:
    """All stages by all sides; both sides of an equal step see as many tokens, and the page takes what is written."""
    done, (about, *found) = call(tmp_path, "speed", "--smoke", "--arch", profile, "--seconds", "600")

    assert "" == done.stderr
    assert "a CPU" == about["device"]
    assert [*map(vars, speed.jobs([profile], [*ORDER]))] == [
        {name: one[name] for name in ("profile", "stage", "side", "cap")} for one in found
    ]
    assert all(one["fits"] and one["tokens_per_second"] > 0 for one in found)
    tokens = {(one["stage"], one["side"]): one["tokens"] for one in found}
    assert all(tokens[stage, TRL] == tokens[stage, EQUAL] for stage in ORDER)
    assert all(one["batch"] * 48 == one["tokens"] for one in found if one["stage"] == "sft")


@pytest.mark.slow
def test_smoke_of_generation(tmp_path: Path) -> None:
    """All ways of both profiles, full and with adapters."""
    done, (_, *found) = call(tmp_path, "generation", "--smoke", "--seconds", "600")

    assert "" == done.stderr
    assert {(profile, way, lora) for profile in PROFILES for way in WAYS for lora in (False, True)} == {
        (one["profile"], one["way"], one["lora"]) for one in found
    }
    assert all(one["long_s"] > 0 for one in found)
