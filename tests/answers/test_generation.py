"""How a policy is asked: as is said here, whatever its makers' generation config says but for what ends a turn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from small import LORA, QUESTION, TINY, made

from llmrl.answers.generation import answering, completed, ends_of, generate
from llmrl.models.loading import load_policy, load_tokenizer

PUBLISHED = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_p": 0.3, "suppress_tokens": [*range(5, 400)]}
PUBLISHED |= {"num_beams": 3, "max_length": 60, "min_new_tokens": 12, "temperature": 0.1, "do_sample": True}


@pytest.mark.parametrize("ways", [{"do_sample": False}, {"do_sample": True, "temperature": 1.0, "top_k": 0}])
def test_a_published_way_of_sampling_changes_no_answer(ways: dict) -> None:
    """Answers are those of a model without one; afterwards the model has it as before."""
    tokenizer, found = load_tokenizer(TINY), []
    for published in ({}, PUBLISHED):
        policy = load_policy(TINY)
        policy.generation_config.update(**published)
        config = policy.generation_config
        with answering(policy, "fp32", 1):
            found.append(generate(policy, tokenizer, [QUESTION] * 4, 4, max_new_tokens=12, **ways))
        assert policy.generation_config is config

    assert found[0] == found[1]


def test_with_adapters_too(tmp_path: Path) -> None:
    """The config that is put away and back is that of the model below the adapters, which is saved."""
    trainer, _ = made(tmp_path, "sft", {"lora": LORA})
    config = trainer.model.get_base_model().generation_config
    config.update(**PUBLISHED)
    with answering(trainer.model, "fp32"):
        assert trainer.model.generation_config.num_beams is None
    assert trainer.model.get_base_model().generation_config is config
    assert "generation_config" not in vars(trainer.model)


@pytest.mark.parametrize("other", [None, 7, [7], [2, 7], [7, 2]])
def test_what_ends_a_turn(other: int | list[int] | None) -> None:
    """The tokenizer's token, and each of the generation config's: at the first an answer is cut, and has ended."""
    tokenizer, policy = load_tokenizer(TINY), load_policy(TINY)
    policy.generation_config.eos_token_id = other
    ends = ends_of(policy, tokenizer)
    expected = {2, 7} if other else {2}
    assert expected == set(ends)
    assert tokenizer.eos_token_id == ends[0]
    with torch.no_grad():  # every answer is the same token, again and again
        for last in (2, 7):
            policy.model.norm.weight.fill_(1.0)
            policy.model.embed_tokens.weight.fill_(1.0)
            policy.model.embed_tokens.weight[last] = 2.0
            with answering(policy, "fp32"):
                ((answer,),) = generate(policy, tokenizer, [QUESTION], 1, max_new_tokens=5, do_sample=False)
            ended = last in expected
            assert (ended, 0 if ended else 5) == (answer.ended, answer.tokens)


NARROW = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
NARROW |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "num_experts": 0, "decoder_sparse_step": 1}
LINEAR |= {f"linear_{name}": 8 for name in ("key_head_dim", "value_head_dim")}
LINEAR |= {f"linear_num_{name}_heads": 2 for name in ("key", "value")}
KINDS = {
    "llama": ({}, True),
    "gemma3_text": ({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}, True),
    "qwen3_next": (LINEAR, False),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ways", [{"do_sample": False}, {"do_sample": True, "top_k": 0}], ids=["greedy", "sampled"])
def test_what_several_answers_have_in_common_is_read_once(kind: str, ways: dict, monkeypatch) -> None:
    """Of a model whose cache can be divided by rows; the answers of each are those of transformers by itself."""
    more, divided = KINDS[kind]
    torch.manual_seed(0)
    policy = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **NARROW, **more))
    policy = policy.eval()
    lengths, asked = torch.tensor([9, 4, 7]), [0, 0, 0, 1, 2, 2]
    mask = (torch.arange(9) >= 9 - lengths[:, None]).long()  # padded at the left
    inputs = {"input_ids": torch.randint(2, 64, (3, 9)) * mask, "attention_mask": mask}
    options = {"max_new_tokens": 6, **ways}
    torch.manual_seed(1)
    expected = policy.generate(**{name: values[asked] for name, values in inputs.items()}, **options)[:, 9:]
    read: list[int] = []
    computed = policy.forward
    monkeypatch.setattr(
        policy, "forward", lambda *given, **named: read.append(named["input_ids"].numel()) or computed(*given, **named)
    )
    torch.manual_seed(1)
    found = completed(policy, inputs, asked, "transformers", **options)

    assert expected.tolist() == found
    assert read[:2] == ([3 * 8, 6] if divided else [6 * 9, 6])
