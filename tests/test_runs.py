"""The records of runs."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from test_memory import QWEN

from llmrl import memory, params, past, runs

SETTINGS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Folder:
    """The folder of a run of sft."""
    monkeypatch.chdir(tmp_path)
    return runs.Folder(params.stage("sft", SETTINGS))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system refuse to write more than so many bytes into a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_record_that_cannot_be_written_leaves_the_one_before(folder):
    """A full disk cuts no run.json short."""
    with files_of_at_most(100), pytest.raises(OSError, match="File too large"):
        folder.write(exit=0)

    assert "sft" == json.loads((folder.path / "run.json").read_text())["stage"]


@pytest.mark.parametrize("left", ["", '{"stage": "sft", "sett'])
def test_a_record_that_was_cut_short_is_passed_over(folder, left):
    """The others still tell how long a stage takes."""
    stage = memory.Stage(memory.Shape.of(QWEN), params.stage("sft", SETTINGS), "fp32", "cpu")
    folder.write(kind="cpu", parameters=stage.parameters, exit=0)
    damaged = folder.path.with_name("20010101_000000_0000")
    damaged.mkdir()
    (damaged / "run.json").write_text(left)

    assert [folder.id] == [record["id"] for record in past.runs(stage)]


def test_hours_of_judging(tmp_path, monkeypatch):
    """Where GRPO judges its prompts, what they take is counted: each is answered as often as is asked."""
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).parents[1] / "profiles/qwen2.5-0.5b.yaml"
    chosen = params.stage("grpo", path)
    stage = memory.Stage(memory.Shape.of(QWEN), chosen, "bf16", "cuda")
    without = replace(stage, settings=replace(chosen, own=replace(chosen.own, pass_rate=None)))
    hours = [past.expected(one, 300, 1, 2_400, 100).seconds / 3600 for one in (without, stage)]
    rounds = 2_400 * chosen.own.pass_samples / chosen.answers.batch

    assert hours[1] - hours[0] == pytest.approx(rounds * chosen.trl["max_completion_length"] * 0.024 / 3600)
