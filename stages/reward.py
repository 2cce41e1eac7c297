"""Reward model: a copy of the policy learns to score the better of two answers higher (Bradley-Terry).

models/sft + data/preference -> models/reward
"""

from __future__ import annotations

import trl

from llmrl import models, training


def trainer(run: training.Run, init: str) -> trl.RewardTrainer:
    """TRL's trainer on the model in the folder `init`."""
    return trl.RewardTrainer(
        model=models.load_classifier(init, run.settings.own.seed, run.loading),
        args=trl.RewardConfig(**run.arguments),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("SEQ_CLS"),
        callbacks=run.callbacks,
    )


STAGE = training.Stage(
    name="reward",
    trainer=trainer,
    data="data/preference",
    kinds={"init": "ForCausalLM"},
    tracked={
        "loss": "train_loss",
        "accuracy": "train_accuracy",
        "eval_loss": "loss",
        "eval_accuracy": "accuracy",
        "eval_margin": "margin",
    },
)

if __name__ == "__main__":
    training.main(STAGE)
