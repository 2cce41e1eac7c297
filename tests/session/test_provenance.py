"""What is recorded of what made a model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import settings

from llmrl.session import provenance


@pytest.mark.parametrize("columns", [["reasoning_gym"], ["level"]])
@pytest.mark.parametrize("rate", [[0.1, 0.9], None])
def test_what_chooses_the_prompts(columns, rate, tmp_path, monkeypatch):
    """The package whose scorers say which prompts are practised on, where these are of its tasks and are chosen."""
    monkeypatch.chdir(tmp_path)
    Path("data/prompts").mkdir(parents=True)
    table = pa.table({"solution": ["2"]}).replace_schema_metadata({"extra_columns": json.dumps(columns)})
    pq.write_table(table, "data/prompts/train.parquet")
    chooses = ["reasoning-gym"] if rate and columns == ["reasoning_gym"] else []

    assert chooses == provenance.scorers(settings("grpo", {"pass_rate": rate}))
    assert [] == provenance.scorers(settings("sft"))
