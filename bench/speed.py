"""Tokens a second of the four stages on a GPU, and of TRL: `python -m bench.speed [--seconds 110]`.

For each Hub profile and stage: TRL by its documented settings; ours at TRL's micro-batch, with activations computed
twice as there; ours with `micro_batch: auto` and `gradient_checkpointing: auto`, where torch may reserve 5.0 GiB and
where it may have all; and the profile as it stands. The same model, rows, lengths and rewards; GRPO writes 64 tokens.

    TRL | equal | auto in 5.0 GiB | auto | …   one after the other in one process: a few steps each

Weights are random, of the real shapes, and every row is as long as the profile admits. Each result goes at once, as a
line of JSON, into speed.jsonl, and what has begun ends with the step in which the time is up. What came before does not
tell: memory is given back, and transformers' layers are put back where Liger has put its own. `--smoke` proves the same
code on a CPU, with narrow models.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import shlex
import shutil
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import stages  # noqa: F401 - tells Hugging Face's libraries what it does in a stage, before they are imported

# isort: split
import datasets
import torch
import transformers
import trl

from bench import gpu, gpu_jobs, gpu_one, inputs
from bench.gpu_jobs import AUTO, CAP, EQUAL, NEW, PROFILE, PROFILES, ROOT, TRL
from bench.gpu_one import GIB
from llmrl import devices, params
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.memory import auto
from llmrl.models import loading
from llmrl.params import checks
from llmrl.session import guards
from llmrl.training import hardware, loop, order, rows
from llmrl.training.run import Run
from llmrl.training.settings import Settings

# TRL's settings take more of qwen2.5-0.5b: weights, gradients and AdamW's moments alone are 7.4 GiB in float32.
ROOM = {"smollm2-135m": CAP, "qwen2.5-0.5b": None}
SIDES = (TRL, EQUAL, AUTO, PROFILE)
ORDER = ("sft", "grpo", "dpo", "reward")  # the most telling first
DOCUMENTED = 8  # sequences at once in TRL's quick starts, and completions of a group
STEPS = {"grpo": (3, 1)}  # in all, and of these not timed
OTHERS, FEW = (6, 2), (3, 1)  # of other stages; of a profile as it stands, whose steps have many micro-batches


@dataclass(frozen=True)
class Job:
    """What is measured: a stage of a profile by one of SIDES, where torch may reserve `cap` GiB."""

    profile: str
    stage: str
    side: str
    cap: float | None

    @property
    def steps(self) -> tuple[int, int]:
        return FEW if self.side == PROFILE else STEPS.get(self.stage, OTHERS)


def jobs(profiles: list[str], names: list[str]) -> list[Job]:
    """Everything to measure, what matters most first; the profiles as they stand, which are slow, last."""
    found, last = [], []
    for profile in profiles:
        room, chosen = ROOM[profile], params.experiment(gpu_jobs.file(profile)).stages
        for stage in names:
            ways = ((TRL, room), (EQUAL, room), (AUTO, CAP), (AUTO, None))
            found += [Job(profile, stage, side, cap) for side, cap in ways]
            last += [] if auto.left_open(chosen[stage]) else [Job(profile, stage, PROFILE, CAP)]
    return found + last


def tree_of(job: Job, smoke: bool) -> dict[str, Any]:
    """The params.yaml of a measurement."""
    tree = checks.check(gpu_jobs.file(job.profile))
    tree["grpo"] |= {"max_completion_length": NEW, "rewards": {"accuracy": 1.0, "reward_model": 0.03}}
    for section, values in (gpu_jobs.SMOKE if smoke else {}).items():
        tree[section].update(values)
    section = tree[job.stage]
    if job.side == EQUAL:
        section |= {"micro_batch": DOCUMENTED, "batch": DOCUMENTED, "gradient_checkpointing": True}
        section.pop("generation_batch_size", None)
    elif job.side == AUTO:
        section |= {"micro_batch": AUTO, "gradient_checkpointing": AUTO}
        if job.cap is None:  # all completions of a step at once
            section.pop("generation_batch_size", None)
    elif job.side == PROFILE:  # fewer micro-batches a step, of GRPO one round of completions: they take as long each
        own = tree["train"] | section
        some = own["batch"] if job.stage == "grpo" else gpu_jobs.ACCUMULATED * own["micro_batch"]
        section["batch"] = min(own["batch"], own.get("generation_batch_size", some))
    section |= {"init": "models/base", "max_steps": job.steps[0], "logging_steps": 1}
    section |= {"eval_rows": 1, "eval_strategy": "no"}
    tree["launch"] = "python"
    tree["run"].update(memory_gib=None, report_to="none")
    return tree


def settings_of(job: Job, smoke: bool, device: devices.Machine) -> Settings:
    """A measurement's settings, written as the params.yaml of this folder."""
    Path("params.yaml").write_text(json.dumps(tree_of(job, smoke)))  # JSON is YAML
    return gpu_one.resolved(params.experiment().stages[job.stage], device, job.cap)


def by_us(settings: Settings) -> transformers.Trainer:
    """The stage's trainer as llmrl/work.py has it train."""
    init, tokenizer = settings.own.init, loading.load_tokenizer(settings.own.init)
    eval_rows, left_out = rows.evaluated_on(settings, tokenizer)
    run = Run(settings, hardware.detect(settings), tokenizer, eval_rows, left_out, Path("out"), "speed")
    run = replace(run, train_rows=rows.trained_on(settings, tokenizer)[0])
    trainer = loop.constructed(importlib.import_module(f"stages.{settings.stage}").trainer, run, init)
    for callback in (guards.Finite(trainer, settings.stage), *order.like_lengths(trainer, settings)):
        trainer.add_callback(callback)
    return trainer


@contextmanager
def own_layers() -> Iterator[None]:
    """Have transformers' modules be as before: Liger puts its layers into them, for whatever model comes next."""
    types = {shape["model_type"] for shape in inputs.MODELS.values()}
    modules = [importlib.import_module(f"transformers.models.{name}.modeling_{name}") for name in types]
    kept = [dict(vars(module)) for module in modules]
    try:
        yield
    finally:
        for module, names in zip(modules, kept, strict=True):
            vars(module).update(names)


@contextmanager
def limited(cap: float | None) -> Iterator[None]:
    """Have torch reserve no more than so many GiB meanwhile."""
    gpu_one.limit(cap)
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(1.0)


class Clock(transformers.TrainerCallback):
    """When each step ended; ends the training when its time is up."""

    def __init__(self, end: float) -> None:
        self.ends: list[float] = []
        self.end = end

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())
        control.should_training_stop |= self.ends[-1] > self.end


def trained(job: Job, settings: Settings, end: float) -> dict[str, Any]:
    """How fast a few steps were: each step's seconds, their median, and tokens, prompts among them, as TRL counts
    them. Of sequences a pair is one, and each completion.
    """
    trainer = (gpu_one.by_trl if job.side == TRL else by_us)(settings)
    clock, untimed = Clock(end), job.steps[1]
    found: gpu_one.Peaks = {}
    trainer.add_callback(clock)
    with gpu_one.moment("peak", found):
        trainer.train()
    args = trainer.args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    used = {"micro_batch": args.per_device_train_batch_size, "batch": batch, "twice": args.gradient_checkpointing}
    if len(clock.ends) <= untimed:
        return used | found | {"failed": "no time was left for a step that is timed"}
    steps = [after - before for before, after in pairwise(clock.ends[untimed - 1 :])]
    counted = [log["num_tokens"] for log in trainer.state.log_history if "num_tokens" in log and "loss" in log]
    tokens, seconds = (counted[-1] - counted[untimed - 1]) / len(steps), statistics.median(steps)
    speed = {"tokens_per_second": round(tokens / seconds, 1), "sequences_per_second": round(batch / seconds, 3)}
    return used | found | {"steps": [round(one, 4) for one in steps], "tokens": tokens} | speed


def measured(job: Job, smoke: bool, device: devices.Machine, end: float) -> dict[str, Any]:
    """What was measured, or that memory was not enough, or what went wrong: the rest is measured all the same."""
    begun = time.monotonic()
    result: dict[str, Any] = {}
    try:
        settings = settings_of(job, smoke, device)
        with limited(None if smoke else job.cap), own_layers():
            result = {"fits": True} | trained(job, settings, end)
    except torch.OutOfMemoryError as error:
        own = {"micro_batch": settings.own.micro_batch, "batch": settings.own.batch}
        result = {"fits": False, "said": str(error).splitlines()[0]} | ({} if job.side == TRL else own)
    except Exception as error:  # of whatever kind
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"[:300]}
    gc.collect()  # a trainer refers to itself
    held = 0.0
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        held = round(torch.cuda.memory_allocated() / GIB, 3)
    return vars(job) | result | {"held_after": held, "took": round(time.monotonic() - begun, 1)}


def filled(work: Path, profile: str, smoke: bool) -> Path:
    """The folder of a profile's model and rows."""
    folder = work / ("smoke" if smoke else "whole") / f"speed-{profile}"
    if not (folder / "data/prompts/eval.parquet").exists():  # which is written last
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.chdir(folder)
        Path("params.yaml").write_text(json.dumps(tree_of(Job(profile, "sft", PROFILE, None), smoke)))
        inputs.fill(profile, smoke)
    return folder


def short(one: dict[str, Any]) -> str:
    """A result in a line."""
    name = f"{one['took']:5.1f} s  {one['profile']} {one['stage']} {one['side']} cap {one['cap']}"
    if "failed" in one or not one["fits"]:
        return f"{name}: {one.get('failed') or one['said']}"
    peak = ", ".join(f"{value:.2f}" for value in one["peak"].values())
    how = f"{one['micro_batch']} of {one['batch']}{', twice' if one['twice'] else ''}"
    return f"{name}: {one['tokens_per_second']:,.0f} tokens/s; {how}; {peak} GiB; {one['steps']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", choices=PROFILES, default=PROFILES, metavar="PROFILE")
    parser.add_argument("--stage", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--side", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--seconds", type=float, default=110.0, help="after which nothing begins")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results", help="the folder of speed.jsonl")
    parser.add_argument("--work", type=Path, default=ROOT / ".llmrl/bench", help="where models and data are made")
    parser.add_argument("--smoke", action="store_true", help="narrow models, on a CPU too, with no cap")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    with reported():
        device = devices.machine()
        if device.kind != "cuda" and not arguments.smoke:
            raise InputError("bench.speed: there is no GPU here; --smoke tries the same code with narrow models.")
        begin(device)
        out, work = arguments.out.resolve(), arguments.work.resolve()
        out.mkdir(parents=True, exist_ok=True)
        failed = 0
        with (out / "speed.jsonl").open("w") as lines:
            lines.write(json.dumps(about("speed")) + "\n")
            for job in jobs(arguments.arch, arguments.stage):
                if job.side not in arguments.side:
                    continue
                if time.monotonic() > end:
                    print("the time is up")
                    break
                os.chdir(filled(work, job.profile, arguments.smoke))
                one = measured(job, arguments.smoke, device, end)
                failed += "failed" in one
                lines.write(json.dumps(one) + "\n")
                lines.flush()
                print(short(one), flush=True)
        if failed:
            raise InputError(f"{failed} failed: see `failed` in speed.jsonl.")


def about(name: str) -> dict[str, Any]:
    """What a file of results begins with."""
    command = shlex.join(("python", "-m", f"bench.{name}", *sys.argv[1:]))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    return {"date": date.today().isoformat(), "device": device, "versions": gpu.versions(), "command": command}


def begin(device: devices.Machine) -> None:
    """What is done once a process; as in a stage, what imports have left is not looked through for garbage again."""
    hardware.allocate(vllm=False)  # before torch first looks at the device
    if device.kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices.visible()[:1])  # of several, TRL wants a process each
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for stage in STAGES.values():
        getattr(trl, stage.trainer)  # which imports it
    gc.freeze()


if __name__ == "__main__":
    main()
