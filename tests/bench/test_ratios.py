"""bench.ratios: what it tells of adapters on weights of bf16's grid, and that its command runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small import TINY
from trl.trainer.utils import add_fused_lm_head

from bench import ratios
from llmrl.models.loading import load_policy, load_tokenizer

ROOT = Path(__file__).parents[2]


def adapters(size: float) -> Any:
    """The built-in model with weights on bf16's grid, and adapters whose B is of a size."""
    torch.manual_seed(1)
    base = load_policy(TINY)
    for weights in base.parameters():
        weights.data = ratios.nearest(weights.data)
    add_fused_lm_head(base)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=size)
    return model


def test_stochastic_rounding_lands_beside_the_weight_and_on_it_in_the_mean() -> None:
    weights = torch.tensor([1.0, -0.3, 1.001]).repeat(20_000, 1)
    rounded = ratios.stochastic(weights)
    assert torch.equal(rounded, ratios.nearest(rounded))
    assert rounded[:, 0].eq(1).all()
    assert rounded.mean(0).tolist() == pytest.approx([1.0, -0.3, 1.001], abs=1e-4)


@pytest.mark.parametrize(("size", "low", "high"), [(1e-5, 0.0, 0.1), (0.3, 0.95, 1.05)])
def test_how_much_of_adapters_is_left_on_the_grid_of_half_precision(size: float, low: float, high: float) -> None:
    model = adapters(size)
    bases: list[Any] = [layer.get_base_layer() for layer in ratios.layers(model)]
    before = [base.weight.clone() for base in bases]
    with ratios.merged(model, 1, ratios.nearest) as told:
        pass
    assert low <= told["followed"] <= high
    assert all(torch.equal(*pair) for pair in zip(before, (base.weight for base in bases), strict=True))


def test_adapters_that_are_large_are_followed_by_sampling_and_training() -> None:
    found = ratios.measured(adapters(0.1), load_tokenizer(TINY), ["What is 1 + 2?", "What is 3 + 4 + 5?"], 8, 1.0)
    assert all(share == pytest.approx(1, abs=0.2) for share, _ in found["followed"].values())
    assert found["ratios"]["float32, padded to not"]["abs_log"] < 1e-4
    assert found["ratios"]["sampling to training"]["abs_log"] < found["drift"]["abs_log"]


def test_its_command_runs() -> None:
    command = (sys.executable, "-m", "bench.ratios", TINY, "--smoke")
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
    assert told["measured"][0]["ratios"]["sampling to training"]["kl"] < 0.01
