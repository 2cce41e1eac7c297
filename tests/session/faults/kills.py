"""Kills the pipeline at random instants and compares what it ends in.

    python tests/session/faults/kills.py --kills 100

An experiment of more than one epoch a stage is run once undisturbed. Then `dvc repro` is started again and again, and
each time a random signal is sent, at a random instant, to the trainer, to dvc or to both. When it has run through, the
models, figures, curves and locks must be the same bytes. Every instant follows from the seed, but for how fast the
machine is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))
from clone import LOCKS, STAGES, Clone, micro_clone

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
VICTIMS = ("trainer", "dvc", "both")
SAYS = " llmrl.session.record: "  # what precedes a phase in events.log
GONE = 120  # seconds, of a busy machine's, after which no process may be left of a run that was killed


@dataclass
class Kill:
    """One kill: what was sent to whom, when (seconds after the start, or after a stage began to train), what it hit."""

    signal: str
    victim: str
    training: str  # the stage, if any
    after: float
    stage: str = ""
    phase: str = ""
    rwlock: bool = False  # DVC had to be helped


def long_enough(folder: Path) -> Clone:
    """The micro experiment over several epochs a stage, with a checkpoint every three steps."""
    clone = micro_clone(folder)
    more = {"max_steps": 20, "eval_steps": 6}
    clone.params(
        data={"prompts": {"rows": 12, "eval_rows": 8, "source": "builtin:arithmetic"}},
        train={"logging_steps": 7},  # no divisor of the steps between two checkpoints
        answers={"max_new_tokens": 8},
        run={"save_steps": 3},
        sft=more,
        reward=more,
        dpo=more,
        grpo=more | {"steps_per_generation": 4, "num_iterations": 2},
    )
    clone.commit("the experiment")
    return clone


def products(folder: Path) -> dict[str, bytes]:
    """All that a pipeline makes."""
    made = [folder / "models" / name for name in ("base", *STAGES)]
    files = [file for part in (*made, folder / "metrics") for file in part.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in (*files, *map(folder.joinpath, LOCKS))}


def forget(clone: Clone) -> None:
    """Have the clone begin anew."""
    clone.clean()
    shutil.rmtree(clone.folder / ".dvc/cache", ignore_errors=True)


def training(clone: Clone, stage: str, since: float) -> bool:
    """Whether a stage has begun to train since an instant."""
    logs = [log for log in clone.folder.glob("runs/*/events.log") if log.stat().st_mtime >= since]
    begun = [log.parent / "run.json" for log in logs if log.read_text().rstrip().endswith("training")]
    return any(f'"stage": "{stage}"' in record.read_text() for record in begun)


def left(clone: Clone) -> list[str]:
    """The stages that DVC has not recorded yet."""
    lock = clone.folder / "dvc.lock"
    text = lock.read_text() if lock.exists() else ""
    return [stage for stage in STAGES if f"\n  {stage}:\n" not in text]


def hit(clone: Clone, kill: Kill) -> bool:
    """Start the pipeline and kill it. False where it came through before."""
    begun = time.time()
    with (clone.folder.parent / "said.txt").open("a") as said:
        dvc = subprocess.Popen(
            ("dvc", "repro"), cwd=clone.folder, env=clone.environment, stdout=said, stderr=said, start_new_session=True
        )
    while kill.training and dvc.poll() is None and not training(clone, kill.training, begun):
        time.sleep(0.05)
    end = time.time() + kill.after
    while dvc.poll() is None and time.time() < end:
        time.sleep(0.005)
    if dvc.poll() is not None:
        assert dvc.returncode == 0, (clone.folder.parent / "said.txt").read_text()[-3000:]
        return False
    family = [psutil.Process(dvc.pid), *psutil.Process(dvc.pid).children(recursive=True)]
    running = trainers(family)
    kill.stage = cmdline(running[0])[-1].removeprefix("stages.") if running else "dvc"
    kill.phase = phase(clone, begun)
    number = signal.Signals[kill.signal]
    for process in {"trainer": running or family[:1], "dvc": family[:1], "both": family}[kill.victim]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    dvc.wait()
    # dvc does not mind SIGINT while a stage runs, and a trainer has its grace.
    _, alive = psutil.wait_procs(family, timeout=GONE)
    assert not alive, f"{kill}: {alive} lived on"
    kill.rwlock = mend(clone)
    return dvc.returncode != 0


def trainers(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that train; a shell that started one, and stays, does not."""
    return [process for process in family if any(part.startswith("stages.") for part in cmdline(process))]


def mend(clone: Clone) -> bool:
    """Do what docs/troubleshooting.md says of a DVC that was killed while it wrote its list of locks, in place."""
    rwlock = clone.folder / ".dvc/tmp/rwlock"
    try:
        json.loads(rwlock.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        rwlock.unlink()
        return True
    return False


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def phase(clone: Clone, since: float) -> str:
    """What the stage that is being killed was doing."""
    logs = [log for log in clone.folder.glob("runs/*/events.log") if log.stat().st_mtime >= since]
    lines = [line for log in sorted(logs)[-1:] for line in log.read_text().splitlines() if SAYS in line]
    return lines[-1].split(SAYS)[1] if lines else "starting"


def torment(folder: Path, kills: int, seed: int) -> list[Kill]:
    """Kill so often, and return the kills. Raises AssertionError where a product differs."""
    rng = random.Random(seed)
    clone = long_enough(folder / "clone")
    clone.run("dvc", "repro")
    expected = products(clone.folder)
    done: list[Kill] = []
    while len(done) < kills:
        forget(clone)
        through = False
        while not through:
            stage = rng.choice(left(clone) or [""]) if rng.random() < 0.6 else ""
            kill = Kill(rng.choice(SIGNALS), rng.choice(VICTIMS), stage, rng.uniform(0, 1.5 if stage else 9))
            if len(done) < kills and hit(clone, kill):
                done.append(kill)
                print(len(done), asdict(kill), flush=True)
            else:
                through = len(done) >= kills or "up to date" in clone.run("dvc", "status")
        said = clone.run("dvc", "repro")
        assert "Traceback" not in said
        found = products(clone.folder)
        assert expected.keys() == found.keys()
        assert not [name for name in expected if expected[name] != found[name]], done
    return done


def main() -> None:
    """Kill so often, and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, help="a JSON file, to which what was done is added")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills = torment(Path(folder), arguments.kills, arguments.seed)
    minutes = round((time.monotonic() - begun) / 60, 1)
    print(f"{len(kills)} kills, all ended in the same bytes, {minutes} min")
    if arguments.record:
        runs = json.loads(arguments.record.read_text()) if arguments.record.exists() else []
        runs.append({"seed": arguments.seed, "minutes": minutes, "lost": 0, "kills": [asdict(kill) for kill in kills]})
        text = json.dumps(runs).replace('{"seed', '\n{"seed').replace('{"signal', '\n  {"signal')  # a line a kill
        arguments.record.write_text(text + "\n")


if __name__ == "__main__":
    for name in SIGNALS[1:]:  # nohup and a shell's & have them ignored, and so by all that is started here
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    main()
