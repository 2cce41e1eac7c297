"""A stage that is told to end, started twice, or has to wait: through the real dvc, on sft alone."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from clone import Clone
from kills import trainers

from llmrl import started
from llmrl.session import interruption, locks

CHECKPOINTS = ".llmrl/checkpoints/sft/*/*/"


def start(clone: Clone, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=clone.folder, env=clone.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def trainer(dvc: subprocess.Popen[str]) -> psutil.Process:
    """What a dvc has started, be it through a shell that stays between them or not."""
    return trainers(psutil.Process(dvc.pid).children(recursive=True))[0]


def until(condition: Callable[[], object]) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + 300  # far more than it takes: that long only where it never will be
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def exists(clone: Clone, pattern: str) -> Callable[[], bool]:
    return lambda: any(clone.folder.glob(pattern))


def reached(clone: Clone, step: int) -> Callable[[], bool]:
    """Whether a checkpoint of that step, or of a later one, is there: between two looks it may have been dropped."""
    return lambda: step <= max(clone.kept("sft"), default=0)


def test_told_to_end(clone, completes) -> None:
    """It ends its step, writes a checkpoint, says how to continue, is no success to DVC, and goes on exactly there."""
    for number in (signal.SIGTERM, signal.SIGINT):
        before = {*clone.folder.glob(CHECKPOINTS + "step-*")}
        dvc = start(clone, "dvc", "repro", "sft")
        until(lambda before=before: {*clone.folder.glob(CHECKPOINTS + "step-*")} - before)
        trainer(dvc).send_signal(number)
        said, _ = dvc.communicate()

        assert dvc.returncode
        assert f"stopped by {number.name}; `dvc repro sft` goes on from step " in said
        assert "Traceback" not in said
        assert f"exited with {128 + number}" in said
        assert not (clone.folder / "dvc.lock").exists()
    completes("resumed   from step")


@pytest.mark.slow
def test_no_time_to_write(clone, completes) -> None:
    """Where the grace is too short for the step, the last checkpoint stays and the run goes on from there."""
    clone.params(run={"grace": 0})
    dvc = start(clone, "dvc", "repro", "sft")
    until(reached(clone, 6))
    trainer(dvc).terminate()
    said, _ = dvc.communicate()

    assert "stopped by SIGTERM; `dvc repro sft` goes on from step" in said
    completes()


@pytest.mark.slow
def test_another_experiment_finds_nothing_and_going_back_does(clone, completes) -> None:
    """A checkpoint belongs to one experiment, however its policy is measured; and so does the model."""
    dvc = start(clone, "dvc", "repro", "sft")
    until(reached(clone, 6))
    trainer(dvc).kill()
    dvc.communicate()
    clone.params(sft={"lr_scale": 2.0})
    assert "resumed" not in clone.run("dvc", "repro", "sft")
    clone.params(sft={"lr_scale": 1.0}, answers={"samples": 3})
    assert "resumed   from step" in clone.run("dvc", "repro", "sft")
    clone.params(answers={"samples": 2})
    completes("the model is trained; what is left is to measure it")


@pytest.mark.slow
def test_a_temporary_checkout_goes_on(clone, undisturbed) -> None:
    """`dvc exp run --temp` finds the checkpoint that `dvc repro` left, and leaves none itself."""
    clone.commit("all but sft")
    dvc = start(clone, "dvc", "repro", "sft")
    until(reached(clone, 6))
    trainer(dvc).kill()
    dvc.communicate()
    assert "resumed   from step" in clone.run("dvc", "exp", "run", "--temp", "-n", "elsewhere", "sft")
    clone.run("python", "-m", "llmrl.session.checkpoints")
    assert not exists(clone, CHECKPOINTS)()
    clone.run("dvc", "get", ".", "models/sft", "--rev", "elsewhere", "-o", "models/sft")
    name = "models/sft/model.safetensors"
    assert undisturbed[1][name] == (clone.folder / name).read_bytes()


def test_started_twice(clone) -> None:
    """The second of two equal runs refuses, naming the process."""
    first = start(clone, sys.executable, "-m", "stages.sft")
    until(exists(clone, "runs/*"))
    first.send_signal(signal.SIGSTOP)  # or it might end before the second begins
    said = clone.run("python", "-m", "stages.sft", check=False)
    first.kill()
    first.communicate()

    assert f"This very experiment is being run: sft, process {first.pid}, since" in said
    assert "Traceback" not in said


def test_waits_its_turn(clone, completes) -> None:
    """Another experiment waits for the device, saying for whom, and then runs."""
    with locks.device("dpo"):
        waiting = start(clone, "dvc", "repro", "sft")
        said = ""
        while "waiting" not in said:
            line = waiting.stdout.readline()
            assert line, said
            said += line
        assert f"waiting for cpu: dpo, process {os.getpid()}, since" in said
        assert not list(clone.folder.glob("runs/*"))
    waiting.communicate()
    assert waiting.returncode == 0
    completes()


def test_an_orphan_ends(clone) -> None:
    """When dvc is killed, its trainer ends too, and leaves a checkpoint."""
    dvc = start(clone, "dvc", "repro", "sft")
    until(reached(clone, 3))
    process = trainer(dvc)
    dvc.kill()
    until(lambda: not process.is_running())
    assert exists(clone, CHECKPOINTS + "step-*")()
    assert not (clone.folder / "models/sft").exists()


def test_an_orphan_ends_though_it_never_saw_who_is_gone(monkeypatch) -> None:
    """A process above it may end between two looks, before its own parent is known."""
    with subprocess.Popen(("sleep", "60")) as shell:
        gone = psutil.Process(shell.pid)
        shell.kill()
    monkeypatch.setattr(started, "by_dvc", lambda: [psutil.Process(), gone])
    stop = interruption.Stop(0)
    before = signal.signal(signal.SIGTERM, stop.hear)
    try:
        with pytest.raises(interruption.StoppedError, match="SIGTERM"):
            interruption.follow(stop)
    finally:
        signal.signal(signal.SIGTERM, before)


class Evil:
    """What leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran"),)


@pytest.mark.slow
def test_a_checkpoint_that_brings_code_runs_none(clone) -> None:
    """Of a checkpoint's pickles numbers alone are read, whatever somebody has put there."""
    clone.kill("sft", step=3)
    (file,) = clone.folder.glob(CHECKPOINTS + "step-3/scheduler.pt")
    evil = pickle.dumps(Evil(), protocol=2)
    file.write_bytes(evil.ljust(file.stat().st_size, b"\0"))  # another size would be seen at once
    said = clone.run("python", "-m", "stages.sft", check=False)

    assert "weights_only" in said
    assert not (clone.folder / "ran").exists()
    pickle.loads(file.read_bytes())  # noqa: S301 - or the test could not fail
    assert Path("ran").exists()
