"""Model folders: loading them, and saving what a stage made."""

from __future__ import annotations

from typing import Any

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # the precisions of an arithmetic, by torch's names
# Decoders whose attention weighs what came before by the product of queries and keys, and by nothing else.
PLAIN = ("gemma", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
# What their rotary positions may be scaled by: others of transformers go by the longest row so far, and a recorded pass
# cannot look at that.
ROPE_TYPES = ("default", "linear", "llama3", "yarn")


def attends_to_all(config: dict[str, Any]) -> bool:
    """Whether a model, by its config.json, is a decoder of PLAIN whose layers all attend to all that came before, with
    positions of ROPE_TYPES.

    >>> attends_to_all({"model_type": "mistral", "sliding_window": 4096})
    False
    """
    kind, rotation = config.get("model_type"), config.get("rope_parameters") or config.get("rope_scaling") or {}
    # Where nothing is said, a mistral has a window, and no other.
    window = config.get("use_sliding_window", True) and config.get("sliding_window", kind == "mistral")
    scaled = rotation.get("rope_type", rotation.get("type", ROPE_TYPES[0]))
    return kind in PLAIN and not window and scaled in ROPE_TYPES
