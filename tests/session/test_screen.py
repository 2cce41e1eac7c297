"""What a terminal shows while a stage trains."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace

from rich.console import Console

from llmrl.session import screen


def test_grpo_s_bar_fits_a_terminal() -> None:
    """Of 80 columns, with its bar, its reward, the share with a signal, memory and time; a log says it in words."""
    terminal = Console(file=StringIO(), width=80, force_terminal=True)
    paper = Console(file=StringIO(), width=80)
    bar = screen.TrainingProgress(SimpleNamespace(screen=terminal, paper=paper), "grpo")
    state = SimpleNamespace(global_step=0, max_steps=200)
    bar.on_train_begin(None, state, None)
    bar.on_log(None, state, None, {"reward": -10.8554, "frac_reward_zero_std": 0.22})
    state.global_step = 200
    bar.on_step_end(None, state, None)
    bar.on_train_end(None, state, None)
    plain = Console(file=StringIO(), width=80)
    plain.print(bar.bar.drawn.get_renderable())
    (line,) = plain.file.getvalue().splitlines()

    assert line.startswith("grpo ━━━━━")
    assert " 200/200 left 0:00:00 reward -10.855  signal 78%" in line
    assert "GiB" in line
    assert "…" not in line
    assert "reward -10.855  78% of groups with signal  0 s left" in paper.file.getvalue()


def test_a_batch_that_no_reward_judges_has_none() -> None:
    """TRL logs None as its mean reward, and training goes on."""
    bar = screen.TrainingProgress(SimpleNamespace(), "grpo")
    bar.on_log(None, None, None, {"reward": None, "frac_reward_zero_std": 0.0})

    assert "reward none" == bar.loss
