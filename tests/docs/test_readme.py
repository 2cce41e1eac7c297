"""README.md: one page, whose figures are those of metrics/. Of its commands, test_pipeline.py runs the daily ones."""

from __future__ import annotations

import json
import re

from clone import ROOT
from ruamel.yaml import YAML

README = (ROOT / "README.md").read_text(encoding="utf-8")


def figures(stage: str) -> dict:
    """The committed figures of a stage."""
    return json.loads((ROOT / f"metrics/{stage}/metrics.json").read_text())[stage]


def test_it_is_one_page() -> None:
    """At most 900 words, tables and code among them."""
    assert len(README.split()) <= 900


def test_its_two_commands() -> None:
    """They are what the page begins with."""
    assert ["repro", "test"] == re.findall(r"^\$ make ([a-z-]+)", README, re.MULTILINE)[:2]


def test_the_table_of_answers() -> None:
    """Shares of right answers, with n and their intervals, are those of metrics/."""
    policies = {"base": figures("sft")["answers_before"]} | {
        stage: figures(stage)["answers"] for stage in ("sft", "dpo", "grpo")
    }
    table = [f"| | {' | '.join(policies)} |", "|---|---|---|---|---|"]
    for way in ("sampled", "greedy"):
        (n,) = {answers["n"] for answers in policies.values()}
        cells = (
            f"{answers[way]:.2f} (.{answers[f'{way}_low'] * 100:02.0f} to .{answers[f'{way}_high'] * 100:02.0f})"
            for answers in policies.values()
        )
        table.append(f"| {way}, n = {n} | {' | '.join(cells)} |")

    assert "\n".join(table) in README
    assert f"answers the same {n} held-out prompts" in README


def test_the_pairs() -> None:
    """And so are the shares of pairs ranked right."""
    pairs = YAML().load(ROOT / "params.yaml")["data"]["preference"]["eval_rows"]
    reward, dpo = (f"{figures(stage)['accuracy']:.2f}" for stage in ("reward", "dpo"))

    assert f"ranks {reward} of {pairs} held-out pairs right, DPO's policy {dpo}." in README
