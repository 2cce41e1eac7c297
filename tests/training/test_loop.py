"""What is done in a training, in which order."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import small

from llmrl.training import loop
from stages import grpo


@pytest.mark.skipif(bool(importlib.util.find_spec("vllm")), reason="by lacking vLLM it shows that it is not asked for")
def test_a_policy_is_measured_without_vllm(tmp_path: Path) -> None:
    """By what measures every other policy, before the training and after it; a training itself would ask for vLLM."""
    _, run = small.made(tmp_path, "grpo")
    run = replace(run, settings=replace(run.settings, trl=run.settings.trl | {"use_vllm": True}))
    with pytest.raises(ImportError, match="vLLM is not available"):
        loop.constructed(grpo.trainer, run, small.TINY)

    assert "eval_reward" in loop.evaluation(run, grpo.trainer, small.TINY, "before")
