"""Mixed tasks in one set of prompts, each judged by its own reward: through the real pipeline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clone import ROOT, micro_clone

pytestmark = pytest.mark.slow

SHORT = '''

def short(completions: Completions, task: list[str], most: list[dict[str, int] | None], **_: Any) -> list[float | None]:
    """1 where a completion has at most so many characters."""
    return [
        float(len(completion[-1]["content"]) <= limit["characters"]) if kind == "short" else None
        for completion, kind, limit in zip(completions, task, most, strict=True)
    ]
'''
TASKS = [
    {"task": "short", "most": {"characters": 12}},
    {"task": "holds", "tests": ["1", "2", "é"]},
    {"task": "unjudged", "tests": []},
]
OURS = ("ends_marked", "soft_overlong_punishment")
ROWS = [{"prompt": f"What is {number}?"} | TASKS[number % 3] for number in range(90)]


def expected(row: dict, completion: str) -> dict[str, float | None]:
    """What each reward says of a completion."""
    kind = row["task"]
    return {
        "short": float(len(completion) <= row["most"]["characters"]) if kind == "short" else None,
        "holds": pytest.approx(sum(one in completion for one in row["tests"]) / 3) if kind == "holds" else None,
    }


def test_each_task_is_judged_by_its_own_reward(tmp_path: Path) -> None:
    """By lists and maps of its rows, as the guide has it, and by no other's; what none judges has no advantage."""
    clone = micro_clone(tmp_path / "clone")
    (holds,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/your-data.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (clone.folder / "data/raw/prompts/tasks.jsonl").write_text(lines)
    with (clone.folder / "llmrl/rewards.py").open("a") as file:
        file.write(SHORT + "\n\n" + holds)
    clone.params(
        data={"eval_share": 0.2, "prompts": {"source": "raw", "rows": None, "eval_rows": None}},
        reward={"max_steps": 1, "eval_strategy": "no"},
        grpo={
            "init": "models/base",
            "max_steps": 6,
            "rewards": {"short": 1.0, "holds": 0.5} | dict.fromkeys(OURS, 0.0),
        },
    )
    said = clone.run("dvc", "repro", "grpo")
    files = (clone.runs()[-1]["folder"] / "completions").rglob("*.parquet")
    judged = [row for file in files for row in pq.read_table(file).to_pylist()]
    by_prompt = {row["prompt"]: row for row in ROWS}
    found = {task["task"]: 0 for task in TASKS}
    for one in judged:
        row = by_prompt[one["prompt"][-1]["content"]]
        scores = {name: None if one[name] != one[name] else one[name] for name in ("short", "holds")}
        assert expected(row, one["completion"][-1]["content"]) == scores
        assert row["task"] != "unjudged" or one["advantage"] == 0
        assert one["ends_marked"] in (0, 1)
        assert -1 <= one["soft_overlong_punishment"] <= 0
        found[row["task"]] += 1

    assert "  for rewards also: task, most, tests\n" in said
    assert all(found.values()), found
    assert {"short", "holds", *OURS, "reward"} <= clone.figures("grpo").keys()
