"""Every command that a message or a table tells the user to run is run where it is told, and does what is promised."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import pytest
from clone import ROOT, Clone, files, micro_clone, toy_clone
from hub_server import Repository, Server
from kills import trainers

from llmrl.training import options

# --- which there are -------------------------------------------------------------------------------------------------

PROGRAMS = ("accelerate launch ", "dvc ", "git ", "make ", "pip ", "python ", "rm ", "source ", "uv ")

# Each command, a value in it as …, with the test that runs it.
TRIED = {
    "rm -r … && dvc checkout …": "test_a_product_that_was_changed",
    "dvc repro": "test_a_product_that_was_changed",
    "dvc exp run --queue -n … …": "test_an_interrupted_experiment_of_the_queue",
    "dvc queue start": "test_an_interrupted_experiment_of_the_queue",
    "dvc gc --all-commits --all-experiments": "test_room_on_the_disk",
    "dvc exp run …": "test_what_would_fit",
    "dvc exp run -S …": "test_what_would_fit",
    "dvc exp run -n long -S train.lr=5e-4": "test_an_interrupted_experiment",
    "dvc exp run": "test_an_interrupted_experiment",
    "dvc exp run --temp": "test_an_interrupted_experiment",
    "rm .dvc/tmp/rwlock": "test_a_broken_list_of_locks",
    "git checkout params.yaml": "test_edits_that_are_not_committed",
    "git commit params.yaml": "test_edits_that_are_not_committed",
    "git checkout …": "test_params_yaml_is_missing",
    "make params": "test_what_make_makes",
    "make plan": "test_what_make_makes",
    "make repro": "test_what_make_makes",
    "make pin": "test_make_pin",
    "dvc repro models/dvc.yaml": "clone",
    "dvc repro data/dvc.yaml": "clone",
    "… install …": "test_packages_that_are_not_locked",
    "dvc repro --force": "tests/pipeline/test_pipeline.py::test_same_bytes",
    "dvc pull …": "tests/session/test_sharing.py::test_without_the_products_only_the_changed_stage_runs",
    "dvc repro …": "test_answers_that_are_not_here",
    "make setup": "tests/docs/test_make.py::test_a_path_with_a_space",
    "dvc exp pull origin": "test_what_others_have_made",
    "git fetch": "test_what_others_have_made",
    "dvc checkout": "tests/pipeline/test_reuse.py::test_going_back_on_a_new_machine",
    "dvc metrics diff": "tests/pipeline/test_reuse.py::test_going_back_on_a_new_machine",
    'git commit -am "Figures of this machine"': "tests/pipeline/test_reuse.py::test_going_back_on_a_new_machine",
    "dvc pull": "tests/session/test_sharing.py::test_what_was_pushed_is_pulled_and_nothing_is_left_to_do",
    "source .venv/bin/activate": "test_what_make_makes",
    "rm … && dvc repro …": "tests/lineage/test_verify.py::test_a_figure_is_measured_anew",
    "make verify": "test_what_make_makes",
    "make card OUT=../card": "test_what_make_makes",
    "make report": "test_what_make_makes",
    "dvc exp list": "test_a_sweep",
    "dvc exp run --queue -S train.seed=1,2,3": "test_a_sweep",
    "dvc exp run --queue -S …=…": "test_a_sweep",
}
# Those that none runs, and why.
UNTRIED = {
    "dvc gc": "it is named as what was done before",
    "git checkout": "it is named as what was done before",
    "git pull": "it is named as what was done before",
    "rm … && VENV=… make setup": "it installs from the network what is locked; test_make.py does so with no packages",
    "accelerate launch --cpu": "it is what shall not be run",
    "dvc repro --force …": "it is what test_same_bytes runs, of one stage",
    "dvc repro --force data/dvc.yaml:prepare@prompts": "it is what test_same_bytes runs, of another stage",
    "make reasoning-gym": "it installs from the network what is locked",
    "rm -f …": "what is removed is an object of DVC's cache; the next `dvc pull` or `dvc repro` fills it",
    "rm -r … && dvc pull …": "it brings what was pushed, as test_sharing.py does",
}


def messages() -> Iterator[str]:
    """Every text of the code but docstrings, a value in it as …, and what the Makefile prints."""
    for name in files(ROOT):
        if name.startswith(("llmrl/", "stages/")) and name.endswith(".py"):
            yield from texts(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    yield from re.findall(r"echo (?:'[^']*'|\"[^\"]*\")", (ROOT / "Makefile").read_text(encoding="utf-8"))


def texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def pages() -> Iterator[str]:
    """What goes wrong, and what to do; of the other pages the rows of tables that say so."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if page.name == "troubleshooting.md":
            yield from re.split(r"\n\n|\n(?=\|)|^```\w*$", text, flags=re.MULTILINE)
        else:
            tables = re.findall(r"^\|.*what to do \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
            yield from (row for table in tables for row in table.splitlines())


def commands(text: str) -> Iterator[str]:
    """The commands that a text sets as code, or apart on a line."""
    for found in re.findall(r"`([^`]+)`|^(?:\$| ) +(dvc [^#\n]+)", text, re.MULTILINE):
        command = " ".join("".join(found).split())
        if command.startswith(PROGRAMS) or re.fullmatch("… install …", command):
            yield command


@cache
def named() -> set[str]:
    return {command for text in (*messages(), *pages()) for command in commands(text)}


def test_every_command_is_tried() -> None:
    """What is named and in no test would be a promise; what is no longer named need not be tried."""
    assert named() == TRIED.keys() | UNTRIED.keys()
    assert not TRIED.keys() & UNTRIED.keys()


@pytest.mark.parametrize("place", sorted({*TRIED.values()}))
def test_those_that_try_are_there(place: str) -> None:
    """The test, or what prepares it, that is said to run a command."""
    file, _, name = place.rpartition("::")
    tree = ast.parse((ROOT / file if file else Path(__file__)).read_text(encoding="utf-8"))

    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# --- what is run on small clones -------------------------------------------------------------------------------------


def told(said: str, pattern: str) -> str:
    """The command that a message names between backticks."""
    found = re.search(f"`({pattern})`", said)
    assert found, said
    return found[1]


def typed(clone: Clone, command: str, check: bool = True, answer: str = "") -> str:
    """What a command says that is copied into a shell, which has these lines to read and no more."""
    return clone.run("bash", "-c", command, check=check, answer=answer)


def up_to_date(clone: Clone) -> bool:
    return "Data and pipelines are up to date." in clone.run("dvc", "status")


def environment(clone: Clone) -> None:
    """Give a clone the environment of these tests as its own, so that `make` finds nothing to install."""
    place = clone.folder / ".venv"
    place.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (place / part.name).symlink_to(part)
    shutil.copy(clone.folder / "requirements.lock", place / ".ready")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, run part by part as `make plan` names them, and committed."""
    made = micro_clone(tmp_path_factory.mktemp("commands") / "llmrl")
    for command in ("dvc repro models/dvc.yaml", "dvc repro data/dvc.yaml"):
        typed(made, command)
    assert (made.folder / "models/base/model.safetensors").exists()
    assert (made.folder / "data/prompts/train.parquet").exists()
    typed(made, "dvc repro")
    made.commit("its products")
    return made


@pytest.mark.slow
def test_a_product_that_was_changed(unchanged: Clone) -> None:
    """Both ways that the message names bring it back, the second also where DVC's cache has lost it."""
    rows = unchanged.folder / "data/sft/train.parquet"
    whole = rows.read_bytes()
    rows.write_bytes(whole + b" ")
    said = typed(unchanged, "python -m stages.sft", check=False)
    typed(unchanged, told(said, "rm -r .*?"))
    assert whole == rows.read_bytes()

    for kept in (unchanged.folder / ".dvc/cache/files").rglob("*"):
        if kept.is_file() and kept.read_bytes() == whole:
            kept.unlink()
    rows.write_bytes(whole + b" ")
    said = typed(unchanged, "python -m stages.sft", check=False)
    assert "ERROR" in typed(unchanged, told(said, "rm -r .*?"), check=False)
    typed(unchanged, told(said, "dvc repro"))
    assert whole == rows.read_bytes()
    assert up_to_date(unchanged)


@pytest.mark.slow
def test_answers_that_are_not_here(unchanged: Clone) -> None:
    """GRPO scores those of the policies that it comes from: it is said before it trains which are missing, and the
    command gives them anew.
    """
    shutil.rmtree(unchanged.folder / "metrics/sft/held_out")
    said = typed(unchanged, "dvc repro -s -f grpo", check=False)
    assert "metrics/sft/held_out: grpo comes from models/sft, whose answers" in " ".join(said.split())
    assert "grpo step" not in said
    typed(unchanged, told(said, "dvc repro .*?"))
    assert "trained already" not in typed(unchanged, "dvc repro")
    assert up_to_date(unchanged)


@pytest.mark.slow
def test_a_model_that_is_not_whole(unchanged: Clone) -> None:
    """`dvc repro` brings it back without making it anew."""
    weights = unchanged.folder / "models/base/model.safetensors"
    whole = weights.read_bytes()
    for damage in (lambda: weights.write_bytes(whole[:1000]), weights.unlink, lambda: shutil.rmtree(weights.parent)):
        damage()
        said = typed(unchanged, told(typed(unchanged, "python -m stages.sft", check=False), "dvc .*?"))

        assert "> python" not in said
        assert whole == weights.read_bytes()
    assert up_to_date(unchanged)


# --- stopped, or started twice ---------------------------------------------------------------------------------------

CHECKPOINTS = ".llmrl/checkpoints/sft/*/*/step-*"


def longer(scale: float) -> str:
    """Options of a training that is long enough to be stopped; of each test another, or DVC's cache would have it."""
    return f"-S sft.lr_scale={scale} -S sft.max_steps=80 -S '++sft.eval_strategy=no' -S run.save_steps=2 sft"


def start(clone: Clone, command: str) -> subprocess.Popen[str]:
    out = subprocess.PIPE
    return subprocess.Popen(
        ("bash", "-c", f"exec {command}"),
        cwd=clone.folder,
        env=clone.environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(condition: Callable[[], object]) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def trains(clone: Clone, dvc: subprocess.Popen[str]) -> psutil.Process:
    """The trainer that a DVC has started, when it has written a checkpoint."""
    until(lambda: any(clone.folder.glob(CHECKPOINTS)) or dvc.poll() is not None)
    assert dvc.poll() is None, dvc.communicate()[0]
    return trainers(psutil.Process(dvc.pid).children(recursive=True))[0]


def names(clone: Clone) -> list[str]:
    return clone.run("dvc", "exp", "list", "--name-only").split()


def begin_anew(clone: Clone) -> None:
    """Forget every experiment and its checkpoints."""
    shutil.rmtree(clone.folder / ".llmrl", ignore_errors=True)
    clone.run("dvc", "exp", "remove", "--all-commits", check=False)  # where there are some
    clone.run("dvc", "queue", "remove", "--all", check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "scale"), [("-n long", 1.1), ("--temp -n aside", 1.2), ("", 1.3)])
def test_an_interrupted_experiment(unchanged: Clone, options: str, scale: float) -> None:
    """The line of the stopped stage names the command that goes on and makes the experiment; it keeps its name."""
    begin_anew(unchanged)
    command = " ".join(f"dvc exp run {options} {longer(scale)}".split())
    dvc = start(unchanged, command)
    trains(unchanged, dvc).send_signal(signal.SIGINT)
    said, _ = dvc.communicate()
    assert dvc.returncode
    assert [] == names(unchanged)
    named = re.search("stopped by SIGINT; `(.+)` goes on from step [0-9]+$", said, re.MULTILINE)
    assert named, said

    assert command.replace("'", "") == named[1].replace("'", "")
    assert "resumed   from step" in typed(unchanged, named[1])
    assert [options.split()[-1]] == names(unchanged) if options else 1 == len(names(unchanged))


def of_the_queue(clone: Clone) -> list[psutil.Process]:
    """The trainers that work in a clone's temporary checkouts."""
    found = []
    for process in trainers([*psutil.process_iter()]):
        with suppress(psutil.Error):
            if process.cwd().startswith(f"{clone.folder}/.dvc/tmp"):
                found.append(process)
    return found


@pytest.mark.slow
def test_an_interrupted_experiment_of_the_queue(unchanged: Clone) -> None:
    """It is queued once more, as its log says, and goes on."""
    begin_anew(unchanged)
    again = f"dvc exp run --queue -n queued {longer(1.4)}"
    apart = ">/dev/null 2>&1"  # or its worker, which stays, would keep the pipe open
    try:
        typed(unchanged, again)
        typed(unchanged, f"dvc queue start {apart}")
        until(lambda: of_the_queue(unchanged))
        (trainer,) = of_the_queue(unchanged)
        until(lambda: any(unchanged.folder.glob(CHECKPOINTS)))
        trainer.send_signal(signal.SIGTERM)
        until(lambda: "Failed" in unchanged.run("dvc", "queue", "status"))
        said = unchanged.run("dvc", "queue", "logs", "queued")
        assert (
            "stopped by SIGTERM; the same `dvc exp run --queue -n queued …`, with `dvc queue start`, goes on from step"
            in said
        )

        typed(unchanged, again)
        typed(unchanged, f"{told(said, 'dvc queue start')} {apart}")
        until(lambda: "Success" in unchanged.run("dvc", "queue", "status"))
        assert ["queued"] == names(unchanged)
        # Two entries of the queue are called so now, and it shows the failed one's log until the other is collected.
        until(lambda: "resumed   from step" in unchanged.run("dvc", "queue", "logs", "queued"))
    finally:
        unchanged.run("dvc", "queue", "stop", "--kill")


@pytest.mark.slow
def test_a_sweep(unchanged: Clone) -> None:
    """Several values of a setting, or several seeds, are as many experiments in the queue."""
    begin_anew(unchanged)
    typed(unchanged, "dvc exp run --queue -S train.seed=1,2,3")
    typed(unchanged, "dvc exp run --queue -S dpo.beta=0.2,0.3")

    assert 5 == unchanged.run("dvc", "queue", "status").count("Queued")
    assert "Queued" not in typed(unchanged, "dvc exp list")  # which has those that have run
    begin_anew(unchanged)
    typed(unchanged, "git checkout params.yaml")


@pytest.mark.slow
def test_started_twice(unchanged: Clone) -> None:
    """DVC itself refuses a second command in a checkout; by hand or in a temporary one the stage does. Then one ends
    the process that is named, and goes on.
    """
    begin_anew(unchanged)
    table = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    busy, same = (told(table, f".*{words}.*").split(": ")[0] for words in ("is busy", "This very experiment"))
    busy = busy.removeprefix("… ")
    first = start(unchanged, f"dvc exp run -n first {longer(1.5)}")
    trainer = trains(unchanged, first)
    trainer.suspend()  # or it might end before the others begin
    edited = (unchanged.folder / "params.yaml").read_bytes()
    for command in ("dvc repro", "dvc exp run -n second -S sft.lr_scale=2.0", "dvc status", "python -m llmrl.plan"):
        said = typed(unchanged, command, check=False)
        assert busy in said
        assert f"(PID {first.pid}): " in said
    assert edited != (unchanged.folder / "params.yaml").read_bytes()  # by -S, before it was refused
    (unchanged.folder / "params.yaml").write_bytes(edited)
    for command in ("python -m stages.sft", "dvc exp run --temp -n third sft"):
        assert f"{same}: sft of experiment first, process {trainer.pid}" in typed(unchanged, command, check=False)
    trainer.resume()
    os.kill(first.pid, signal.SIGTERM)
    said, _ = first.communicate()
    until(lambda: not trainer.is_running())
    assert "resumed   from step" in typed(unchanged, f"dvc exp run -n first {longer(1.5)}")
    assert ["first"] == names(unchanged)


@pytest.mark.slow
def test_edits_while_it_trains(unchanged: Clone) -> None:
    """DVC would record them as what made the model; undone, the command of the message has it but to measure."""
    begin_anew(unchanged)
    first = start(unchanged, f"dvc exp run -n first {longer(1.6)}")
    trains(unchanged, first).suspend()
    asked = (unchanged.folder / "params.yaml").read_bytes()
    unchanged.params(sft={"lr_scale": 2.0})
    trains(unchanged, first).resume()
    said, _ = first.communicate()
    assert first.returncode
    assert not (unchanged.folder / "models/sft").exists()

    (unchanged.folder / "params.yaml").write_bytes(asked)
    again = typed(unchanged, told(said, "dvc .*?"))
    assert "the model is trained; what is left is to measure it" in again
    assert ["first"] == names(unchanged)


@pytest.mark.slow
def test_a_broken_list_of_locks(unchanged: Clone) -> None:
    """As DVC leaves it where it is killed while it writes it."""
    rwlock = unchanged.folder / ".dvc/tmp/rwlock"
    rwlock.write_text('{"/half')
    table = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    (row,) = (line for line in table.splitlines() if line.startswith("| `Unable to read RWLock"))

    assert told(row, "Unable.*?") in typed(unchanged, "dvc repro", check=False)
    typed(unchanged, told(row, "rm .*?"))
    assert "up to date" in typed(unchanged, "dvc repro")


# --- room on the disk, and in memory ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_room_on_the_disk(unchanged: Clone) -> None:
    """Asked for a yes, it drops what no commit and no experiment has, and nothing else."""
    begin_anew(unchanged)
    typed(unchanged, "dvc exp run -n kept -S data.sft.rows=48 data/dvc.yaml")
    typed(unchanged, "git checkout params.yaml")
    unchanged.params(data={"sft": {"source": "builtin:arithmetic", "rows": 32, "eval_rows": 8}})
    typed(unchanged, "dvc repro data/dvc.yaml")
    dropped = (unchanged.folder / "data/sft/train.parquet").read_bytes()
    unchanged.run("git", "checkout", "-q", ".")
    unchanged.run("dvc", "checkout", "-q")

    def there() -> bool:
        cache = unchanged.folder / ".dvc/cache/files"
        return any(file.read_bytes() == dropped for file in cache.rglob("*") if file.is_file())

    command = "dvc gc --all-commits --all-experiments"
    assert "[y/n]" in typed(unchanged, command, check=False)
    assert there()
    typed(unchanged, command, answer="y\n")
    assert not there()
    assert up_to_date(unchanged)
    typed(unchanged, "dvc exp apply kept")


@pytest.mark.slow
def test_what_would_fit(unchanged: Clone) -> None:
    """The `dvc exp run` that a refused stage prints runs through within the limit."""
    begin_anew(unchanged)
    unchanged.params(run={"memory_gib": 0.0001})
    takes = re.search(r"grpo is expected to take ([0-9.]+) GiB", typed(unchanged, "python -m stages.grpo", check=False))
    assert takes
    unchanged.params(run={"memory_gib": 0.95 * float(takes[1])})
    said = typed(unchanged, "python -m stages.grpo", check=False)
    command = re.search("^  (dvc exp run -S .+)$", said, re.MULTILINE)
    assert command, said
    assert "Ran experiment" in typed(unchanged, command[1])


@pytest.mark.slow
def test_what_others_have_made(unchanged: Clone, tmp_path: Path) -> None:
    """Where this clone knows of no run that made a product, the message's two commands bring what is elsewhere."""
    begin_anew(unchanged)
    typed(unchanged, "dvc exp run -n theirs -S data.sft.rows=40 data/dvc.yaml")
    unchanged.run("git", "clone", "-q", "--bare", ".", str(tmp_path / "shared.git"))
    unchanged.run("git", "clone", "-q", str(tmp_path / "shared.git"), str(tmp_path / "ours"))
    ours = Clone(tmp_path / "ours")
    unchanged.run("git", "remote", "add", "shared", str(tmp_path / "shared.git"))
    unchanged.run("dvc", "exp", "push", "shared", "theirs", "--no-cache")
    unchanged.run("git", "remote", "remove", "shared")
    said = typed(ours, "python -m llmrl.lineage.runs profiles", check=False)
    typed(ours, told(said, "git .*?"))
    typed(ours, told(said, "dvc .*?"))

    assert ["theirs"] == names(ours)


# --- params.yaml, and make -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The project, of which nothing has run, with an environment of its own."""
    clone = toy_clone(tmp_path_factory.mktemp("toy") / "llmrl")
    environment(clone)
    return clone


@pytest.mark.parametrize("wanted", ["commit", "checkout"])
def test_edits_that_are_not_committed(toy: Clone, wanted: str) -> None:
    """Either command of the message lets another profile in; to commit, an editor asks for the message."""
    toy.environment["GIT_EDITOR"] = "echo my own >"
    toy.params(train={"lr": {"commit": 0.002, "checkout": 0.003}[wanted]})
    said = typed(toy, "make profile NAME=tiny", check=False)
    typed(toy, told(said, f"git {wanted} .*?"))
    typed(toy, "make profile NAME=tiny")

    assert (toy.folder / "profiles/tiny.yaml").read_bytes() == (toy.folder / "params.yaml").read_bytes()
    toy.run("git", "commit", "-qam", "tiny", check=False)  # where it is not what is committed


def test_params_yaml_is_missing(toy: Clone) -> None:
    """Git has it."""
    (toy.folder / "params.yaml").unlink()
    typed(toy, told(typed(toy, "python -m llmrl.params", check=False), "git checkout .*?"))

    assert "sft" in typed(toy, "python -m llmrl.params")


def test_make_pin(toy: Clone) -> None:
    """Where the newest commit is wanted, as the message has it."""
    server = Server()
    try:
        commit = "e235e846458bff3398a88aed812347f7f0756520"
        server.repositories["datasets/trl-lib/Capybara"] = Repository({commit: {}})
        home = toy.folder.parent / "hub"
        toy.environment |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        toy.params(data={"sft": {"source": "trl-lib/Capybara", "revision": None, "rows": 8, "eval_rows": 8}})
        said = typed(toy, "python -m llmrl.data.prepare sft", check=False)

        assert f"data.sft: trl-lib/Capybara at {commit}" in typed(toy, told(said, "make .*?"))
    finally:
        server.close()
        toy.run("git", "checkout", "params.yaml")


@pytest.mark.slow
def test_what_make_makes(unchanged: Clone) -> None:
    """`make` checks, plans and runs, with nothing to set up."""
    environment(unchanged)
    assert "micro_batch" in typed(unchanged, "source .venv/bin/activate && python -m llmrl.params")
    assert "micro_batch" in typed(unchanged, "make params")
    assert "grpo" in typed(unchanged, "make plan")
    assert "up to date" in typed(unchanged, "make repro")
    assert "Everything is what the recorded inputs made" in typed(unchanged, "make verify")
    assert "report.html" in typed(unchanged, "make report")
    assert "make card OUT=" in typed(unchanged, "make card", check=False)
    assert "../card/README.md" in typed(unchanged, "make card OUT=../card")


def test_packages_that_are_not_locked() -> None:
    """Their names are those of pyproject.toml's extras, and what installs them is there; the network may be not."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    from llmrl.params.checks import adapters_and_packages

    texts = [text for _, text in adapters_and_packages({"optim": "adamw_8bit", "lora": {"load_in_4bit": True}})]
    for text in texts:
        command = told(text, ".* install .*?")
        assert command.split()[-1] in extras
        assert 0 == subprocess.run((*command.split()[:-1], "--help"), capture_output=True, check=False).returncode
    assert options.packages("adamw_8bit")[0] in extras
