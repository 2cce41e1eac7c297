"""`python -m llmrl.plan`: what would run and what it costs; and the stage that refuses to start where it cannot fit."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import huggingface_hub
import pytest
from clone import Clone, micro_clone
from small import experiment, made

from bench.inputs import MODELS
from llmrl.data.settings import DATA_SETS
from llmrl.plan import costs
from llmrl.plan.__main__ import main

ASKED = {"source": "builtin:arithmetic", "rows": 64, "eval_rows": 8}  # of each data set
REVISION = "060db6499f32faf8b98477b0a26969ef7d8b9987"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, nothing of it run yet."""
    return micro_clone(tmp_path_factory.mktemp("fresh") / "clone")


def copied(clone: Clone, folder: Path) -> Clone:
    """The same in another folder."""
    shutil.copytree(clone.folder, folder / "clone", symlinks=True)
    return Clone(folder / "clone")


def plan(clone: Clone) -> str:
    """What `make plan` prints in a clone; within this process, as DVC's import takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed, redirect_stderr(printed):
        patch.chdir(clone.folder)
        for name, value in clone.environment.items():
            patch.setenv(name, value)
        if hub := clone.environment.get("HF_HUB_CACHE"):  # which huggingface_hub reads once
            patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", hub)
        patch.setattr(sys, "argv", ["llmrl.plan"])
        main()
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()) + "\n"


def row(printed: str, name: str) -> list[str]:
    """The cells of a row of the table, by its first words."""
    line = next(line for line in printed.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())[1:]


def first_size(text: str) -> float:
    """The first of the sizes in a text, in MiB."""
    found = re.search(r"  (\d[\d.]*) ([MG])iB", text)
    return float(found[1]) * {"M": 1, "G": 1024}[found[2]]


def test_before_anything_has_run(fresh: Clone) -> None:
    """All stages would run, in DVC's words; the figures are those of the settings, and the parts add up to what is
    expected. It costs a second or two: neither torch nor transformers nor TRL is imported.
    """
    heavy = "{'torch', 'transformers', 'trl'}"
    code = f"import sys; from llmrl.plan.__main__ import main; main(); print(sorted({heavy} & set(sys.modules)))"
    printed = fresh.run(sys.executable, "-c", code, "--parts")
    peak = printed[printed.index("memory at the peak") : printed.index("memory while")]
    parts = [first_size(line) for line in peak.splitlines() if re.match(r"    [a-z]", line)]

    assert "[]" == printed.splitlines()[-1]
    assert ["yes"] * 4 == row(printed, "runs")
    assert ["≤ 64"] * 4 == row(printed, "rows")
    assert ["≤ 8"] * 4 == row(printed, "held out")
    assert ["3"] * 4 == row(printed, "steps")
    assert ["0.38 M"] * 4 == row(printed, "parameters")
    assert "by models/tiny/config.json" in printed
    assert re.search(r"\n  sft +changed deps: .*deleted models/base", printed)
    assert "assumed  sft, reward, dpo, grpo: 0.05 TFLOP/s; no run of it is recorded here" in printed
    assert 4 <= len(parts)
    assert first_size(printed[printed.index("memory") :]) == pytest.approx(sum(parts), rel=0.02)


def test_models_whose_sizes_are_not_known(fresh: Clone, tmp_path: Path) -> None:
    """One that is not here yet, and one of another architecture: that is said, with what fetches it; what is known is
    shown, and nothing is made up.
    """
    clone = copied(fresh, tmp_path)
    clone.environment["HF_HUB_CACHE"] = str(clone.folder.parent / "hub")
    clone.params(model={"source": "Qwen/Qwen2.5-0.5B", "revision": REVISION})
    printed = plan(clone)

    assert "Qwen/Qwen2.5-0.5B is not here yet: `dvc repro models/dvc.yaml` fetches it" in " ".join(printed.split())
    assert ["3"] * 4 == row(printed, "steps")
    assert "memory expected" not in printed
    clone.params(model={"source": "raw", "revision": None})
    assert "models/raw has no config.json yet" in plan(clone)
    raw = clone.folder / "models/raw/config.json"
    raw.write_text(json.dumps(MODELS["qwen2.5-0.5b"] | {"model_type": "mamba"}))
    clone.params(model={"source": "raw", "revision": None})
    printed = plan(clone)

    assert "its architecture, mamba, is none whose memory is known here" in " ".join(printed.split())
    assert "memory expected" not in printed


def test_room_is_said(fresh: Clone, tmp_path: Path) -> None:
    """Where there is a limit of memory, how many answers and completions it would hold at once."""
    clone = copied(fresh, tmp_path)
    assert "There is room" not in plan(clone)
    clone.params(run={"memory_gib": 4.0}, answers={"batch": 4}, grpo={"generation_batch_size": 4})
    said = "There is room for more at once, which draws other random numbers: answers.batch up to 16, "

    assert f"{said}grpo.generation_batch_size up to 8." in " ".join(plan(clone).split())


@pytest.fixture(scope="module")
def tiny(fresh: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment with its data sets and its base model, of which nothing is trained."""
    clone = copied(fresh, tmp_path_factory.mktemp("tiny"))
    clone.environment["HF_HUB_CACHE"] = str(clone.folder.parent / "hub")
    clone.run("dvc", "repro", "models/dvc.yaml", "data/dvc.yaml")
    clone.commit("data sets and base model")
    return clone


@pytest.fixture
def there(tiny: Clone):
    """The same, brought back afterwards."""
    yield tiny
    tiny.run("git", "checkout", "-q", ".")
    tiny.run("dvc", "checkout", "-q", "--force", "models/base", *(f"data/{name}" for name in DATA_SETS))


def profile(clone: Clone) -> None:
    """As `make profile NAME=qwen2.5-0.5b`."""
    shutil.copy(clone.folder / "profiles/qwen2.5-0.5b.yaml", clone.folder / "params.yaml")


def fetched(clone: Clone, name: str) -> None:
    """A model's config in the Hub's cache, where another checkout has left it."""
    folder = Path(clone.environment["HF_HUB_CACHE"], f"models--Qwen--{name}", "snapshots", REVISION)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODELS["qwen2.5-0.5b"]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, ["64", "64", "64", "64"]),
        ({"sft": ASKED | {"eval_rows": 7}}, ["≤ 64", "64", "64", "64"]),
        ({"preference": ASKED | {"rows": 9000, "policy": "data/preference"}}, ["≤ 64", "≤ 9,000", "≤ 9,000", "64"]),
        ({"prompts": ASKED | {"source": "raw", "rows": None}}, ["≤ 64", "≤ 64", "≤ 64", "?"]),
        ({"seed": 2}, ["≤ 64", "≤ 64", "≤ 64", "≤ 64"]),
    ],
)
def test_the_rows_that_lie_there(there: Clone, data: dict, expected: list[str]) -> None:
    """They are the experiment's where its settings would make the same; else it has at most those that it asks for.
    What is held out of one set is kept out of the next.
    """
    there.params(data=data)
    printed = plan(there)

    assert expected == row(printed, "rows")
    assert ("`dvc repro data/dvc.yaml` is yet to prepare" in " ".join(printed.split())) == bool(data)


def test_rows_that_somebody_changed(there: Clone) -> None:
    """By DVC's word they would be made anew."""
    (there.folder / "data/preference/train.parquet").unlink()
    printed = plan(there)

    assert ["≤ 64", "≤ 64", "≤ 64", "64"] == row(printed, "rows")


def test_another_profile(there: Clone) -> None:
    """Nothing of the toy stands beside its settings: neither rows nor sizes, and no time of rows that are not known."""
    profile(there)
    there.params(dpo={"max_steps": -1, "num_train_epochs": 1}, sft={"max_steps": -1})
    printed = plan(there)

    assert ["?", "≤ 16,000", "≤ 16,000", "≤ 2,400"] == row(printed, "rows")
    assert ["≤ 200", "≤ 300", "≤ 300", "≤ 64"] == row(printed, "held out")
    assert ["?", "400", "≤ 500", "300"] == row(printed, "steps")
    assert "data/sft, data/preference, data/prompts" in " ".join(printed.split())
    assert "Qwen/Qwen2.5-0.5B is not here yet" in printed
    assert "parameters" not in printed
    fetched(there, "Qwen2.5-0.5B")
    printed = plan(there)

    assert "Qwen/Qwen2.5-0.5B, by" in printed
    assert ["494.03 M", "494.03 M", "494.03 M", "494.03 M"] == row(printed, "parameters")
    assert ["?", "≤"] == [cell[:1] for cell in row(printed, "time")[::2]]
    assert ["assumed"] * 3 == row(printed, "time is")


def test_numbers_that_time_follows_from(there: Clone) -> None:
    """All held-out prompts are answered by each policy and, where GRPO chooses, all others before it trains: where
    these are still to be counted there is no time.
    """
    raw = ASKED | {"source": "raw", "rows": None}
    there.params(data={"prompts": raw | {"eval_rows": None}})
    assert [True, False, True, True] == [cell == "?" for cell in row(plan(there), "time")]
    there.params(data={"prompts": raw})
    assert "?" not in row(plan(there), "time")
    there.params(grpo={"pass_rate": [0.1, 0.9]})
    assert [False, False, False, True] == [cell == "?" for cell in row(plan(there), "time")]


def test_a_model_that_was_changed(there: Clone) -> None:
    """One's own in models/raw is another now, and models/base of the one before; and a stage may start elsewhere."""
    raw, other = there.folder / "models/raw", there.folder / "models/other"
    for file in (there.folder / "models/tiny").iterdir():
        shutil.copy(file, raw)
    there.params(model={"source": "raw"})
    there.run("dvc", "repro", "models/dvc.yaml")
    assert "raw, by models/base/config.json" in plan(there)
    (raw / "config.json").write_text(json.dumps(MODELS["qwen2.5-0.5b"]))
    other.mkdir()
    shutil.copy(there.folder / "models/tiny/config.json", other)
    there.params(reward={"init": "models/other"}, dpo={"init": "models/gone"})
    printed = plan(there)
    for name in raw.iterdir():
        if name.name != "README.md":
            name.unlink()
    shutil.rmtree(other)

    assert "raw, by models/raw/config.json" in printed
    assert "models/other, by models/other/config.json" in printed
    assert "models/gone has no config.json yet" in printed
    assert ["494.03 M", "0.38 M"] == row(printed, "parameters")


@pytest.mark.parametrize("width", [80, 120])
def test_in_so_many_columns(there: Clone, width: int) -> None:
    """Whatever it has to say goes into a terminal's width, nothing of a figure is cut off or goes on below it."""
    profile(there)
    many = {"source": "raw", "rows": 10_000_000, "eval_rows": 100_000}
    data = {"sft": many, "preference": many | {"policy": "data/preference"}}
    there.params(run={"memory_gib": 1000}, dpo={"max_steps": -1}, data=data)
    fetched(there, "Qwen2.5-0.5B")
    printed = there.run("env", f"COLUMNS={width}", sys.executable, "-m", "llmrl.plan", "--parts")

    assert max(map(len, printed.splitlines())) <= width
    assert "…" not in printed
    for name in ("rows", "steps", "time ", "tokens at most", "parameters", "memory expected", "disk"):
        assert len(row(printed, name)) == 4
        assert all(re.fullmatch(r"(≤ )?[\d.,]+( [A-Za-z]+)?", cell) for cell in row(printed, name))


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("sft", {"num_train_epochs": 2.5}),
        ("reward", {"num_train_epochs": 0.1}),
        ("grpo", {"num_train_epochs": 1.5, "num_iterations": 2}),
    ],
)
def test_steps_are_those_of_the_trainer(tmp_path: Path, stage: str, options: dict) -> None:
    """Where epochs decide: as many as transformers will take."""
    trainer, run = made(tmp_path, stage, max_steps=-1, **options)
    data = experiment().data
    of_four = {name: replace(getattr(data, name), rows=len(trainer.train_dataset)) for name in DATA_SETS}
    *_, taken = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())

    assert taken == costs.steps(run.settings, replace(data, **of_four))


@pytest.fixture(scope="module")
def refused(tiny: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """The same with less memory than sft takes, and what sft said to that."""
    clone = copied(tiny, tmp_path_factory.mktemp("refused"))
    changes = {"per_device_eval_batch_size": 8, "max_steps": 6}
    clone.params(run={"memory_gib": 0.16}, train={"logging_steps": 1}, sft=changes)
    return clone, clone.run("dvc", "repro", "--single-item", "sft", check=False)


def test_a_stage_that_cannot_fit_stops_before_it_loads(refused: tuple[Clone, str]) -> None:
    """It says what would fit, and so does the plan."""
    clone, said = refused

    assert "sft is expected to take" in said
    assert "more than the 0.16 GiB of run.memory_gib." in " ".join(said.split())
    assert "Nothing was loaded, nothing changed." in said
    assert "Traceback" not in said
    assert not (clone.folder / "models/sft").exists()
    assert "sft is expected to take" in plan(clone)


def test_after_a_stage_has_run(refused: tuple[Clone, str]) -> None:
    """With what would fit it runs, and prints what it expects. What is up to date then does not run; what waits for it
    does; its time is that of its own run.
    """
    clone, said = refused
    options = re.findall(r"'\+\+(\S+)=(\S+)'", said)
    assert options
    for key, value in options:
        section, name = key.split(".")
        clone.params(**{section: {name: json.loads(value)}})
    said = clone.run("dvc", "repro", "--single-item", "sft")
    run, printed = clone.runs()[-1], plan(clone)

    assert re.search(r"memory +0\.\d+ GiB in tensors \([^)]+\) *\n +disk +\d.*\n +time +[\d.]+ \w+, assumed: ", said)
    assert said.index("in tensors") < said.index("rows ")  # which is known when the model is loaded
    assert ["up to date", "yes", "yes", "yes"] == row(printed, "runs")
    assert "by models/base/config.json" in printed
    assert re.search(rf"measured +sft: {run['id']}, \d\.\d\d s a step\n", printed)
    assert ["measured", "assumed", "assumed", "assumed"] == row(printed, "time is")
    assert 379_296 == run["parameters"]


def test_what_costs_no_time_is_no_reason(refused: tuple[Clone, str]) -> None:
    """With other such settings its time stays that of its run, also on more rows; with any other it is assumed, and it
    is said which.
    """
    clone, run = refused[0], refused[0].runs()[-1]
    clone.params(train={"lr": 0.5, "seed": 9}, sft={"max_steps": 60}, data={"sft": ASKED | {"rows": 32}})
    printed = plan(clone)

    assert ["yes"] * 4 == row(printed, "runs")
    assert "≤ 32" == row(printed, "rows")[0]
    assert ["measured", "assumed", "assumed", "assumed"] == row(printed, "time is")
    clone.params(sft={"micro_batch": 8, "max_length": 64}, data={"prompts": ASKED | {"eval_rows": 7}})
    printed = plan(clone)

    assert ["assumed"] * 4 == row(printed, "time is")
    said = f"{run['id']} had another data.prompts.eval_rows, max_length, micro_batch"
    assert said in " ".join(printed.split())
