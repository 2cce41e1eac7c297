"""Model folders: loading them, and saving what a stage made."""

from __future__ import annotations

from typing import Any

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # the precisions of an arithmetic, by torch's names
# Decoders whose attention weighs what came before by the product of queries and keys, and by nothing else.
PLAIN = ("gemma", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")


def attends_to_all(config: dict[str, Any]) -> bool:
    """Whether a model, by its config.json, is a decoder of PLAIN whose layers all attend to all that came before.

    >>> attends_to_all({"model_type": "mistral", "sliding_window": 4096})
    False
    """
    window = config.get("use_sliding_window", True) and config.get("sliding_window")
    return config.get("model_type") in PLAIN and not window
