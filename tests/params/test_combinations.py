"""What is refused for the model or the device a stage would run on, before it loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small
from small import settings

from llmrl.errors import InputError
from llmrl.params import combinations
from llmrl.training.settings import Lora

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


@pytest.mark.parametrize(
    ("stage", "targets", "said"),
    [
        ("sft", ["embed_tokens"], r"model\.embed_tokens has the weights of the head, too"),
        ("dpo", ".*embed.*", r"model\.embed_tokens has the weights of the head, too"),
        ("grpo", "lm_.*", "TRL's losses pass by an adapter of lm_head"),
        ("sft", ["q_proj", "v_porj"], '"v_porj" is none of embed_tokens, q_proj, .*Did you mean v_proj'),
        ("sft", ["self_attn"], r"model\.layers\.0\.self_attn is a Qwen2Attention, which can have no adapter"),
        ("reward", ["score"], '"score" is none of embed_tokens, q_proj'),
    ],
)
def test_modules_that_can_have_no_adapter(stage: str, targets: list[str] | str, said: str) -> None:
    """By the model's architecture, before it is loaded: peft would say so later, or of some nothing."""
    own = {"init": small.TINY, "lora": Lora(rank=4, alpha=8, targets=targets)}
    with pytest.raises(InputError, match=rf"params\.yaml: {stage}\.lora\.targets \(or train's\): {said}"):
        combinations.check_architecture(settings(stage, own))


@pytest.mark.parametrize(
    ("stage", "targets", "tied"),
    [
        ("sft", "all-linear", True),
        ("sft", ["q_proj", "model.layers.0.mlp.up_proj"], True),
        ("dpo", r".*\.(q|v)_proj", True),
        ("sft", ["embed_tokens"], False),
        ("reward", ["embed_tokens"], True),  # which has no head that could be tied
    ],
)
def test_modules_that_can(tmp_path: Path, stage: str, targets: list[str] | str, tied: bool) -> None:
    """As peft finds them; embeddings, too, where they are not the head."""
    config = json.loads(Path(small.TINY, "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": tied}))
    own = {"init": str(tmp_path), "lora": Lora(rank=4, alpha=8, targets=targets)}
    combinations.check_architecture(settings(stage, own))


def test_routers_that_there_are_not() -> None:
    """TRL refuses a coefficient of theirs once it has loaded the model; 0 switches off what there is not."""
    with pytest.raises(InputError, match="models/tiny has no mixture of experts"):
        combinations.check_architecture(settings("sft", {"init": small.TINY}, router_aux_loss_coef=0.1))
    combinations.check_architecture(settings("sft", {"init": small.TINY}, router_aux_loss_coef=0.0))
