"""Small repositories in exactly the formats of those that the original's experiments used."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

TURN = pa.struct([("content", pa.string()), ("role", pa.string())])
CAPYBARA = pa.schema([("source", pa.string()), ("messages", pa.list_(TURN)), ("num_turns", pa.int64())])
SIDES = [("chosen", pa.list_(TURN)), ("rejected", pa.list_(TURN))]
ULTRAFEEDBACK = pa.schema([*SIDES, ("score_chosen", pa.float64()), ("score_rejected", pa.float64())])
DEEPMATH = pa.schema([("prompt", pa.list_(TURN)), ("solution", pa.string())])

TURNS = """
    list:
    - name: content
      dtype: string
    - name: role
      dtype: string"""
CARD = """---
license: mit
dataset_info:
  features:
{features}
  splits:
  - name: train
    num_examples: {train}
  - name: test
    num_examples: {test}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---

# A data set
"""


def turn(role: str, content: str) -> dict[str, str]:
    return {"content": content, "role": role}


def conversation(number: int) -> dict:
    """A row of trl-lib/Capybara."""
    messages = []
    for part in range(1 + number % 3):
        messages += [turn("user", f"What of {number}, {part}?"), turn("assistant", f"It is {number + part}.")]
    return {"source": "EverythingLM", "messages": messages, "num_turns": len(messages)}


def preference(number: int) -> dict:
    """A row of trl-lib/ultrafeedback_binarized."""
    asked = turn("user", f"What of {number}, 0?")
    sides = {side: [asked, turn("assistant", f"{side} {number}")] for side in ("chosen", "rejected")}
    return {**sides, "score_chosen": 8.5, "score_rejected": 6.0}


def task(number: int) -> dict:
    """A row of trl-lib/DeepMath-103K."""
    return {"prompt": [turn("user", f"What of {number}, 0?")], "solution": f"${number}$" if number % 4 else "True"}


def parquet(rows: list[dict], schema: pa.Schema) -> bytes:
    """A Parquet file as the Hub's own are written."""
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), written, row_group_size=40)
    return written.getvalue()


def repository(make, schema: pa.Schema, train: int, test: int, shards: int = 1) -> dict[str, bytes]:
    """README.md and the shards of a train and a test split, whose rows differ."""
    features = "\n".join(
        f"  - name: {name}" + (TURNS if name in ("messages", "chosen", "rejected", "prompt") else "\n    dtype: string")
        for name in schema.names
    )
    files = {
        "README.md": CARD.format(features=features, train=train, test=test).encode(),
        ".gitattributes": b"*.parquet",
    }
    rows = [make(number) for number in range(train)]
    for shard in range(shards):
        name = f"data/train-{shard:05}-of-{shards:05}.parquet"
        files[name] = parquet(rows[shard * train // shards : (shard + 1) * train // shards], schema)
    files["data/test-00000-of-00001.parquet"] = parquet([make(10_000 + number) for number in range(test)], schema)
    return files


def capybara(train: int = 120, test: int = 60, shards: int = 2) -> dict[str, bytes]:
    return repository(conversation, CAPYBARA, train, test, shards)


def ultrafeedback(train: int = 120, test: int = 60) -> dict[str, bytes]:
    return repository(preference, ULTRAFEEDBACK, train, test)


def deepmath(train: int = 120, test: int = 60) -> dict[str, bytes]:
    return repository(task, DEEPMATH, train, test)
