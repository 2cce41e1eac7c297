"""docs/recipes.md: its commands are of settings that there are, and its tables of what was measured."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from clone import ROOT
from dvc.utils.hydra import apply_overrides

from bench import recipe
from llmrl import params

PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """The text of each recipe, by its profile."""
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    return {name: parts[title] for name, title in recipe.TITLES.items()}


@pytest.mark.parametrize("name", recipe.TITLES)
def test_the_values_for_two_cores_are_taken(name: str, tmp_path: Path) -> None:
    """DVC sets them in the profile that the page switches to, and what comes of it is valid."""
    pytest.importorskip("reasoning_gym")
    section = sections()[name]
    (command,) = re.findall(r"^\$ (dvc exp run (?:.*\\\n)*.*)$", section, re.MULTILINE)
    words = shlex.split(command)
    values = [value for flag, value in pairwise(words) if flag == "-S"]
    shutil.copy(ROOT / f"profiles/{name}.yaml", tmp_path / "params.yaml")
    apply_overrides(tmp_path / "params.yaml", values)
    found = params.experiment(tmp_path / "params.yaml")

    assert f"make profile NAME={name}" in section
    assert found.model.source == "raw"
    assert found.data.preference.sampled


def test_the_tables_are_those_on_record() -> None:
    """`python -m bench.recipe` would write the page as it stands."""
    assert PAGE == recipe.written(PAGE)


def test_a_table_is_made_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the head that stands on the page; others stay."""
    interval = [0.5, 0.45, 0.55]
    measured = {"policies": {"base": {"greedy": interval, "n": 500}, "sft": {"greedy": [0.6, 0.55, 0.65], "n": 500}}}
    measured |= {"gains": {"sft": {"greedy": [0.1, 0.04, 0.16, 500], "sampled": [0.1, 0.04, 0.16, 500]}}, "runs": {}}
    (tmp_path / "sums-smollm2-135m.json").write_text(json.dumps(measured))
    monkeypatch.setattr(recipe, "RESULTS", tmp_path)
    table = "| figure | base | sft |\n| --- | --- | --- |\n"
    page = f"# Recipes\n\n## Chain sums\n\n### What came of it\n\n{table}\n### Other\n\n## GSM8K\n\nNothing.\n"
    row = "| greedy | .500 (.450 to .550) | .600 (.550 to .650) |\n"

    assert page.replace(table, table + row) == recipe.written(page) == recipe.written(recipe.written(page))
    assert [["sft", "+.100 (+.040 to +.160)", "+.100 (+.040 to +.160)"]] == recipe.gained(measured)
