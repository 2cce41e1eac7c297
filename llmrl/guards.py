"""What stops a training that has gone wrong, naming step, row and value, before it spoils the last checkpoint."""

from __future__ import annotations

import functools
import math
import numbers
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from llmrl import launch, tracking
from llmrl.errors import InputError

if TYPE_CHECKING:
    from transformers import Trainer

    from llmrl.params import Run

Reward = Callable[..., Any]


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
        found = [self.culprit(rows)] if math.isfinite(norm) else launch.gathered(self.culprit(rows))
        row, fault = next((one for one in found if one[0]), found[0])
        where = f", first in the row {row!r}" if row else f", though each of its {len(rows)} rows is by itself"
        mend = f"Lower train.lr or {self.stage}.lr_scale in params.yaml, or take the row out of the data"
        if fault:
            # float16's numbers end at 65,504
            whose = "more than float16 holds, or a kernel's fault" if args.fp16 else "a kernel's fault, not the data's"
            where += f", {'which' if row else 'and'} in float32 is finite: {whose}"
            others = ("attn_implementation: eager", "kernels: torch", "precision: fp32")
            mend = f"Set {' or '.join(f'{self.stage}.{other}' for other in others)} in params.yaml"
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


class Signal(TrainerCallback):
    """Stops where too few of GRPO's groups have a signal: completions with different rewards, of which to learn.

    The mean over `patience` steps counts, as of a few groups by chance none has one. All is derived from the trainer's
    log, which its checkpoints hold, so that a resumed run stops at the same step.
    """

    def __init__(self, settings: Run) -> None:
        self.least, self.patience = settings.min_signal, settings.patience

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        logs = [log for log in state.log_history if "frac_reward_zero_std" in log]
        share = tracking.mean([(log["step"], 1 - log["frac_reward_zero_std"]) for log in logs], self.patience)
        if share is None or share >= self.least:
            return
        reward, cut_off = logs[-1]["reward"], logs[-1]["completions/clipped_ratio"]
        raise InputError(
            f"grpo: step {state.global_step}: {share:.0%} of the groups of the last {self.patience} steps had a signal "
            f"(completions with different rewards), less than run.min_signal in params.yaml ({self.least:g}). Their "
            f"mean reward is {reward and round(reward, 3)}; {cut_off:.0%} of the completions are cut off. Train on "
            "prompts that the policy answers neither always nor never rightly (grpo.pass_rate), or on easier ones "
            "(data.prompts), with more grpo.num_generations, a higher grpo.temperature or, where completions are cut "
            "off, a larger grpo.max_completion_length. run.min_signal: 0 goes on all the same."
        )


def checked(function: Reward) -> Reward:
    """A reward that stops the stage where it raises, or does not give one finite number, or None, a completion."""

    @functools.wraps(function)  # TRL calls its figures by the name
    def judge(**given: Any) -> list[float | None]:
        place = f"grpo: step {given['trainer_state'].global_step + 1}: the reward {function.__name__}"
        try:
            scores = function(**given)
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            row = next((row for row in range(len(given["completions"])) if raises(function, given, row)), None)
            where = "for the batch as a whole" if row is None else shown(given, row)
            raise InputError(
                f"{place} raised {type(error).__name__}: {error} ({Path(line.filename).name}:{line.lineno}), {where}."
            ) from error
        scores, count = listed(scores), len(given["completions"])
        if scores is None or len(scores) != count:
            what = "no list" if scores is None else f"{len(scores)} scores"
            raise InputError(f"{place} returned {what} for {count} completions; each needs one score, or None.")
        for row, score in enumerate(scores):
            if score is not None and not (isinstance(score, numbers.Real) and math.isfinite(score)):
                needed = "a finite number is needed, or None where it cannot judge"
                raise InputError(f"{place} returned {score!r}, {shown(given, row)}; {needed}.")
        return scores

    return judge


def listed(scores: Any) -> list[Any] | None:
    """Scores as a list, also from an array; None where they are nothing of the kind."""
    if hasattr(scores, "tolist"):
        scores = scores.tolist()
    return list(scores) if isinstance(scores, list | tuple) else None


def raises(function: Reward, given: dict[str, Any], row: int) -> bool:
    """Whether a reward also raises for one completion alone."""
    count = len(given["completions"])
    try:
        function(**{k: [v[row]] if isinstance(v, list) and len(v) == count else v for k, v in given.items()})
    except Exception:
        return True
    return False


def shown(given: dict[str, Any], row: int) -> str:
    """A row in words."""
    prompt, completion = (given[name][row][-1]["content"] for name in ("prompts", "completions"))
    return f"in row {row} (prompt {prompt[:80]!r}, completion {completion[:80]!r})"
