"""The guides of docs/ against the project: their commands run as they stand there, in a clone of its own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from clone import ROOT, Clone

LEFT_OUT = re.compile(r"@@\w+@@|TODO|XXX")


def fresh_clone(folder: Path) -> Clone:
    """A clone as a user has it, with the edits here that are not committed yet."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    edits = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True, check=True).stdout
    clone = Clone(folder)
    if edits:
        subprocess.run(["git", "apply"], cwd=folder, input=edits, check=True)
        clone.commit("edits")
    return clone


def commands(page: str) -> list[str]:
    """What a guide has its reader run: its bash blocks."""
    return re.findall(
        r"^```bash\n(.*?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_nothing_is_left_to_fill_in(page: str) -> None:
    """No output is missing, and what is shown fits 120 columns, but for tables."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")

    assert [] == LEFT_OUT.findall(text)
    assert [] == [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]


@pytest.mark.slow
def test_your_data_can_be_followed_word_for_word(tmp_path: Path) -> None:
    """From the CSV file to a model that was trained by the reader's own reward and answers what was asked."""
    clone = fresh_clone(tmp_path / "llmrl")
    said = [clone.run("bash", "-ec", block) for block in commands("your-data.md")]
    sft, grpo = clone.figures("sft"), clone.figures("grpo")

    assert sft["answers_before"]["sampled"] < 0.1 < sft["answers"]["sampled"]
    assert 300 == json.loads((clone.folder / "data/sft/source.json").read_text())["rows"]["read"]
    assert {"digits", "digits_before"} <= grpo.keys()
    assert 0 < grpo["rows_too_easy"] + grpo["rows_too_hard"]
    assert any("Data and pipelines are up to date." in text for text in said)
    assert "" == clone.run("git", "status", "--porcelain")
