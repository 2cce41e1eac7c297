"""Checkpointing of activations, which the trainers of DPO and GRPO switch off and on again as they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import LORA, made
from transformers import TrainerCallback

from llmrl.training.settings import Lora


class Hooks(TrainerCallback):
    """Counts the hooks of the model that is trained, after each step."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_step_end(self, args, state, control, model, **_):
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        self.counts.append(sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds))


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("stage", ["dpo", "grpo"])
def test_no_hooks_pile_up(tmp_path: Path, stage: str, lora: Lora | None) -> None:
    """After many steps the model has as many as after 2."""
    hooks = Hooks()
    options = {"max_completion_length": 2} if stage == "grpo" else {}
    trainer, _ = made(tmp_path, stage, {"lora": lora}, max_steps=12, gradient_checkpointing=True, **options)
    trainer.add_callback(hooks)
    trainer.train()

    assert 12 == len(hooks.counts)
    assert {hooks.counts[1]} == set(hooks.counts)


@pytest.mark.parametrize("reentrant", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "grpo"])
def test_every_adapter_learns(tmp_path: Path, stage: str, reentrant: bool) -> None:
    """With the one hook that TRL has set: without any, torch's older way of checkpointing gives them no gradient."""
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
    trainer, _ = made(tmp_path, stage, {"lora": LORA}, max_steps=2, **options)
    trainer.train()
    learned = [bool(weights.any()) for name, weights in trainer.model.named_parameters() if "lora_B" in name]

    assert learned
    assert all(learned)


def test_trl_leaves_the_settings_as_they_are(tmp_path: Path) -> None:
    """It takes its own key out of the map that it is given."""
    given = {"use_reentrant": False, "selective": False}
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": dict(given)}
    trainer, run = made(tmp_path, "sft", **options)

    assert given == run.settings.trl["gradient_checkpointing_kwargs"]
    assert given != trainer.args.gradient_checkpointing_kwargs
