"""What stops a training that has gone wrong, naming step and row, before it spoils the last checkpoint."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from llmrl.errors import InputError
from llmrl.measuring.figures import mean
from llmrl.session.settings import RunSettings
from llmrl.training import processes

if TYPE_CHECKING:
    from transformers import Trainer


class Finite(TrainerCallback):
    """Stops at the first loss or gradient that is not finite, before it reaches the weights."""

    def __init__(self, trainer: Trainer, stage: str) -> None:
        self.trainer, self.stage = trainer, stage
        self.rows: list[torch.Tensor] = []  # (rows, tokens) of each micro-batch of the step
        trainer.model.get_input_embeddings().register_forward_pre_hook(self.remember)

    def remember(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            self.rows.append(inputs[0].detach())

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.rows.clear()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        loss = self.trainer._tr_loss.item()
        gradients = [weight.grad for weight in self.trainer.model.parameters() if weight.grad is not None]
        # float16's gradients may overflow: its scaler then skips the step.
        norm = 0.0 if args.fp16 else torch.nn.utils.get_total_norm(gradients).item()
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = "the gradient" if math.isfinite(loss) else "the loss"
        # A gradient is that of all processes, so all are here; one of them has the row.
        rows = [row for rows in self.rows for row in rows]
        found = [self.culprit(rows)] if math.isfinite(norm) else processes.gathered(self.culprit(rows))
        row, fault = next((one for one in found if one[0]), found[0])
        where = f", first in the row {row!r}" if row else f", though each of its {len(rows)} rows is by itself"
        mend = f"Lower train.lr or {self.stage}.lr_scale in params.yaml, or take the row out of the data"
        if fault:
            # float16's numbers end at 65,504
            whose = "more than float16 holds, or a kernel's fault" if args.fp16 else "a kernel's fault, not the data's"
            where += f", {'which' if row else 'and'} in float32 is finite: {whose}"
            mend = "Set {0}.attn_implementation: eager or {0}.kernels: torch or {0}.precision: fp32 in params.yaml"
            mend = mend.format(self.stage)
        raise InputError(
            f"{self.stage}: {what} of step {state.global_step + 1} is not finite "
            f"({norm if math.isfinite(loss) else loss}){where}. {mend}; the last checkpoint is good."
        )

    def culprit(self, rows: list[torch.Tensor]) -> tuple[str, bool]:
        """The beginning of the first row of a step that is not finite by itself, if any; and whether it is the half
        precision: whether in float32 that row is finite or, where there is none, all are.
        """
        half = self.trainer.accelerator.mixed_precision != "no"
        for row in rows:
            if not self.finite(row, half):
                text = self.trainer.processing_class.decode(row, skip_special_tokens=True)
                return text[:80], half and self.finite(row, half=False)
        return "", half and all(self.finite(row, half=False) for row in rows)

    def finite(self, row: torch.Tensor, half: bool) -> bool:
        """Whether the states, logits or scores of a row by itself, and the gradients through its states, are finite: in
        the half precision of the training, or in float32.
        """
        model = self.trainer.model
        model.zero_grad()  # makes room
        whole = model.get_base_model() if hasattr(model, "get_base_model") else model
        body, head = whole.base_model, whole.get_output_embeddings() or whole.score
        weights = [weight for weight in body.parameters() if weight.requires_grad]
        with self.trainer.accelerator.autocast() if half else nullcontext():
            states = body(input_ids=row[None], use_cache=False).last_hidden_state
            logits = head(states.detach())
        gradients = torch.autograd.grad(states.float().square().mean(), weights, allow_unused=True)
        return all(bool(one.isfinite().all()) for one in (states, logits, *gradients) if one is not None)


def judged_signal(log: dict[str, Any]) -> tuple[float, str]:
    """The share of GRPO's groups, in a step's log, whose completions differ for the rewards that judge by the data's
    solutions, and the names of these; where there are none, by the weighted sum of all, and "".

    By the sum all are where a reward model is among them, though it tells only what it likes. Where several judge, each
    judges rows of its own.
    """
    judged = {name.removeprefix("judged/"): share for name, share in log.items() if name.startswith("judged/")}
    return (min(1.0, sum(judged.values())) if judged else 1 - log["frac_reward_zero_std"]), " and ".join(judged)


class Signal(TrainerCallback):
    """Stops where too few of GRPO's groups have a signal: completions that are scored differently, of which to learn.

    The mean over `patience` steps counts, as of a few groups by chance none has one. All is derived from the trainer's
    log, which its checkpoints hold, so that a resumed run stops at the same step.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.least, self.patience = settings.min_signal, settings.patience

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        logs = [log for log in state.log_history if "frac_reward_zero_std" in log]
        share = mean([(log["step"], judged_signal(log)[0]) for log in logs], self.patience)
        if share is None or share >= self.least:
            return
        reward, cut_off, judges = logs[-1]["reward"], logs[-1]["completions/clipped_ratio"], judged_signal(logs[-1])[1]
        what = f"completions that differ for {judges}" if judges else "completions with different rewards"
        raise InputError(
            f"grpo: step {state.global_step}: {share:.0%} of the groups of the last {self.patience} steps had a signal "
            f"({what}), less than run.min_signal in params.yaml ({self.least:g}). Their "
            f"mean reward is {reward and round(reward, 3)}; {cut_off:.0%} of the completions are cut off. Train on "
            "prompts that the policy answers neither always nor never rightly (grpo.pass_rate), or on easier ones "
            "(data.prompts), with more grpo.num_generations, a higher grpo.temperature or, where completions are cut "
            "off, a larger grpo.max_completion_length. run.min_signal: 0 goes on all the same."
        )
