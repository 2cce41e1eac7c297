"""Every policy answers in one arithmetic, whatever its stage, precision, reference, judge or adapters."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from test_memory import settings
from torch.utils._python_dispatch import TorchDispatchMode

from llmrl import answers, difficulty, models, training
from llmrl.hardware import Hardware

TINY = str(Path(__file__).parents[1] / "models/tiny")
LORA = {"rank": 4, "alpha": 8}
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
QUESTION = [{"role": "user", "content": "1 + 1?"}]
ROWS = {
    "sft": {"messages": [*QUESTION, {"role": "assistant", "content": "2"}]},
    "dpo": {"prompt": QUESTION}
    | {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", "2"), ("rejected", "3"))},
    "grpo": {"prompt": QUESTION, "solution": "2"},
}
ROWS["reward"] = ROWS["dpo"]


def longer(row: dict, by: int) -> dict:
    """The row with so many more numbers in its question: beside another, one is padded."""
    return json.loads(json.dumps(row).replace("1 + 1?", "1 + 1" + by * " + 1" + "?"))


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


@pytest.fixture
def made(tmp_path: Path):
    """Makes a stage's trainer on the tiny model, and its run."""
    judge = models.load_classifier(TINY, 1)
    judge.save_pretrained(tmp_path / "judge")

    def make(stage: str, lora: dict | None, precision: str, answering: str, own: dict | None = None, **trl: object):
        own = {"init": TINY, "lora": lora, "reward_model": str(tmp_path / "judge")} | (own or {})
        own |= {"batch": 4, "micro_batch": 2}
        options = {"num_generations": 2, "num_generations_eval": 2} if stage == "grpo" else {"max_length": 64}
        options |= {"per_device_eval_batch_size": 2, "max_steps": 1} | trl
        rows = datasets.Dataset.from_list([longer(ROWS[stage], by) for by in range(4)])
        hardware = Hardware("cpu", "CPU", precision, answers=answering)
        chosen = settings(stage, own, eval_strategy="no", **options)
        (tmp_path / "completions").mkdir(exist_ok=True)
        run = training.Run(chosen, hardware, models.load_tokenizer(TINY), rows, rows, tmp_path, "run")
        script = importlib.import_module(f"stages.{stage}").STAGE
        return script.trainer(run, TINY), run

    return make


@pytest.mark.parametrize(("precision", "answering"), PRECISIONS)
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("stage", "own"),
    [
        ("sft", {}),
        ("dpo", {}),
        ("grpo", {"rewards": {"accuracy": 1.0}}),
        ("grpo", {"rewards": {"accuracy": 1.0, "reward_model": 0.1}}),
    ],
    ids=["sft", "dpo", "grpo", "grpo with a judge"],
)
def test_held_out_answers(made, stage, own, lora, precision, answering) -> None:
    """Every matrix product of the answers is in the precision of the answers, also by a model that is being trained and
    was evaluated by TRL; each weight is cast once, and is as before afterwards.
    """
    trainer, run = made(stage, lora, precision, answering, own)
    trainer.evaluate()
    protocol = replace(run.settings.answers, samples=2, max_new_tokens=4, batch=4)
    prompts = datasets.Dataset.from_list([ROWS["grpo"]] * 2)
    for model in (trainer.model, run.policy(TINY)):
        before = {name: (id(weights), weights.dtype) for name, weights in model.named_parameters()}
        cast = [
            module
            for module in model.modules()
            if isinstance(module, torch.nn.Linear) and module.weight.dtype != DTYPES[answering]
        ]
        with Products() as products:
            answers.measure(model, run.tokenizer, prompts, protocol, run.hardware.answers)

        assert {DTYPES[answering]} == products.dtypes
        assert len(cast) == products.casts
        assert before == {name: (id(weights), weights.dtype) for name, weights in model.named_parameters()}


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "grpo"])
def test_trl_s_evaluation(made, stage, lora, precision) -> None:
    """So is every product of TRL's evaluation in the precision of the training, also beside a reference or a judge,
    and before any step; but for the head of a reward model, whose scores are float32.
    """
    trainer, _ = made(stage, lora, precision, precision, {"rewards": {"accuracy": 1.0, "reward_model": 0.1}})
    with Products() as products:
        figures = training.evaluated(trainer)

    assert {DTYPES[precision]} == products.dtypes
    if stage == "dpo":  # policy and reference are one
        assert 0 == figures["eval_rewards/margins"]


@pytest.mark.parametrize(("precision", "answering"), PRECISIONS)
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("rewards", [{"accuracy": 1.0}, {"accuracy": 1.0, "reward_model": 0.1}], ids=["", "judge"])
def test_completions_and_judged_prompts(made, rewards, lora, precision, answering) -> None:
    """So are GRPO's completions, while it trains and while it evaluates, and the answers that prompts are judged by."""
    own = {"rewards": rewards, "pass_rate": [0.1, 0.9], "pass_samples": 2}
    trainer, run = made("grpo", lora, precision, answering, own)
    seen, generate = [], trainer.rollout_func

    def watched(prompts, of):
        with Products() as products:
            given = generate(prompts, of)
        seen.append(products.dtypes)
        return given

    trainer.rollout_func = watched
    with Products() as products:
        difficulty.judged(run, trainer.args)
    trainer.train()
    while_training = len(seen)
    trainer.evaluate()

    assert {DTYPES[answering]} == products.dtypes
    assert 0 < while_training < len(seen)
    assert [{DTYPES[answering]}] * len(seen) == seen


def test_cast_once_or_at_each_product_it_is_the_same(made) -> None:
    """Answers are those of torch's autocast, to the last bit of every logit."""
    trainer, run = made("sft", LORA, "bf16", "bf16")
    for name, weights in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    tokens = run.tokenizer("1 + 1 = 2, 2 + 2 = 4", return_tensors="pt")
    with answers.answering(trainer.model, "bf16"):
        found = trainer.model(**tokens).logits
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = trainer.model.eval()(**tokens).logits

    assert torch.equal(expected, found)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_scores_are_not_rounded(made, lora) -> None:
    """A reward model that computes in bfloat16 still tells two scores apart that would be one in it."""
    trainer, run = made("reward", lora, "bf16", "bf16")
    tokens = run.tokenizer(["1 + 1 = 2", "2 + 2 = 4", "3 + 3 = 6"], return_tensors="pt", padding=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = trainer.model(**tokens).logits

    assert torch.float32 == scores.dtype
    assert not torch.equal(scores, scores.bfloat16().float())


SAMPLING = {"temperature": 0.7, "top_k": 20, "generation_kwargs": {"suppress_tokens": [5, 6, 7], "max_new_tokens": 12}}


@pytest.mark.parametrize("options", [{}, SAMPLING, {"pad_to_multiple_of": 16}], ids=["", "sampling", "padding"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_completions_are_those_of_trl(made, lora, options) -> None:
    """In float32, where TRL's own way has the same arithmetic, GRPO trains the same weights to the last bit, and
    evaluates to the same figures.
    """
    weights, figures = [], []
    for ours in (True, False):
        trainer, _ = made("grpo", lora, "fp32", "fp32", max_steps=3, **options)
        # What TRL's arguments leave open, transformers takes from the model.
        trainer.model.generation_config.update(top_k=7, temperature=0.3, min_p=0.05, repetition_penalty=1.2)
        if not ours:
            trainer.rollout_func = None
        trainer.train()
        weights.append({name: one.clone() for name, one in trainer.model.named_parameters()})
        figures.append({name: one for name, one in trainer.evaluate().items() if "rewards" in name or "length" in name})

    assert [] == [name for name, one in weights[0].items() if not torch.equal(one, weights[1][name])]
    assert figures[0] == figures[1]
