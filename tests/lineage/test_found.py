"""Answers found by the model's hash: those of another model are not taken for its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrl.lineage.found import measured_alike, of_other
from llmrl.measuring.answers import with_origin

MODELS = {"models/sft": "sft now", "models/dpo": "dpo now", "data/prompts/eval.parquet": "prompts"}


def kept(folder: Path, **known: Any) -> Path:
    """A table that tells so much of what it was made of."""
    path = folder / "after.parquet"
    pq.write_table(with_origin(pa.table({"row": np.arange(3)}), **known), path)
    return path


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ({}, False),
        ({"init": "models/sft", "init_model": "sft now", "model": "dpo now"}, False),
        ({"init": "models/sft", "init_model": "sft then", "model": "dpo now"}, True),
        ({"models": {"base": "b", "sft": "sft now", "dpo": "dpo now"}}, False),
        ({"models": {"base": "b", "sft": "sft then", "dpo": "dpo now"}}, True),
        ({"models": {"../old/sft": "sft then", "dpo": "dpo then"}}, True),
    ],
)
def test_a_table_of_another_model(tmp_path: Path, known: dict[str, Any], other: bool) -> None:
    """By what its metadata tells; an older one, which tells nothing, is taken as it stands."""
    assert of_other(kept(tmp_path, **known), MODELS) == other


def entry(**changed: str) -> dict[str, Any]:
    """Of a lock, with such hashes of what it is made from."""
    deps = {"data/prompts/eval.parquet": "prompts", "models/dpo": "dpo", "llmrl/answers": "code"} | changed
    return {
        "deps": [{"path": path, "md5": md5} for path, md5 in deps.items()],
        "params": {"params.yaml": {"answers": {"samples": 4}}},
    }


def test_measured_alike() -> None:
    """On the same data and by the same models; what code counted is no matter."""
    assert measured_alike(entry(), entry(**{"llmrl/answers": "other code"}))
    assert not measured_alike(entry(), entry(**{"models/dpo": "another"}))
    assert not measured_alike(entry(), entry(**{"data/prompts/eval.parquet": "others"}))
