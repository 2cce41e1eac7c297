"""What stops a training that has gone wrong."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from small import LORA, made
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llmrl.errors import InputError
from llmrl.session import guards
from llmrl.session.settings import RunSettings


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


def judged(step, without, **shares):
    """A log with the shares of groups in which rewards that judge by the data differ."""
    return log(step, without) | {f"judged/{name}": share for name, share in shares.items()}


def test_the_judged_reward_is_what_counts():
    """With a reward model the sum of rewards differs in every group, though no answer is right."""
    with pytest.raises(InputError) as caught:
        heard(judged(50, 0.0, accuracy=0.0), judged(60, 0.0, accuracy=0.05))
    assert str(caught.value).startswith(
        "grpo: step 60: 5% of the groups of the last 10 steps had a signal (completions that differ for "
        "accuracy), less than run.min_signal"
    )
    heard(judged(60, 1.0, accuracy=0.2))


def test_several_judges_have_rows_of_their_own():
    """Each tells nothing of the others' groups, and together they tell enough."""
    heard(judged(60, 0.0, accuracy=0.06, tests=0.06))
    with pytest.raises(InputError, match=r": 8% of .* that differ for accuracy and tests\)"):
        heard(judged(60, 0.0, accuracy=0.06, tests=0.02))


def test_a_limit_of_nothing_never_stops():
    """`run.min_signal: 0` switches it off."""
    heard(log(50, 1.0), least=0.0)
    heard(judged(50, 0.0, accuracy=0.0), least=0.0)


def test_the_guard_hears_what_a_trainer_logs(tmp_path):
    """A policy that is never right stops, where by the sum every group has a signal; and ours are in the log."""
    own = {"rewards": {"accuracy": 1.0, "ends_marked": 0.5, "reward_model": 1.0}}
    trainer, _ = made(tmp_path, "grpo", own, max_steps=3, logging_steps=1)
    trainer.add_callback(guards.Signal(RunSettings(min_signal=0.1, patience=2)))
    with pytest.raises(
        InputError, match=r"step 2: 0% of the groups of the last 2 steps had .* that differ for accuracy"
    ):
        trainer.train()

    for logged in (log for log in trainer.state.log_history if "reward" in log):
        assert {"signal/accuracy", "signal/ends_marked", "judged/accuracy", "repetition", "entropy"} <= logged.keys()
        assert not {"judged/ends_marked", "signal/reward_model"} & logged.keys()
        assert 0 == logged["frac_reward_zero_std"]


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
def test_a_kernel_s_fault_is_named_as_one(tmp_path, when, precision, where, mend, stage, lora) -> None:
    """Where the row is finite by itself in float32, neither the learning rate is blamed nor the row."""
    AttentionInterface.register("faulty", attention(when))
    AttentionMaskInterface.register("faulty", sdpa_mask)
    trainer, _ = made(tmp_path, stage, {"lora": lora, "attn_implementation": "faulty"}, precision)
    trainer.add_callback(guards.Finite(trainer, stage))
    with pytest.raises(InputError) as caught:
        trainer.train()

    rows = {"sft": 4, "dpo": 8}[stage]
    begins = f"{stage}: the gradient of step 1 is not finite (nan){where}"
    assert str(caught.value).startswith(begins.format(stage, rows))
    assert mend.format(stage, rows) in str(caught.value)
    assert str(caught.value).endswith("; the last checkpoint is good.")
