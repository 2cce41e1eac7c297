"""What is refused for the model or the device a stage would run on, before it loads."""

from __future__ import annotations

import pytest
from small import settings

from llmrl.errors import InputError
from llmrl.params import combinations

QWEN2, MAMBA = {"model_type": "qwen2"}, {"model_type": "mamba"}
FLASH = QWEN2 | {"_attn_implementation": "flash_attention_2"}
FLEX = {"attn_implementation": "flex_attention"}


@pytest.mark.parametrize(
    ("stage", "own", "options", "config", "said"),
    [
        ("sft", FLEX, {}, QWEN2, "attn_implementation as sft has it needs CUDA; this stage would run on cpu"),
        ("dpo", {}, {"activation_offloading": True}, QWEN2, "activation_offloading as dpo has it needs CUDA"),
        ("grpo", {}, {"use_vllm": True}, QWEN2, "use_vllm as grpo has it needs CUDA"),
        ("reward", {}, {"tf32": True}, QWEN2, "tf32 as reward has it needs CUDA"),
        ("sft", {}, {"packing": True}, MAMBA, "not tested with models of type mamba"),
        ("sft", {}, {}, FLASH, "config.json asks for attention by flash_attention_2"),
    ],
)
def test_what_does_not_go_together(stage: str, own: dict, options: dict, config: dict, said: str) -> None:
    """Each is named, with what it needs."""
    with pytest.raises(InputError, match=said):
        combinations.check_model_and_device(settings(stage, own, **options), config, config is not MAMBA, "cpu")


@pytest.mark.parametrize(
    ("own", "options", "config", "kind"),
    [
        ({}, {}, MAMBA, "cpu"),
        ({}, {"packing": True}, QWEN2, "cpu"),
        ({"attn_implementation": "sdpa"}, {"packing": True}, FLASH, "cpu"),
        (FLEX, {"packing": True, "activation_offloading": True}, QWEN2, "cuda"),
    ],
)
def test_what_goes_together(own: dict, options: dict, config: dict, kind: str) -> None:
    """Nothing is refused that need not be."""
    combinations.check_model_and_device(settings("sft", own, **options), config, config is not MAMBA, kind)


SUM = {"full_determinism": True}


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"generation_kwargs": {"top_p": 0.9}}])
def test_probabilities_that_cuda_adds_up_in_any_order(options: dict) -> None:
    """With full_determinism torch would refuse to, once the first completions are sampled."""
    with pytest.raises(InputError, match=r"grpo.top_p: 0.9 with full_determinism"):
        combinations.check_model_and_device(settings("grpo", **options, **SUM), QWEN2, True, "cuda")
    combinations.check_model_and_device(settings("grpo", **options, **SUM), QWEN2, True, "cpu")
    combinations.check_model_and_device(settings("grpo", **options), QWEN2, True, "cuda")
    combinations.check_model_and_device(settings("grpo", top_p=1.0, **SUM), QWEN2, True, "cuda")
