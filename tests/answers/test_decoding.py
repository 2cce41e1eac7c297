"""Decoding with a cache of full length and grouped attention: the tokens are those of transformers' own loop.

On a CPU nothing is recorded, all else is as on CUDA, where tests/pipeline/test_gpu.py runs it recorded.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small import LORA, TINY, made
from transformers import GenerationConfig, LogitsProcessorList, StaticCache
from transformers.cache_utils import StaticLayer

from llmrl.answers.decoding import Further, decode, grouped_attention
from llmrl.answers.generation import answering, decoded_by, up_to_end
from llmrl.models import PLAIN, attends_to_all
from llmrl.models.loading import load_policy

NARROW = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [15], [16, 17, 18, 19, 20]]
MASK = torch.tensor([[0] * (7 - len(row)) + [1] * len(row) for row in PROMPTS])
PADDED = torch.tensor([[0] * (7 - len(row)) + row for row in PROMPTS])
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9},
    "penalised": {"do_sample": True, "repetition_penalty": 1.3, "min_p": 0.05, "min_new_tokens": 9},
}


def narrow(kind: str) -> transformers.PreTrainedModel:
    """A model of this type with random weights, large enough that its tokens differ."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **NARROW, use_sliding_window=False)
    config.sliding_window = None
    policy = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weights in policy.parameters():
            weights *= 3
    return policy


def tokens(policy: Any, **options: Any) -> list[list[int]]:
    """Those of one call of `generate`, from one state of random numbers, cut at what ends them."""
    torch.manual_seed(1)
    known: dict[str, Any] = {"max_new_tokens": 40, "eos_token_id": [2, 3, 4], "pad_token_id": 0, **options}
    found = policy.generate(input_ids=PADDED, attention_mask=MASK, **known)[:, PADDED.shape[1] :]
    return [up_to_end(row, known["eos_token_id"]) for row in found.tolist()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", PLAIN)
def test_the_same_tokens(kind: str, way: str) -> None:
    """Of rows of unlike lengths, that end at unlike places, sampled from the same random numbers."""
    policy = narrow(kind)
    expected = tokens(policy, **WAYS[way])
    found = tokens(policy, custom_generate=decode, **WAYS[way])

    assert expected == found
    assert len({len(row) for row in found}) > 1 or way == "greedy"


@pytest.mark.parametrize("kind", PLAIN)
def test_in_half_precision(kind: str) -> None:
    """Matrices are multiplied in bfloat16, and so are keys and values cached, though torch rotates keys in float32:
    after the same tokens the logits are as near to those of float32 as transformers' own.
    """
    policy, seen = narrow(kind), []

    def forced(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen[-1].append(scores)
        return torch.full_like(scores, -torch.inf).index_fill_(1, input_ids[0, -1:] % 7 + 5, 0.0)

    ways: list[tuple[str, dict[str, Any]]] = [("fp32", {}), ("bf16", {}), ("bf16", {"custom_generate": decode})]
    for precision, way in ways:
        seen.append([])
        with answering(policy, precision):
            tokens(policy, do_sample=False, logits_processor=LogitsProcessorList([forced]), **way)
    exact, theirs, ours = map(torch.stack, seen)

    # Scores of attention are rounded, as by transformers' eager attention, but not by torch's own.
    assert 0 < (ours - exact).norm() < 1.5 * (theirs - exact).norm() < 0.1 * exact.norm()


def test_products_that_float16_does_not_hold() -> None:
    """They are scaled before they are products, as torch's own are."""
    states = torch.full((1, 2, 1, 64), 40.0, dtype=torch.float16)
    assert torch.equal(states.transpose(1, 2), grouped_attention(torch.nn.Module(), states, states, states, None)[0])


@pytest.mark.parametrize("asked", [False, True])
def test_torch_s_determinism_is_as_before_afterwards(asked: bool) -> None:
    torch.use_deterministic_algorithms(asked, warn_only=asked)
    try:
        tokens(narrow("llama"), custom_generate=decode, do_sample=False)
        assert asked == torch.are_deterministic_algorithms_enabled()
        assert asked == torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_nothing_outlives_its_call() -> None:
    """The cache goes with the call, not when Python next looks for garbage."""
    policy = narrow("llama")
    gc.disable()
    try:
        tokens(policy, custom_generate=decode, do_sample=False)
        left = [one for one in gc.get_objects() if isinstance(one, Further | StaticLayer)]
    finally:
        gc.enable()
    assert [] == left


def test_of_every_prompt_one_token() -> None:
    """Nothing is padded, and the pass over the prompts is of one token as each further one is."""
    policy, prompts = narrow("llama"), torch.tensor([[5], [6], [7]])
    asked: dict[str, Any] = {"input_ids": prompts, "attention_mask": torch.ones_like(prompts), "do_sample": False}
    asked |= {"max_new_tokens": 20, "eos_token_id": None}
    assert torch.equal(policy.generate(**asked), policy.generate(**asked, custom_generate=decode))
    one = asked | {"max_new_tokens": 1}
    assert torch.equal(policy.generate(**one), policy.generate(**one, custom_generate=decode))


def test_a_model_attends_as_before_afterwards() -> None:
    policy = narrow("llama")
    tokens(policy, custom_generate=decode, do_sample=False)
    assert "sdpa" == policy.config._attn_implementation


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_decoded_so_caches_all(kind: str) -> None:
    """Each of its layers has a cache of full length that tells its end in a tensor, as recording needs."""
    config = narrow(kind).config
    assert attends_to_all(config.to_dict())
    cache = StaticCache(config=config, max_cache_len=8)
    assert {StaticLayer} == {type(layer) for layer in cache.layers}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma3_text"},  # some of its layers attend to a window
        {"model_type": "gpt_oss"},  # its attention has sinks
        {"model_type": "mistral", "sliding_window": 4096},
        {"model_type": "mistral"},  # which has one where it says nothing
        {"model_type": "llama", "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        {"model_type": "phi3", "rope_scaling": {"type": "longrope"}},
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4096},
    ],
)
def test_what_is_not(config: dict[str, Any]) -> None:
    assert not attends_to_all(config)


@pytest.mark.parametrize(
    ("engine", "asked", "recorded"),
    [
        ("transformers", {}, False),
        ("cuda_graphs", {}, True),
        ("cuda_graphs", {"do_sample": True, "top_k": 5}, True),
        ("cuda_graphs", {"num_beams": 2}, False),
        ("cuda_graphs", {"cache_implementation": "offloaded"}, False),
        ("cuda_graphs", {"use_cache": False}, False),
    ],
)
def test_by_which_engine(engine: str, asked: dict[str, Any], recorded: bool) -> None:
    """Where several beams or a cache of some kind are asked for, transformers' own loop has them."""
    assert recorded == bool(decoded_by(engine, load_policy(TINY), GenerationConfig(**asked)))


def test_adapters_are_added(tmp_path: Path) -> None:
    """A policy with adapters answers as the model that is saved of it does, and has them as before afterwards."""
    trainer, _ = made(tmp_path, "sft", {"lora": LORA})
    policy = trainer.model
    with torch.no_grad():
        for name, weights in policy.named_parameters():
            weights.normal_(0, 0.3) if "lora_B" in name else None
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    trained = [name for name, value in policy.named_parameters() if value.requires_grad]
    mask = torch.ones_like(PADDED)
    asked: dict[str, Any] = {"input_ids": PADDED + 5, "attention_mask": mask, "do_sample": False, "max_new_tokens": 12}
    beside, unadapted = policy.generate(**asked), None
    with policy.disable_adapter():
        unadapted = policy.generate(**asked)
    with answering(policy, "fp32"):
        found = policy.generate(**asked)
        recorded = policy.generate(**asked, **decoded_by("cuda_graphs", policy, GenerationConfig()))

    assert torch.equal(beside, found)
    assert torch.equal(found, recorded)
    assert not torch.equal(unadapted, found)
    assert before.keys() == policy.state_dict().keys()
    assert all(torch.equal(value, policy.state_dict()[name]) for name, value in before.items())
    assert trained == [name for name, value in policy.named_parameters() if value.requires_grad]
    assert torch.equal(beside, policy.generate(**asked))
