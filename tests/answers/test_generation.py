"""How a policy is asked: as is said here, whatever its makers' generation config says but for what ends a turn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import LORA, QUESTION, TINY, made

from llmrl.answers.generation import answering, ends_of, generate
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
