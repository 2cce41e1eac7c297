"""Reward model: a copy of the policy learns to score the better of two answers higher (Bradley-Terry).

models/sft + data/pairs -> models/reward
"""

from __future__ import annotations

import trl

from llmrl.models import loading
from llmrl.training.run import Run


def trainer(run: Run, init: str) -> trl.RewardTrainer:
    """TRL's trainer on the model in the folder `init`."""
    return trl.RewardTrainer(
        model=loading.load_classifier(init, run.settings.own.seed, run.loading),
        args=trl.RewardConfig(**run.arguments),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("SEQ_CLS"),
        callbacks=run.callbacks,
    )


if __name__ == "__main__":
    from llmrl import stage

    stage.main("reward", trainer)
