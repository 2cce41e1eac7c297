"""A stage as two processes: the same figures as one, one writer, killed and gone on with, and what is refused."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml
from clone import STAGES, Clone, micro_clone, toy_clone
from kills import GONE, long_enough, products, trainers

from llmrl.errors import InputError
from llmrl.training import processes

TWO = "torchrun --standalone --nproc_per_node=2"
ALONE = pytest.mark.alone("two processes, of a core each")


def as_two(clone: Clone) -> Clone:
    """The clone's experiment, each stage as two processes."""
    clone.launch(TWO)
    clone.commit("two processes")
    return clone


def curve(clone: Clone, stage: str, name: str) -> list[float]:
    """The points of a curve."""
    file = clone.folder / f"metrics/{stage}/plots/metrics/{stage}/{name}.tsv"
    with file.open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines, delimiter="\t")]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("python", 1),
        ("torchrun --standalone --nproc-per-node 8", 8),
        ("python -m torch.distributed.run --nnodes=2 --nproc_per_node=4", 8),
        ("accelerate launch --num_processes 3", 3),
        ("srun torchrun --nnodes 2 --nproc_per_node 1", 2),
    ],
)
def test_the_number_of_processes_is_read(command, number):
    """As launchers spell it."""
    assert number == processes.count(command)


@pytest.mark.parametrize(
    "command", ["torchrun", "torchrun --nproc_per_node=gpu", "torchrun --nnodes=1:4 --nproc_per_node=2"]
)
def test_a_number_left_to_the_machine_is_refused(command):
    """The sums of a step depend on it."""
    with pytest.raises(InputError, match="say how many processes"):
        processes.count(command)


def test_a_config_of_accelerate_says_it_too(tmp_path):
    """And is named where it does not."""
    file = tmp_path / "two.yaml"
    file.write_text("num_processes: 2\n")
    assert processes.count(f"accelerate launch --config_file {file}") == 2
    file.write_text("mixed_precision: bf16\n")
    with pytest.raises(InputError, match=r"two\.yaml"):
        processes.count(f"accelerate launch --config_file {file}")


def test_another_number_of_processes_is_refused(monkeypatch):
    """The world size is asserted: some launchers start one process, and say nothing."""
    processes.require(1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(InputError, match="asks for 2 processes and 1 was started"):
        processes.require(2)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment run by one process but for grpo, each step of two micro-batches."""
    clone = micro_clone(tmp_path_factory.mktemp("one") / "clone")
    clone.run("dvc", "repro", "reward", "dpo")
    return clone


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The same by two processes, each step of one micro-batch on each."""
    clone = as_two(micro_clone(tmp_path_factory.mktemp("two") / "clone"))
    clone.run("dvc", "repro")
    return clone


@pytest.mark.slow
@ALONE
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_two_processes_learn_as_one(one, two, stage):
    """The losses of two processes are those of one with twice the accumulation, and the curves as long."""
    losses = curve(one, stage, "train_loss")
    assert len(losses) == 3
    assert losses == pytest.approx(curve(two, stage, "train_loss"), rel=1e-5)
    assert len(curve(one, stage, "loss")) == len(curve(two, stage, "loss"))


@pytest.mark.slow
@ALONE
def test_one_of_them_writes(two):
    """A folder a run, whole, and nothing left over."""
    runs = two.runs()
    assert [run["stage"] for run in runs] == list(STAGES)
    assert {run["settings"]["processes"] for run in runs} == {2}
    for run in runs:
        assert run["exit"] == 0
        assert len((run["folder"] / "metrics.jsonl").read_text().splitlines()) >= 3
    assert (two.folder / "models/grpo/model.safetensors").exists()
    assert len(list((runs[-1]["folder"] / "completions").glob("*.parquet"))) == 3
    provenance = json.loads((two.folder / "models/sft/provenance.json").read_text())
    assert provenance["settings"]["processes"] == 2
    assert "up to date" in two.run("dvc", "status")


@pytest.mark.slow
@ALONE
def test_started_by_hand_it_needs_its_launcher(two):
    """One process where two were asked for is refused; and so is accelerate's launcher, which starts one on a CPU."""
    said = two.run("python", "-m", "stages.sft", check=False)
    assert "asks for 2 processes and 1 was started" in said
    assert "Traceback" not in said
    said = two.run("accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "stages.sft", check=False)
    assert "asks for 2 processes and 1 was started" in said


@pytest.mark.slow
@ALONE
def test_one_message_of_two_processes(two):
    """What is wrong for both is said once."""
    (two.folder / "models/base").rename(two.folder / "models/away")
    said = two.run(*TWO.split(), "-m", "stages.sft", check=False)
    (two.folder / "models/away").rename(two.folder / "models/base")
    assert said.count("models/base is not a model's folder") == 1


@pytest.fixture(scope="module")
def tormented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, bytes]]:
    """An experiment of several epochs as two processes, and what it makes undisturbed."""
    clone = as_two(long_enough(tmp_path_factory.mktemp("tormented") / "clone"))
    clone.run("dvc", "repro")
    return clone, products(clone.folder)


@pytest.mark.slow
@ALONE
@pytest.mark.parametrize(
    ("stage", "kills"),
    [
        ("sft", [("second", signal.SIGKILL), ("launcher", signal.SIGTERM)]),
        ("reward", [("first", signal.SIGTERM)]),
        ("dpo", [("dvc", signal.SIGKILL)]),
        ("grpo", [("second", signal.SIGTERM)]),  # it has too few checkpoints, of whole generations, to be killed twice
        ("grpo", [("all", signal.SIGINT)]),
        ("grpo", [("launcher", signal.SIGKILL)]),
    ],
)
def test_killed_it_ends_in_the_same_bytes(tormented, stage, kills):
    """Whichever of its processes is killed or told to end, one time after the other, none lives on, and the next run
    goes on; the last ends in the same bytes.
    """
    clone, expected = tormented
    clone.clean(f"models/{stage}", f"metrics/{stage}", "runs")
    clone.run("rm", "-rf", ".dvc/cache/runs")
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text())
    del lock["stages"][stage]
    (clone.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    for time_before, (victim, number) in enumerate(kills):
        said = killed(clone, stage, victim, number)
        assert (time_before > 0) == ("resumed   from step" in said)
        assert number == signal.SIGKILL or "goes on from step" in said, said
        assert not (clone.folder / f"models/{stage}").exists()

    assert "resumed   from step" in clone.run("dvc", "repro", stage)
    found = products(clone.folder)
    assert ["dvc.lock"] == [name for name in expected if expected[name] != found.get(name)] or found == expected
    assert yaml.safe_load(expected["dvc.lock"]) == yaml.safe_load(found["dvc.lock"])  # but for their order


def killed(clone: Clone, stage: str, victim: str, number: signal.Signals) -> str:
    """What the stage says that is sent a signal when it has written a checkpoint; it must fail, and all of it end."""
    before = max(clone.kept(stage), default=0)
    dvc = subprocess.Popen(
        ("dvc", "repro", stage),
        cwd=clone.folder,
        env=clone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 300
    while max(clone.kept(stage), default=0) <= before:
        assert time.monotonic() < until
        time.sleep(0.01)
    family = [psutil.Process(dvc.pid), *psutil.Process(dvc.pid).children(recursive=True)]
    ranks = {rank(process): process for process in trainers(family) if rank(process) is not None}
    launcher = psutil.Process(ranks["0"].ppid())
    named = {"first": [ranks["0"]], "second": [ranks["1"]], "launcher": [launcher], "dvc": family[:1]}
    for process in (named | {"all": [launcher, *ranks.values()]})[victim]:
        process.send_signal(number)
    said, _ = dvc.communicate()
    _, alive = psutil.wait_procs(family, timeout=GONE)

    assert not alive
    assert dvc.returncode
    return said


def rank(process: psutil.Process) -> str | None:
    """Which of the processes of a stage this is; None where it is their launcher."""
    return process.environ().get("RANK")


@pytest.mark.slow
@ALONE
def test_two_processes_practise(tmp_path: Path):
    """GRPO learns, as two processes, in the toy experiment."""
    clone = as_two(toy_clone(tmp_path / "clone"))
    unwatched = {"eval_strategy": "no"}
    clone.params(
        data={"prompts": {"rows": 512, "eval_rows": 200, "source": "builtin:arithmetic"}},
        train={"micro_batch": 8, "threads": 1},
        answers={"samples": 2},
        sft=unwatched,
        reward=unwatched,
        dpo=unwatched,
        grpo={"micro_batch": 32},
    )
    clone.run("dvc", "repro")
    sampled = {stage: clone.figures(stage)["answers"]["sampled"] for stage in ("sft", "dpo", "grpo")}
    assert sampled["sft"] < sampled["dpo"] < sampled["grpo"] - 0.05, sampled
