"""`python -m llmrl.plan`: what would run and what it costs; and the stage that refuses to start where it cannot fit."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from clone import Clone, micro_clone

from bench.inputs import MODELS
from llmrl import params
from llmrl.plan import costs


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """The micro experiment, nothing of it run yet."""
    return micro_clone(tmp_path / "clone")


def plan(clone: Clone, *arguments: str) -> str:
    return clone.run(sys.executable, "-m", "llmrl.plan", *arguments)


def row(printed: str, name: str) -> list[str]:
    """The cells of a row of the table, by its first words."""
    line = next(line for line in printed.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())[1:]


def first_size(text: str) -> float:
    """The first of the sizes in a text, in MiB."""
    found = re.search(r"  (\d[\d.]*) ([MG])iB", text)
    return float(found[1]) * {"M": 1, "G": 1024}[found[2]]


def test_before_anything_has_run(clone: Clone) -> None:
    """All stages would run, in DVC's words; the figures are those of the settings, and the parts add up to what is
    expected. It costs seconds: neither torch nor transformers nor TRL is imported.
    """
    heavy = "{'torch', 'transformers', 'trl'}"
    code = f"import sys; from llmrl.plan.__main__ import main; main(); print(sorted({heavy} & set(sys.modules)))"
    begun = time.monotonic()
    printed = clone.run(sys.executable, "-c", code, "--parts")
    took = time.monotonic() - begun
    peak = printed[printed.index("memory at the peak") : printed.index("memory while")]
    parts = [first_size(line) for line in peak.splitlines() if re.match(r"    [a-z]", line)]

    assert "[]" == printed.splitlines()[-1]
    assert took < 10
    assert ["yes"] * 4 == row(printed, "runs")
    assert ["64"] * 4 == row(printed, "rows")
    assert ["3"] * 4 == row(printed, "steps")
    assert ["0.38 M"] * 4 == row(printed, "parameters")
    assert "by models/tiny/config.json" in printed
    assert re.search(r"sft would run: changed deps: .*deleted models/base", printed)
    assert "assumed: " in printed
    assert 4 <= len(parts)
    assert first_size(printed[printed.index("memory") :]) == pytest.approx(sum(parts), rel=0.02)


def test_models_whose_sizes_are_not_known(clone: Clone) -> None:
    """One that is not here yet, and one of another architecture: that is said, with what fetches it; what is known is
    shown, and nothing is made up.
    """
    clone.params(model={"source": "Qwen/Qwen2.5-0.5B", "revision": "060db6499f32faf8b98477b0a26969ef7d8b9987"})
    printed = plan(clone)

    assert "Qwen/Qwen2.5-0.5B is not here yet: `dvc repro models/dvc.yaml` fetches it" in " ".join(printed.split())
    assert ["3"] * 4 == row(printed, "steps")
    assert "memory expected" not in printed
    raw = clone.folder / "models/raw/config.json"
    raw.write_text(json.dumps(MODELS["qwen2.5-0.5b"] | {"model_type": "mamba"}))
    clone.params(model={"source": "raw", "revision": None})
    printed = plan(clone)

    assert "its architecture, mamba, is none whose memory is known here" in " ".join(printed.split())
    assert "memory expected" not in printed


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """The micro experiment with less memory than sft takes, and what sft said to that."""
    clone = micro_clone(tmp_path_factory.mktemp("refused") / "clone")
    clone.run("dvc", "repro", "models/dvc.yaml", "data/dvc.yaml:prepare@sft", "data/dvc.yaml:prepare@prompts")
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

    assert re.search(r"memory +0\.\d+ GiB in tensors \([^)]+\) *\n +disk +\d.*\n +time +[\d.]+ \w+, ", said)
    assert said.index("in tensors") < said.index("rows ")  # which is known when the model is loaded
    assert ["no: up to date", "yes", "yes", "yes"] == row(printed, "runs")
    assert "by models/base/config.json" in printed
    assert f"from {run['id'][:8]}" in printed.replace("\n", " ")
    assert 379_296 == run["parameters"]
    clone.params(sft={"micro_batch": 8})
    assert f"from {run['id'][:8]}" not in plan(clone)


def test_a_part_of_an_epoch_is_rounded_up(project: Path) -> None:
    """As transformers does: less than a step is one."""
    experiment = params.experiment(project / "params.yaml")
    settings, rows = experiment.stages["sft"], experiment.data.sft.rows
    of_an_epoch = replace(settings, trl={"num_train_epochs": 0.1 * settings.own.batch / rows})

    assert 1 == costs.steps(of_an_epoch, experiment.data)
