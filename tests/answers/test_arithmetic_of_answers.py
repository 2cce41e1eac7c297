"""Every policy answers in one arithmetic, whatever its stage, precision, reference, judge or adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small
import torch
from peft.tuners.lora import LoraLayer
from small import LORA, ROWS, TINY, made, settings
from torch.utils._python_dispatch import TorchDispatchMode

from llmrl.answers import generation
from llmrl.measuring import held_out
from llmrl.training import difficulty, loop
from llmrl.training.run import Run

# As torch calls them where gradients may be asked for, and in inference mode.
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "_scaled_dot_product_flash_attention_for_cpu"} | {
    "linear",
    "matmul",
    "scaled_dot_product_attention",
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Of the training, and of the answers. `make test` has the usual case, CI also those where the two are not alike.
UNLIKE = [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("bf16", "fp32"), ("fp32", "bf16"))]
PRECISIONS = [("bf16", "bf16"), *UNLIKE]
FULL_AND_LORA = pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])


class Products(TorchDispatchMode):
    """The types of the numbers that are multiplied, and how often a whole matrix is cast."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()
        self.casts = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        # Not the rotation's angles, a product of one number each, nor the head that gives one score.
        if name in PRODUCTS and 1 not in (args[0].shape[-1], tensors[1].shape[0], tensors[1].shape[-1]):
            self.dtypes |= {one.dtype for one in tensors if one.is_floating_point()}
        self.casts += name in ("_to_copy", "to") and isinstance(args[0], torch.nn.Parameter) and args[0].dim() > 1
        return function(*args, **(kwargs or {}))


def whole_products(model: torch.nn.Module, answering: str, answer: Callable[[], Any]) -> Any:
    """What it answers; checked is that all its products are in the precision but those of adapters, which are added to
    the matrices in float32, that it casts each matrix once, and has its weights back.
    """
    before = {name: (id(weights), weights.dtype) for name, weights in model.named_parameters()}
    adapters = {part for name, part in model.named_modules() if "lora_" in name}
    matrices = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one not in adapters]
    sums = sum(name.endswith("base_layer") for name, _ in model.named_modules())  # are no parameters, when cast
    with Products() as products:
        given = answer()
    assert {DTYPES[answering]} | ({torch.float32} if adapters else set()) == products.dtypes
    unlike = sum(one.weight.dtype != DTYPES[answering] for one in matrices)
    assert unlike - sums * (answering != "fp32") == products.casts
    assert before == {name: (id(weights), weights.dtype) for name, weights in model.named_parameters()}
    return given


@pytest.mark.parametrize(("precision", "answering"), PRECISIONS)
@pytest.mark.parametrize("judging", [False, True], ids=["held-out", "judging"])
def test_a_policy_s_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judging: bool, precision: str, answering: str
) -> None:
    """Every matrix product is in the precision of the answers; to held-out prompts, and to those that are judged."""
    chosen = settings("grpo", {"init": TINY, "batch": 4, "micro_batch": 2, "pass_samples": 2}, num_generations=2)
    protocol = replace(chosen.answers, samples=2, max_new_tokens=4, batch=4)
    run = small.run(tmp_path, replace(chosen, answers=protocol), [ROWS["grpo"]] * 2, precision, answering)
    policy = run.policy(TINY)
    monkeypatch.setattr(Run, "policy", lambda *_: policy)
    prompts = run.eval_rows.add_column("row", [0, 1])
    answer = (lambda: difficulty.judged(run)) if judging else (lambda: held_out.measure(run, TINY, "tiny", prompts))
    whole_products(policy, answering, answer)


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
@FULL_AND_LORA
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "grpo"])
def test_trl_s_evaluation(tmp_path: Path, stage, lora, precision) -> None:
    """So is every product of TRL's evaluation in the precision of the training, also beside a reference or a judge,
    and before any step; but for the head of a reward model, whose scores are float32.
    """
    trainer, _ = made(tmp_path, stage, {"lora": lora}, precision, precision)
    with Products() as products:
        figures = loop.evaluated(trainer)

    assert {DTYPES[precision]} == products.dtypes
    if stage == "dpo":  # policy and reference are one
        assert 0 == figures["eval_rewards/margins"]


@pytest.mark.parametrize(("precision", "answering"), PRECISIONS)
@FULL_AND_LORA
@pytest.mark.parametrize("rewards", [{"accuracy": 1.0}, {"accuracy": 1.0, "reward_model": 0.1}], ids=["", "judge"])
def test_completions(tmp_path: Path, rewards, lora, precision, answering) -> None:
    """So are GRPO's completions by the model it trains, while it trains and while it evaluates."""
    trainer, _ = made(tmp_path, "grpo", {"lora": lora, "rewards": rewards}, precision, answering)
    generate, generated = trainer.rollout_func, 0

    def watched(prompts, of):
        nonlocal generated
        generated += 1
        return whole_products(of.model, answering, lambda: generate(prompts, of))

    trainer.rollout_func = watched
    trainer.train()
    while_training = generated
    trainer.evaluate()

    assert 0 < while_training < generated


@FULL_AND_LORA
def test_cast_once_or_at_each_product_it_is_the_same(tmp_path: Path, lora) -> None:
    """Answers are those of torch's autocast, to the last bit of every logit; with adapters, those of the model that is
    saved, into which they are merged.
    """
    trainer, run = made(tmp_path, "sft", {"lora": lora}, "bf16")
    policy: Any = trainer.model
    for name, weights in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    tokens = run.tokenizer("1 + 1 = 2, 2 + 2 = 4", return_tensors="pt")
    with generation.answering(policy, "bf16"):
        found = policy(**tokens).logits
    whole = policy.merge_and_unload() if lora else policy
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = whole.eval()(**tokens).logits

    assert torch.equal(expected, found)


@FULL_AND_LORA
def test_scores_are_not_rounded(tmp_path: Path, lora) -> None:
    """A reward model that computes in bfloat16 still tells two scores apart that would be one in it."""
    trainer, run = made(tmp_path, "reward", {"lora": lora}, "bf16")
    tokens = run.tokenizer(["1 + 1 = 2", "2 + 2 = 4", "3 + 3 = 6"], return_tensors="pt", padding=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = trainer.model(**tokens).logits

    assert torch.float32 == scores.dtype
    assert not torch.equal(scores, scores.bfloat16().float())


# What TRL's arguments leave open, transformers takes from the model.
PUBLISHED = {"top_k": 7, "temperature": 0.3, "min_p": 0.2, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2}
SAMPLING = {"temperature": 0.7, "top_k": 20, "generation_kwargs": {"suppress_tokens": [5, 6, 7], "max_new_tokens": 12}}


@pytest.mark.parametrize("options", [{}, SAMPLING, {"pad_to_multiple_of": 16}], ids=["", "sampling", "padding"])
@FULL_AND_LORA
def test_completions_are_those_of_trl(tmp_path: Path, lora, options) -> None:
    """In float32, where TRL's own way has the same arithmetic, GRPO trains the same weights to the last bit, and
    evaluates to the same figures: as its settings say, however the model's makers have it sampled.
    """
    weights, figures = [], []
    for ours in (True, False):
        trainer, _ = made(tmp_path, "grpo", {"lora": lora}, max_steps=3, **options)
        if ours:
            trainer.model.generation_config.update(**PUBLISHED)
        else:
            trainer.rollout_func = None
        trainer.train()
        weights.append({name: one.clone() for name, one in trainer.model.named_parameters()})
        figures.append({name: one for name, one in trainer.evaluate().items() if "rewards" in name or "length" in name})

    assert [] == [name for name, one in weights[0].items() if not torch.equal(one, weights[1][name])]
    assert figures[0] == figures[1]


def test_where_it_cannot_begin_a_policy_is_as_before(tmp_path: Path, monkeypatch) -> None:
    """As where a device has no room for the matrices with their adapters."""
    policy = made(tmp_path, "sft", {"lora": LORA})[0].model.train()
    before, config = dict(policy.named_parameters()), policy.get_base_model().generation_config
    last = [one for one in policy.modules() if isinstance(one, LoraLayer)][-1]
    monkeypatch.setattr(last, "get_delta_weight", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), generation.answering(policy, "bf16"):
        pass
    monkeypatch.undo()

    assert policy.training
    assert config is policy.get_base_model().generation_config
    assert all(before[name] is weights for name, weights in policy.named_parameters())


def test_adapters_that_are_off_are_not_added(tmp_path: Path) -> None:
    """Neither by the caller's wish, nor because they are added already."""
    policy, tokens = made(tmp_path, "sft", {"lora": LORA})[0].model, torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        for name, weights in policy.named_parameters():
            weights.normal_(0, 0.3) if "lora_B" in name else None
    with generation.answering(policy, "fp32"):
        added = policy(tokens).logits
        with generation.answering(policy, "fp32"):
            assert torch.equal(added, policy(tokens).logits)
        assert torch.equal(added, policy(tokens).logits)
    with policy.disable_adapter():
        base = policy(tokens).logits
        with generation.answering(policy, "fp32"):
            assert torch.equal(base, policy(tokens).logits)
    assert not torch.equal(base, added)
