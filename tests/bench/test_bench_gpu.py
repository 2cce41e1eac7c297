"""bench.gpu: what it measures, by which settings, and that its code runs, on a CPU with narrow models (--smoke)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import gpu, gpu_jobs, gpu_table
from bench.gpu_jobs import OFF, PROFILE, TRL, Job
from llmrl import params
from llmrl.errors import InputError

ROOT = Path(__file__).parents[2]
STAGES = ("sft", "reward", "dpo", "grpo")
ABOUT = {
    "date": "2026-11-23",
    "device": "a card",
    "cap": 5.0,
    "smoke": False,
    "versions": {"torch": "2.13.0"},
}
SFT, PLAIN = (Job("smollm2-135m", "sft", kind) for kind in (PROFILE, TRL))
KEPT = Job("smollm2-135m", "sft", OFF, (("gradient_checkpointing", False),))


class Scripted(gpu.Workplace):
    """In place of a GPU: each kind of measurement needs so many GiB, and those in `broken` end with an error."""

    def __init__(self, needs: dict[str, float], broken: tuple[str, ...] = (), slow: tuple[str, ...] = ()) -> None:
        self.needs, self.broken, self.slow = needs, broken, slow
        self.asked: list[tuple[str, float | None]] = []

    def beside(self, job: Job) -> Scripted:
        return self

    def attempt(self, job: Job, cap: float | None, seconds: float) -> dict[str, Any]:
        self.asked.append((job.name, cap))
        if job.name in self.slow:
            raise subprocess.TimeoutExpired("python", seconds)
        if job.name in self.broken:
            return {"cap": cap, "failed": "ImportError: no such module"}
        need = self.needs[job.name]
        if cap is not None and cap < need:
            return {
                "cap": cap,
                "fits": False,
                "peaks": {},
                "said": "CUDA out of memory.",
                "expected": {"training": 4.5},
            }
        peaks = {"training": {"allocated": need - 1.25, "reserved": need}}
        return {"cap": cap, "fits": True, "peaks": peaks, "expected": {"training": 4.5}}


def report(tmp_path: Path, **other: Any) -> gpu.Report:
    return gpu.Report(tmp_path / "gpu.json", ABOUT | other, "python -m bench.gpu")


def test_what_is_measured() -> None:
    """Each setting of a profile that saves memory is measured off, and nothing that is off already."""
    names = {
        stage: [job.name for job in gpu_jobs.jobs(["qwen2.5-0.5b"], [stage], [OFF])] for stage in ("reward", "grpo")
    }

    assert {
        "reward": [
            "gradient_checkpointing: false",
            'kernels: "torch"',
            'optim: "adamw_torch_fused"',
            'precision: "fp32"',
            "micro_batch: 4",
        ],
        "grpo": [
            "gradient_checkpointing: false",
            'kernels: "torch"',
            "lora: null",
            'optim: "adamw_torch_fused"',
            'precision: "fp32"',
            "micro_batch: 4",
            "generation_batch_size: 64",
        ],
    } == names


@pytest.mark.parametrize("smoke", [False, True])
def test_settings_of_each_measurement(smoke: bool, tmp_path: Path) -> None:
    """Each is a params.yaml that a stage accepts: the profile's lengths and micro-batch, a few steps of a whole number
    of micro-batches, more than one, as a gradient that is kept between two takes memory.
    """
    for job in gpu_jobs.jobs(["qwen2.5-0.5b"], list(STAGES), [PROFILE, OFF]):
        (tmp_path / "params.yaml").write_text(json.dumps(gpu_jobs.settings_of(job, smoke)))
        made = params.experiment(tmp_path / "params.yaml").stages[job.stage]
        profile = params.experiment(gpu_jobs.file(job.profile)).stages[job.stage]

        assert dict(job.changes).get("micro_batch", profile.own.micro_batch) == made.own.micro_batch
        assert 0 == made.own.batch % made.own.micro_batch
        assert made.own.micro_batch < made.own.batch <= profile.own.batch
        assert gpu_jobs.STEPS[job.stage] == made.trl["max_steps"]
        for name in ("max_length", "max_completion_length") if not smoke else ():
            assert profile.trl.get(name) == made.trl.get(name)


def test_what_does_not_fit(tmp_path: Path) -> None:
    """It is measured without a cap; of TRL the least cap in which it runs is looked for, from what was allocated."""
    place = Scripted({PROFILE: 4.5, TRL: 9.5, KEPT.name: 7.0})

    assert 0 == gpu.measure(report(tmp_path), place, [SFT, PLAIN, KEPT], 5.0, minutes=9)
    assert [
        (PROFILE, 5.0),
        (TRL, 5.0),
        (TRL, None),
        (TRL, 9),
        (TRL, 10),
        (KEPT.name, 5.0),
        (KEPT.name, None),
    ] == place.asked


def test_a_later_call_measures_what_is_missing(tmp_path: Path) -> None:
    """What failed is tried again, the rest is kept; results of another device do not mix."""
    gpu.measure(report(tmp_path), Scripted({PROFILE: 4.5}, broken=(TRL,)), [SFT, PLAIN], 5.0, minutes=9)
    second, place = report(tmp_path), Scripted({PROFILE: 4.5, TRL: 4.5})
    gpu.measure(second, place, [SFT, PLAIN], 5.0, minutes=9)

    assert [(TRL, 5.0)] == place.asked
    assert [PROFILE, TRL] == [one["name"] for one in second.content["measured"]]
    assert 2 == len(second.content["calls"])
    with pytest.raises(InputError, match="of another device, a card"):
        report(tmp_path, device="another card")


def test_at_once(tmp_path: Path) -> None:
    """Side by side the same is tried; what a later call finds whole is not measured again."""
    made = report(tmp_path)
    place = Scripted({PROFILE: 4.5, TRL: 9.5, KEPT.name: 7.0})

    assert 0 == gpu.measure(made, place, [SFT, PLAIN, KEPT], 5.0, minutes=9, number=3)
    assert {(PROFILE, 5.0), (TRL, 5.0), (TRL, None), (TRL, 9), (TRL, 10), (KEPT.name, 5.0), (KEPT.name, None)} == set(
        place.asked
    )
    assert "| sft | profile | 5 | 3.25 allocated, 4.50 reserved | 4.50 |" in (tmp_path / "gpu.md").read_text()
    place.asked.clear()
    assert 0 == gpu.measure(report(tmp_path), place, [SFT, PLAIN, KEPT], 5.0, minutes=9, number=3)
    assert [] == place.asked


def test_a_call_ends_in_time(tmp_path: Path) -> None:
    """What takes longer is counted as missing."""
    place = Scripted({PROFILE: 4.5, TRL: 4.5}, slow=(TRL,))

    assert 1 == gpu.measure(report(tmp_path), place, [SFT, PLAIN], 5.0, minutes=9, number=2)


def test_table(tmp_path: Path) -> None:
    """The table has a row a measurement, in whichever order they were made."""
    made = report(tmp_path)
    place = Scripted({PROFILE: 4.5, TRL: 9.5, KEPT.name: 7.0}, broken=("reward",))
    gpu.measure(made, place, [SFT, PLAIN, KEPT], 5.0, minutes=9)
    place.needs[PROFILE] = 6.0
    gpu.measure(made, place, [Job("smollm2-135m", "grpo", PROFILE)], 5.0, minutes=9)
    made.add(Job("smollm2-135m", "dpo", TRL), {"cap": 5.0, "failed": "RuntimeError: no"})
    lines = (tmp_path / "gpu.md").read_text().splitlines()

    assert [
        "| sft | profile | 5 | 3.25 allocated, 4.50 reserved | 4.50 |",
        "| sft | TRL | not 5, 10 | 8.25 allocated, 9.50 reserved | 4.50 |",
        "| sft | gradient_checkpointing: false | not 5, none | 5.75 allocated, 7.00 reserved | 4.50 |",
        "| dpo | TRL | 5 | failed: RuntimeError: no |  |",
        "| grpo | profile | not 5, none | 4.75 allocated, 6.00 reserved | 4.50 |",
        "| sft | training | 3.25 allocated, 4.50 reserved | 4.50 |",
        "| grpo | training | 4.75 allocated, 6.00 reserved | 4.50 |",
    ] == [line for line in lines if line.startswith("| ") and not line.startswith(("| stage", "| ---"))]
    assert "2026-11-23, a card; torch 2.13.0" in lines
    assert "    python -m bench.gpu" in lines


def test_nowhere_enough() -> None:
    """A device with less memory than is needed: the table says so."""
    attempts = [{"cap": cap, "fits": False, "peaks": {}, "said": "CUDA out of memory."} for cap in (5.0, None)]

    assert ["not 5, none", "out of memory", ""] == gpu_table.cells(attempts)
    assert [] == gpu.following(attempts, 5.0, least=True)


def call(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "bench.gpu", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run((*command, *options), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def results(tmp_path: Path) -> list[dict[str, Any]]:
    (file,) = (tmp_path / "out").glob("smoke-*.json")
    return json.loads(file.read_text())["measured"]


def test_without_a_gpu(tmp_path: Path) -> None:
    """One clear message."""
    done = call(tmp_path)

    assert 2 == done.returncode
    assert "bench.gpu: nvidia-smi shows no GPU here; --smoke tries the same code with narrow models.\n" == done.stderr


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    """A stage is measured whole: training, evaluating, and what it saved; every row is as long as it may be."""
    done = call(tmp_path, "--smoke", "--arch", "smollm2-135m", "--stage", "sft", "--kind", "profile")
    (one,) = results(tmp_path)

    assert "" == done.stderr
    assert ["training", "evaluating", "measuring", "answering"] == list(one["peaks"])
    assert list(one["peaks"]) == list(dict.fromkeys([*one["peaks"], *one["expected"]]))
    assert ["resident"] == list(one["peaks"]["training"])
    assert 0 < one["expected"]["answering"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "stages", "kinds", "at_once"),
    [
        ("qwen2.5-0.5b", STAGES, (PROFILE, TRL), 1),
        ("qwen2.5-0.5b", ("grpo",), (OFF,), 1),
        ("smollm2-135m", ("reward", "grpo"), (PROFILE, TRL), 2),
    ],
)
def test_smoke_of_all(profile: str, stages: tuple, kinds: tuple, at_once: int, tmp_path: Path) -> None:
    """All four stages, by this pipeline and by TRL alone; GRPO, which has them all, with each lever off; and two at
    once.
    """
    some = ("--smoke", "--arch", profile, "--stage", *stages, "--kind", *kinds)
    done = call(tmp_path, *some, "--minutes", "60", "--at-once", str(at_once))

    assert "" == done.stderr, [one for one in results(tmp_path) if "failed" in one]
    assert sorted(job.key for job in gpu_jobs.jobs([profile], list(stages), list(kinds))) == sorted(
        (one["profile"], one["stage"], one["name"]) for one in results(tmp_path)
    )
    assert all(one["fits"] for one in results(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
def test_out_of_memory_is_a_result(plain: bool, tmp_path: Path) -> None:
    """Where torch has too little memory, the measurement says so, with what was expected, and ends well."""
    place = gpu.Workplace(tmp_path, smoke=True)
    folder = place.filled(Job("smollm2-135m", "sft", PROFILE))
    task = {"stage": "sft", "plain": plain, "around": True, "cap": 5.0}
    code = """
import sys, torch
from bench import gpu_one

def full(cap):
    raise torch.OutOfMemoryError(f"CUDA out of memory above {cap} GiB.\\nSee the documentation.")

gpu_one.limit = full
gpu_one.main()
"""
    command = (sys.executable, "-c", code, json.dumps(task))
    done = subprocess.run(command, cwd=folder, env=place.environment, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])

    assert (False, {}, "CUDA out of memory above 5.0 GiB.") == (said["fits"], said["peaks"], said["said"])
    assert plain == ("expected" not in said)
