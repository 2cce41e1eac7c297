"""The one table of what a stage is: what it is made from, which of TRL's trainers trains it, what is measured of it.

The graph itself, with its commands and dependencies, stands in dvc.yaml. A stage of one's own is an entry here, one
there, a script in stages/ and a section of params.yaml; CONTRIBUTING.md lists the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """What a stage is.

    `data` names the data set it is trained on, whose rows lie in `folder`; `models` the settings that name a model
    folder, with how the name of the class must end that each holds; `tracked` maps TRL's names of figures to ours (`*`
    stands for any reward, `1-` before ours means that TRL has the rest of the share); of the curves in `averaged`, with
    the same `*`, the mean over the training is kept.
    """

    title: str
    trainer: str  # of TRL, whose config is named alike
    data: str
    tracked: dict[str, str]
    averaged: tuple[str, ...] = ()
    models: dict[str, str] = field(default_factory=lambda: {"init": "ForCausalLM"})
    sides: int = 1  # sequences of a row: 2 of a pair
    answers: bool = True  # makes a policy, which is measured by its answers; else a model that gives one score
    reference: bool = False  # is compared with the model it starts from all the while
    generates: bool = False  # trains on its own completions, which rewards judge

    @property
    def folder(self) -> str:
        """Pairs go through a stage of their own, as a policy may be what makes them."""
        return f"data/{'pairs' if self.data == 'preference' else self.data}"

    @property
    def config(self) -> str:
        return self.trainer.replace("Trainer", "Config")


STAGES = {
    "sft": Stage(
        title="Supervised fine-tuning",
        trainer="SFTTrainer",
        data="sft",
        tracked={
            "loss": "train_loss",
            "mean_token_accuracy": "train_token_accuracy",
            "eval_loss": "loss",
            "eval_mean_token_accuracy": "token_accuracy",
        },
    ),
    "reward": Stage(
        title="Reward model",
        trainer="RewardTrainer",
        data="preference",
        tracked={
            "loss": "train_loss",
            "accuracy": "train_accuracy",
            "eval_loss": "loss",
            "eval_accuracy": "accuracy",
            "eval_margin": "margin",
        },
        sides=2,
        answers=False,
    ),
    "dpo": Stage(
        title="Direct preference optimization",
        trainer="DPOTrainer",
        data="preference",
        tracked={
            "loss": "train_loss",
            "rewards/accuracies": "train_accuracy",
            "eval_loss": "loss",
            "eval_rewards/accuracies": "accuracy",
            "eval_rewards/margins": "margin",
            "eval_logps/chosen": "chosen_logp",
            "eval_logps/rejected": "rejected_logp",
        },
        sides=2,
        reference=True,
    ),
    "grpo": Stage(
        title="Group relative policy optimization",
        trainer="GRPOTrainer",
        data="prompts",
        tracked={
            "reward": "train_reward",
            "rewards/*/mean": "train_*",
            "completions/mean_length": "train_tokens",
            "completions/clipped_ratio": "train_cut_off",
            "entropy": "train_entropy",
            "repetition": "train_repetition",
            "frac_reward_zero_std": "1-groups_with_signal",
            "signal/*": "signal_*",
            "eval_reward": "reward",
            "eval_rewards/*/mean": "*",
        },
        averaged=("groups_with_signal", "signal_*"),
        models={"init": "ForCausalLM", "reward_model": "ForSequenceClassification"},
        generates=True,
    ),
}
