"""docs/scale.md against the project: what one is to write is taken, what it quotes is said, its script ends in time."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from clone import ROOT, micro_clone
from kills import forget, products

from llmrl.errors import InputError
from llmrl.params import PATH, checks
from llmrl.session import locks
from llmrl.training import processes

PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
TWO, FSDP, TWO_MACHINES = re.findall(r"^```yaml\nlaunch: (.+)\n```$", PAGE, re.MULTILINE)
ONE_NODE, TWO_NODES = re.findall(r"^```sh\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SKY = re.search(r"^```yaml\n(name: .+?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
REFUSED = re.search(r"^```\n(params\.yaml: .+?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
OF_ACCELERATE = "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\nnum_machines: 1\nnum_processes: 2\n"


@pytest.mark.parametrize("command", [TWO, TWO_MACHINES])
def test_launchers_are_taken(change, command) -> None:
    """Each starts two processes, and goes with the sizes that the page names for them, not with the toy's own."""
    change("launch", command)
    assert 2 == processes.count(command)
    with pytest.raises(InputError, match=r"train\.micro_batch|train\.batch"):
        checks.check(PATH)
    for section, size in re.findall(r"`(\w+)\.micro_batch: (\d+)`", PAGE):
        change(f"{section}.micro_batch", size)
    assert command == checks.check(PATH)["launch"]


def test_fsdp_is_refused(change, project: Path, python, monkeypatch) -> None:
    """As accelerate's launcher asks for it, in the page's words."""
    (project / "fsdp.yaml").write_text(OF_ACCELERATE)
    change("launch", FSDP)
    change("train.micro_batch", "8")
    change("grpo.micro_batch", "32")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    done = python("-m", "stages.sft")
    assert (2, REFUSED.split()) == (done.returncode, done.stderr.split())


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_fsdp_is_refused_on_cpus(change) -> None:
    """Where accelerate itself would train copies, and say nothing."""
    Path("fsdp.yaml").write_text(OF_ACCELERATE)
    change("launch", FSDP)
    change("train.micro_batch", "8")
    change("grpo.micro_batch", "32")
    command = (f"{Path(sys.executable).parent}/{FSDP}", "-m", "stages.sft")
    done = subprocess.run(shlex.split(" ".join(command)), capture_output=True, text=True, check=False)
    assert " ".join(REFUSED.split()) in done.stderr
    assert done.returncode


@pytest.mark.usefixtures("project")
def test_jobs_have_their_own_devices(monkeypatch) -> None:
    """Two jobs of Slurm's may both call their device 0; within one, an experiment waits for the other."""
    found = []
    with ExitStack() as stack:
        for job in ("4", "5", "4"):
            monkeypatch.setenv("SLURM_JOB_ID", job)
            found.append(locks.first_free(["0"], "sft", stack, quiet=True))
    assert ["0", "0", None] == found


@pytest.mark.parametrize("script", [ONE_NODE, TWO_NODES])
def test_scripts_are_bash(script: str) -> None:
    """Bash finds no mistake in them, and Slurm's options come first, where alone it reads them."""
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert lines[1:4] == [line for line in lines if line.startswith("#SBATCH --")]


def test_commands_of_dvc_and_make() -> None:
    """DVC takes each command of the page, and make knows its targets."""
    from dvc.cli.parser import get_main_parser

    code = re.sub(r" {2,}#.*", "", " ".join(re.findall(r"`[^`\n]+`", PAGE)) + ONE_NODE + TWO_NODES)
    code += "\n".join(line[2:] for line in PAGE.splitlines() if line.startswith("$ "))
    commands = re.findall(r"\bdvc (?:exp|queue|repro|commit|push)\b[^`&;#\n]*", code)
    for command in commands:
        get_main_parser().parse_args(shlex.split(command.replace('"$@"', "dpo.beta=0.2"))[1:])
    assert {"exp", "queue", "repro", "commit"} <= {command.split()[1] for command in commands}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (?:-C llmrl )?(\w+)`?(?= &&|`|$)", code + SKY, re.MULTILINE)) == {"setup", "repro"}
    assert {"setup", "repro"} <= targets
    assert {"name", "resources", "setup", "run"} == set(yaml.safe_load(SKY))


def test_links_lead_somewhere() -> None:
    """The pages and tests that it names are there."""
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    tests = re.findall(r"`(tests/\S+)`", PAGE)
    assert links
    assert tests
    assert [] == [name for name in links if not (ROOT / "docs" / name).exists()]
    assert [] == [name for name in tests if not (ROOT / name).exists()]


@pytest.mark.slow
@pytest.mark.alone("two processes, of a core each")
def test_the_script_ends_in_time(tmp_path: Path) -> None:
    """SIGTERM to the script alone, as Slurm sends it, leaves a checkpoint; run again, it ends in the same bytes."""
    clone = micro_clone(tmp_path / "clone")
    clone.params(sft={"max_steps": 100, "eval_steps": 50})
    clone.launch(TWO)
    clone.commit("two processes")
    clone.run("dvc", "repro", "sft")
    expected = products(clone.folder)
    forget(clone)
    script = tmp_path / "one.sbatch"
    script.write_text(ONE_NODE.replace("source .venv/bin/activate\n", "").replace("dvc repro", "dvc repro sft"))

    def submit() -> subprocess.Popen[str]:
        out = subprocess.PIPE
        return subprocess.Popen(
            ("bash", script), cwd=clone.folder, env=clone.environment, stdout=out, stderr=subprocess.STDOUT, text=True
        )

    job = submit()
    until = time.monotonic() + 300
    while not any('"step": 5' in file.read_text() for file in clone.folder.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < until
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate()
    assert job.returncode
    assert "stopped by SIGINT; `dvc repro sft` goes on from step" in said
    job = submit()
    said, _ = job.communicate()
    assert 0 == job.returncode, said
    assert "resumed   from step" in said
    assert expected == products(clone.folder)
