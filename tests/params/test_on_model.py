"""What is refused for the model or the device a stage would run on, before it loads."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import small
import torch
import transformers
from small import settings

from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.params import on_model
from llmrl.training.settings import Lora

QWEN2, MAMBA = {"model_type": "qwen2"}, {"model_type": "mamba"}
FLASH = QWEN2 | {"_attn_implementation": "flash_attention_2"}
FLEX, VARLEN = {"attn_implementation": "flex_attention"}, {"attn_implementation": "varlen"}


@pytest.mark.parametrize(
    ("stage", "own", "options", "config", "said"),
    [
        ("sft", FLEX, {}, QWEN2, "attn_implementation as sft has it needs CUDA; this stage would run on cpu"),
        ("sft", VARLEN, {"packing": True}, QWEN2, "attn_implementation as sft has it needs CUDA"),
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
        on_model.check_model_and_device(settings(stage, own, **options), config, config is not MAMBA, "cpu")


@pytest.mark.parametrize(
    ("own", "options", "config", "kind"),
    [
        ({}, {}, MAMBA, "cpu"),
        ({}, {"packing": True}, QWEN2, "cpu"),
        ({"attn_implementation": "sdpa"}, {"packing": True}, FLASH, "cpu"),
        (FLEX, {"packing": True, "activation_offloading": True}, QWEN2, "cuda"),
        (VARLEN, {"packing": True}, QWEN2, "cuda"),
        (VARLEN | {"precision": "fp32"}, {"packing": False}, QWEN2, "cpu"),
    ],
)
def test_what_goes_together(own: dict, options: dict, config: dict, kind: str) -> None:
    """Nothing is refused that need not be."""
    on_model.check_model_and_device(settings("sft", own, **options), config, config is not MAMBA, kind)


def test_kernels_of_packed_documents_take_half_precision() -> None:
    """On CUDA, where auto gives one."""
    with pytest.raises(InputError, match="attn_implementation as sft has it: torch's kernels of varlen take half"):
        on_model.check_model_and_device(
            settings("sft", VARLEN | {"precision": "fp32"}, packing=True), QWEN2, True, "cuda"
        )


SUM = {"full_determinism": True}


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"generation_kwargs": {"top_p": 0.9}}])
def test_probabilities_that_cuda_adds_up_in_any_order(options: dict) -> None:
    """With full_determinism torch would refuse to, once the first completions are sampled."""
    with pytest.raises(InputError, match=r"grpo.top_p: 0.9 with full_determinism"):
        on_model.check_model_and_device(settings("grpo", **options, **SUM), QWEN2, True, "cuda")
    on_model.check_model_and_device(settings("grpo", **options, **SUM), QWEN2, True, "cpu")
    on_model.check_model_and_device(settings("grpo", **options), QWEN2, True, "cuda")
    on_model.check_model_and_device(settings("grpo", top_p=1.0, **SUM), QWEN2, True, "cuda")


@pytest.mark.parametrize(
    ("stage", "targets", "said"),
    [
        ("sft", ["embed_tokens"], r"model\.embed_tokens has the weights of the head, too"),
        ("dpo", ".*embed.*", r"model\.embed_tokens has the weights of the head, too"),
        ("grpo", "lm_.*", "TRL's losses pass by an adapter of lm_head"),
        ("sft", ["q_proj", "v_porj"], '"v_porj" is none of embed_tokens, q_proj, .*Did you mean v_proj'),
        ("reward", ["score"], '"score" is none of embed_tokens, q_proj'),
    ],
)
def test_modules_that_can_have_no_adapter(stage: str, targets: list[str] | str, said: str) -> None:
    """By the model's architecture, before it is loaded: peft would say so later, or of some nothing."""
    own = {"init": small.TINY, "lora": Lora(rank=4, alpha=8, targets=targets)}
    with pytest.raises(InputError, match=rf"params\.yaml: {stage}\.lora\.targets \(or train's\): {said}"):
        on_model.check_architecture(settings(stage, own))


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
    on_model.check_architecture(settings(stage, own))


# What peft itself refuses, of a model with such a config.
MOE = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2}
SMALL = {"vocab_size": 480, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
QWEN3_MOE = transformers.Qwen3MoeConfig(**SMALL, **MOE, head_dim=8)
DENSE = transformers.Qwen3MoeConfig(**SMALL, **MOE, head_dim=8, mlp_only_layers=[0, 1])
MIXTRAL = transformers.MixtralConfig(**SMALL, intermediate_size=64, num_local_experts=4, num_hidden_layers=2)
GRANITE = transformers.GraniteConfig(**SMALL, intermediate_size=32, num_hidden_layers=1)
ELECTRA = transformers.ElectraConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=32, is_decoder=True)


@pytest.mark.parametrize("stage", ["sft", "reward"])
@pytest.mark.parametrize(
    ("config", "targets"),
    [
        (QWEN3_MOE, ["gate_proj", "up_proj", "down_proj"]),
        (QWEN3_MOE, r".*\.(gate_proj|up_proj|q_proj)"),
        (QWEN3_MOE, ["gate", "layers.1.self_attn.q_proj"]),
        (QWEN3_MOE, "all-linear"),
        (MIXTRAL, ["w1", "w2", "w3", "q_proj"]),
    ],
)
def test_experts_as_they_were_called(
    tmp_path: Path, stage: str, config: transformers.PreTrainedConfig, targets: list[str] | str
) -> None:
    """Adapters of experts, which are parameters of one module by now: peft knows them by the names that they had."""
    config.save_pretrained(tmp_path)
    own = {"init": str(tmp_path), "lora": Lora(rank=4, alpha=8, targets=targets)}
    drawn = torch.get_rng_state()
    on_model.check_architecture(settings(stage, own))

    assert torch.equal(drawn, torch.get_rng_state())  # no number was drawn for them


@pytest.mark.parametrize(
    ("config", "lora", "said"),
    [
        (QWEN3_MOE, {"targets": ["gate_proj"]}, "lora (or train's): Cannot convert PEFT target(s) gate_proj without"),
        (QWEN3_MOE, {"dropout": 0.1}, "lora (or train's): lora.ParamWrapper does not work with lora_dropout != 0"),
        (QWEN3_MOE, {"targets": ["experts"]}, "lora (or train's): Target module Qwen3MoeExperts is not supported."),
        (QWEN3_MOE, {"targets": ["gate_proj", "up_proj", "v_porj"]}, 'lora.targets (or train\'s): "v_porj" is none of'),
        (DENSE, {"targets": ["q_proj", "gate_proj", "up_proj"]}, "lora.targets (or train's): peft adapts"),
        (DENSE, {"targets": ["gate_proj", "up_proj"]}, "lora.targets (or train's): peft adapts gate_up_proj for these"),
        (DENSE, {"targets": "z_.*"}, 'lora.targets (or train\'s): "z_.*" is none of embed_tokens'),
        (MIXTRAL, {"targets": ["gate_up_proj"]}, 'lora.targets (or train\'s): "gate_up_proj" is none of embed_tokens'),
    ],
)
def test_adapters_that_peft_does_not_make(
    tmp_path: Path, config: transformers.PreTrainedConfig, lora: dict, said: str
) -> None:
    """It is asked before anything is loaded, of the whole of what is asked for."""
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"params.yaml: dpo.{said}")):
        on_model.check_architecture(settings("dpo", {"init": str(tmp_path), "lora": Lora(rank=4, alpha=8, **lora)}))


@pytest.mark.parametrize(
    ("config", "kind"), [(GRANITE, "GraniteForCausalLM"), (ELECTRA, "ElectraForCausalLM")], ids=["none", "another head"]
)
def test_a_reward_model_that_there_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: transformers.PreTrainedConfig, kind: str
) -> None:
    """Its own stage says so before it loads anything; and each stage of an experiment that would make one does, also
    one that does not train it. Where the reward model is another's, none does.
    """
    monkeypatch.chdir(tmp_path)
    getattr(transformers, kind)(config).save_pretrained("models/base")
    stages = {name: settings(name) for name in STAGES}
    said = f"no reward model can be made of models/base: transformers has no class that gives a {kind} a score."
    with pytest.raises(InputError, match=re.escape(f"params.yaml: reward.init: {said}")):
        on_model.check_architecture(settings("reward", {"init": "models/base"}))
    on_model.check_architecture(settings("sft", {"init": "models/base"}))
    with pytest.raises(InputError, match=re.escape(f"params.yaml: grpo.reward_model: {said}")):
        on_model.check_reward_model(stages)
    on_model.check_reward_model(stages | {"grpo": settings("grpo", {"reward_model": "models/judge"})})
    shutil.rmtree("models/base")  # of another's experiment: what is not there cannot be judged
    on_model.check_reward_model(stages)
    shutil.copytree(small.TINY, "models/base")
    on_model.check_reward_model(stages)


def test_routers_that_there_are_not() -> None:
    """TRL refuses a coefficient of theirs once it has loaded the model; 0 switches off what there is not."""
    with pytest.raises(InputError, match="models/tiny has no mixture of experts"):
        on_model.check_architecture(settings("sft", {"init": small.TINY}, router_aux_loss_coef=0.1))
    on_model.check_architecture(settings("sft", {"init": small.TINY}, router_aux_loss_coef=0.0))
