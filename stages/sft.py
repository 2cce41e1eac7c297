"""Supervised fine-tuning: the base model learns to answer.

    models/base + data/sft -> models/sft

The loss covers the assistant's tokens alone.
"""

from __future__ import annotations

import trl

from llmrl import answers, models, training


def trainer(run: training.Run, init: str) -> trl.SFTTrainer:
    """TRL's trainer on the model in the folder `init`."""
    return trl.SFTTrainer(
        model=models.load_policy(init, run.loading),
        args=trl.SFTConfig(**run.arguments, assistant_only_loss=True),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=run.callbacks,
    )


STAGE = training.Stage(
    name="sft",
    trainer=trainer,
    data="data/sft",
    kinds={"init": "ForCausalLM"},
    tracked={
        "loss": "train_loss",
        "mean_token_accuracy": "train_token_accuracy",
        "eval_loss": "loss",
        "eval_mean_token_accuracy": "token_accuracy",
    },
    measure=answers.measure,
)

if __name__ == "__main__":
    training.main(STAGE)
