"""Supervised fine-tuning: the base model learns to answer.

    models/base + data/sft -> models/sft

The loss covers the assistant's tokens alone: of all its turns, or as sft.loss_on and the data say.
"""

from __future__ import annotations

import trl

from llmrl.models import loading
from llmrl.training.run import Run


def trainer(run: Run, init: str) -> trl.SFTTrainer:
    """TRL's trainer on the model in the folder `init`."""
    tokenised = "labels" in run.train_rows.column_names
    assert tokenised == ("labels" in run.eval_rows.column_names)
    return trl.SFTTrainer(
        model=loading.load_policy(init, run.loading),
        args=trl.SFTConfig(**run.arguments, assistant_only_loss=not tokenised),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=run.callbacks,
    )


if __name__ == "__main__":
    from llmrl import stage

    stage.main("sft", trainer)
