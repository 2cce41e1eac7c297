"""docs/experiments.md: what its table says of `dvc exp run -S` is what DVC does to params.yaml."""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

import pytest
from clone import ROOT
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides

from llmrl import params

PAGE = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
TABLE = PAGE.split("## What `-S` does")[1].split("\n## ")[0]
CASES = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines() if line.startswith("| `")]
CASES = CASES[1:]  # without the heads


def code(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def changes(before: str, after: str) -> list[str]:
    """The lines of a difference, without comments: `+ lr: 0.0005`."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [f"{line[0]} {line[1:].partition('#')[0].strip()}" for line in lines if line[0] in "+-"]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_each_line_of_the_table(case: list[str], tmp_path: Path) -> None:
    """What is set is accepted, writes the lines that are shown and removes what is removed; or it is refused so."""
    overrides, said, written = map(code, case)
    file = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", file)
    if case[1].startswith("refused"):
        with pytest.raises(InvalidArgumentError) as refused:
            apply_overrides(file, overrides)
        assert said[0] in " ".join(str(refused.value.__cause__).split())
        return
    apply_overrides(file, overrides)
    found = changes((ROOT / "params.yaml").read_text(), file.read_text())
    assert written == [line[2:] for line in found if line[0] == "+"]
    if overrides[0].startswith("~") and len(overrides) == 1:
        (removed,) = found
        assert removed.startswith(f"- {overrides[0].rpartition('.')[2]}: ")
    params.experiment(file)


def test_the_rewards_that_are_left(tmp_path: Path) -> None:
    """Those that a map does not name stay; one can be removed, and all others."""
    rewards = {}
    for case in CASES:
        if "grpo.rewards" in case[0]:
            file = tmp_path / "params.yaml"
            shutil.copy(ROOT / "params.yaml", file)
            apply_overrides(file, code(case[0]))
            rewards[case[0]] = params.experiment(file).stages["grpo"].own.rewards

    assert {
        "`grpo.rewards={accuracy: 2.0}`": {"accuracy": 2.0, "reward_model": 0.03},
        "`~grpo.rewards.reward_model`": {"accuracy": 1.0},
        "`grpo.rewards.reward_model=0`": {"accuracy": 1.0, "reward_model": 0},
        "`~grpo.rewards` `+grpo.rewards={accuracy: 2.0}`": {"accuracy": 2.0},
    } == rewards
