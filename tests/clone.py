"""A clone of the project to run in, with an experiment of a few steps on a few rows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
STAGES = ("sft", "reward", "dpo", "grpo")
LOCKS = ("dvc.lock", "data/dvc.lock", "models/dvc.lock")


def files(root: Path) -> list[str]:
    """The names of a project's files that a fresh clone would hold, uncommitted edits included.

    Where the project was copied without its .git, these are all that .gitignore does not name.
    """
    with tempfile.TemporaryDirectory() as lent:
        environment = dict(os.environ)
        if not (root / ".git").exists():  # an empty repository elsewhere does, too
            environment |= {"GIT_DIR": lent, "GIT_WORK_TREE": str(root)}
            subprocess.run(("git", "init", "-q"), cwd=root, env=environment, check=True)
        listed = subprocess.run(
            ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
            cwd=root,
            env=environment,
            capture_output=True,
            check=True,
        )
    return [name for name in os.fsdecode(listed.stdout).split("\0") if name and (root / name).is_file()]


def started(printed: str) -> list[str]:
    """The stages whose commands DVC ran, by what it printed."""
    modules = {
        "python -m llmrl.data.prepare": "prepare",
        "python -m llmrl.base": "base",
        "python -m llmrl.pairs": "pairs",
        **{f"python -m stages.{stage}": stage for stage in STAGES},
    }
    return [modules[" ".join(line.split()[1:4])] for line in printed.splitlines() if line.startswith("> ")]


class Clone:
    """A clone of the project in a folder of its own, with an experiment of a few steps on a few rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # One thread: two such jobs on two cores would stand in each other's way.
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "120",
            "GIT_CONFIG_GLOBAL": str(folder.parent / "gitconfig"),
        }
        (folder.parent / "gitconfig").write_text("[user]\nname = Test\nemail = test@example.org\n")

    def run(self, *command: str, check: bool = True, answer: str = "") -> str:
        """What a command prints, on either stream, with an answer to read and no more."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=answer,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def clean(self, *paths: str) -> None:
        """Remove what git does not track, there or everywhere, and all checkpoints."""
        shutil.rmtree(self.folder / ".llmrl", ignore_errors=True)  # there may be none
        self.run("git", "clean", "-qfdx", *paths)

    def kill(self, stage: str, step: int) -> None:
        """Start a stage anew, and kill it when the last checkpoint that it has written is that of a step.

        Once more where the machine was too busy to look in time, and the stage had gone on.
        """
        command = (sys.executable, "-m", f"stages.{stage}")
        for _ in range(8):
            for left in (f".llmrl/checkpoints/{stage}", ".dvc/cache"):  # from which a trained model would be taken
                shutil.rmtree(self.folder / left, ignore_errors=True)
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL)
            while process.poll() is None and max(self.kept(stage), default=0) < step:
                time.sleep(0.005)
            process.kill()
            if process.wait() == -signal.SIGKILL and max(self.kept(stage), default=0) == step:
                return
        raise AssertionError(
            f"{stage} was never killed at step {step}: the last time it ended with {process.returncode}"
        )

    def kept(self, stage: str) -> list[int]:
        """The steps of which a stage's checkpoints are, and how many it has in all where it is trained."""
        names = [path.name for path in self.folder.glob(f".llmrl/checkpoints/{stage}/*/*/*")]
        steps = [int(name.removeprefix("step-")) for name in names if name.startswith("step-")]
        return [*steps, sys.maxsize] if "trained" in names else steps

    def stages(self, *command: str) -> list[str]:
        """The stages whose commands a dvc command ran."""
        return started(self.run(*command))

    def params(self, **sections: dict) -> None:
        """Change params.yaml."""
        yaml = YAML()
        tree = yaml.load(self.folder / "params.yaml")
        for section, values in sections.items():
            tree[section].update(values)
        yaml.dump(tree, self.folder / "params.yaml")

    def launch(self, command: str) -> None:
        """Have the stages started by another command, in params.yaml."""
        file = self.folder / "params.yaml"
        file.write_text(file.read_text().replace("launch: python\n", f"launch: {command}\n"))

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def products(self) -> dict[str, bytes]:
        """The three locks and all figures and curves."""
        files = [self.folder / lock for lock in LOCKS]
        files += [file for file in (self.folder / "metrics").rglob("*") if file.is_file()]
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in sorted(files)}

    def figures(self, stage: str) -> dict:
        """The closing figures of a stage."""
        return json.loads((self.folder / f"metrics/{stage}/metrics.json").read_text())[stage]

    def runs(self) -> list[dict]:
        """run.json of every run, oldest first, with the folder it lies in."""
        records = [json.loads(f.read_text()) | {"folder": f.parent} for f in self.folder.glob("runs/*/run.json")]
        return sorted(records, key=lambda record: record["folder"].stat().st_mtime)


def micro(clone: Clone) -> None:
    """A few steps of a few rows: what is tested is the pipeline, not what it learns."""
    sizes = {"rows": 64, "eval_rows": 8, "source": "builtin:arithmetic"}
    clone.params(
        data=dict.fromkeys(("sft", "prompts"), sizes) | {"preference": sizes | {"policy": "data/preference"}},
        train={"threads": 1, "batch": 8, "micro_batch": 4, "logging_steps": 1}
        | {"lr_scheduler_type": "constant", "warmup_steps": 0},
        answers={"samples": 2, "max_new_tokens": 12},
        sft={"max_steps": 3, "eval_steps": 2},
        reward={"max_steps": 3, "eval_steps": 2},
        dpo={"max_steps": 3, "eval_steps": 2},
        grpo={
            "max_steps": 3,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "batch": 8,
            "micro_batch": 4,
            "num_generations": 4,
        }
        | {"max_completion_length": 12, "per_device_eval_batch_size": 8},
    )


def micro_clone(folder: Path) -> Clone:
    """The micro experiment in a new folder, committed, nothing of it run yet."""
    clone = toy_clone(folder)
    micro(clone)
    clone.commit("the micro experiment")
    return clone


def toy_clone(folder: Path) -> Clone:
    """The project as it is, in a new folder, committed, nothing of it run yet."""
    folder.mkdir(parents=True)
    for name in files(ROOT):
        if not name.startswith("metrics/") and not name.endswith("dvc.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    clone = Clone(folder)
    clone.run("git", "init", "-q", "-b", "main")
    clone.commit("the project")
    return clone


def stand_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Go into a repository, as somebody who may commit."""
    patch.chdir(folder)
    patch.setenv("DVC_NO_ANALYTICS", "1")
    for name in ("NAME", "EMAIL"):
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_{name}", "test@example.org")
