"""What stops a training that has gone wrong."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from test_arithmetic_of_answers import LORA, made  # noqa: F401
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llmrl import guards
from llmrl.errors import InputError

GIVEN = {
    "prompts": [[{"role": "user", "content": f"{number}?"}] for number in range(3)],
    "completions": [[{"role": "assistant", "content": text}] for text in ("one", "two", "three")],
    "solution": ["1", "2", None],
    "trainer_state": SimpleNamespace(global_step=6),
}


def mine(scores):
    """A reward that gives these scores."""

    def reward(**_):
        return scores

    return reward


@pytest.mark.parametrize("scores", [[1, 0.5, None], [True, False, 1], (1.0, 2.0, 3.0)])
def test_good_scores_pass(scores):
    """Numbers and None, as they are."""
    assert list(scores) == guards.checked(mine(scores))(**GIVEN)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0, 2.0], "returned 2 scores for 3 completions"),
        (1.0, "returned no list for 3 completions"),
        (None, "returned no list"),
        ([1.0, float("nan"), 0.0], "returned nan, in row 1 (prompt '1?', completion 'two'); a finite number is needed"),
        ([float("inf"), 0.0, 0.0], "returned inf, in row 0"),
        ([1.0, 1.0, "good"], "returned 'good', in row 2 (prompt '2?', completion 'three')"),
    ],
)
def test_bad_scores_are_named(scores, said):
    """With the step, the reward, the row and the value."""
    with pytest.raises(InputError) as caught:
        guards.checked(mine(scores))(**GIVEN)
    assert str(caught.value).startswith("grpo: step 7: the reward reward ")
    assert said in str(caught.value)


def test_a_reward_that_raises_is_named():
    """With its file and line, and the first row that raises."""

    def length(solution, **_):
        return [len(gold) for gold in solution]

    with pytest.raises(InputError) as caught:
        guards.checked(length)(**GIVEN)
    assert "grpo: step 7: the reward length raised TypeError: " in str(caught.value)
    assert "(test_guards.py:" in str(caught.value)
    assert "in row 2 (prompt '2?', completion 'three')" in str(caught.value)


def log(step, without, **more):
    return {"step": step, "frac_reward_zero_std": without, "reward": 0.06, "completions/clipped_ratio": 0.64} | more


def heard(*logs, least=0.1, patience=10):
    """What the guard does at the last of these logs."""
    guard = guards.Signal(SimpleNamespace(min_signal=least, patience=patience))
    guard.on_log(None, SimpleNamespace(global_step=logs[-1]["step"], log_history=list(logs)), None)


@pytest.mark.parametrize(
    "logs",
    [
        [log(5, 1.0)],  # not yet so many steps
        [log(5, 1.0), log(10, 0.7)],
        [log(2, 0.0), log(9, 1.0)],
        [log(5, 1.0), {"step": 10, "eval_reward": 0.5}],
        [{"step": 10, "loss": 0.5}],
    ],
)
def test_enough_signal_goes_on(logs):
    """The mean over the last steps counts, and of fewer steps than those nothing is said."""
    heard(*logs)


def test_too_little_signal_stops():
    """With the share, the reward, and the completions that are cut off."""
    with pytest.raises(InputError) as caught:
        heard(log(50, 0.2), log(55, 0.9), log(60, 1.0, reward=None))
    assert str(caught.value).startswith("grpo: step 60: 5% of the groups of the last 10 steps had a signal")
    assert "run.min_signal in params.yaml (0.1)" in str(caught.value)
    assert "mean reward is None; 64% of the completions are cut off" in str(caught.value)


def test_a_limit_of_nothing_never_stops():
    """`run.min_signal: 0` switches it off."""
    heard(log(50, 1.0), least=0.0)


class Spoilt(torch.autograd.Function):
    """What it is given, with gradients that are not finite."""

    @staticmethod
    def forward(_, states):
        return states.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * math.nan


def attention(when):
    """Attention by a kernel with a fault: its gradients are not finite in these cases."""

    def forward(module, query, key, value, attention_mask, **options):
        states, weights = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        half = torch.is_autocast_enabled(query.device.type)
        cases = {"always": True, "half": half, "padded": half and attention_mask is not None}
        return (Spoilt.apply(states) if cases[when] else states), weights

    return forward


ROW, ROWS = ", first in the row '", ", though each of its {1} rows is by itself"
KERNEL = "in float32 is finite: a kernel's fault, not the data's. Set {0}.attn_implementation: eager or {0}.kernels"
DATA = "'. Lower train.lr or {0}.lr_scale in params.yaml, or take the row out"


@pytest.mark.parametrize(("stage", "lora"), [("sft", None), ("dpo", LORA)], ids=["sft", "dpo with adapters"])
@pytest.mark.parametrize(
    ("when", "precision", "where", "mend"),
    [
        ("half", "bf16", ROW, "', which " + KERNEL),
        ("padded", "bf16", ROWS, ROWS + ", and " + KERNEL),  # as cuDNN's on an H100
        ("always", "bf16", ROW, DATA),
        ("always", "fp32", ROW, DATA),
    ],
)
def test_a_kernel_s_fault_is_named_as_one(made, when, precision, where, mend, stage, lora) -> None:  # noqa: F811
    """Where the row is finite by itself in float32, neither the learning rate is blamed nor the row."""
    AttentionInterface.register("faulty", attention(when))
    AttentionMaskInterface.register("faulty", sdpa_mask)
    trainer, _ = made(stage, lora, precision, "fp32", {"attn_implementation": "faulty"})
    trainer.add_callback(guards.Finite(trainer, stage))
    with pytest.raises(InputError) as caught:
        trainer.train()

    rows = {"sft": 4, "dpo": 8}[stage]
    begins = f"{stage}: the gradient of step 1 is not finite (nan){where}"
    assert str(caught.value).startswith(begins.format(stage, rows))
    assert mend.format(stage, rows) in str(caught.value)
    assert str(caught.value).endswith("; the last checkpoint is good.")
