"""Direct preference optimization: the policy learns from pairs which answer to prefer.

    models/sft + data/preference -> models/dpo

The reference is the model it starts from. https://arxiv.org/abs/2305.18290
"""

from __future__ import annotations

import trl

from llmrl import answers, models, training


def trainer(run: training.Run, init: str) -> trl.DPOTrainer:
    """TRL's trainer on the model in the folder `init`."""
    start, precomputed = run.settings.own.init, run.settings.trl.get("precompute_ref_log_probs")
    # The reference, where adapters are trained, is the model with these off; where its log-probabilities are computed
    # beforehand, the model that has not been trained yet.
    itself = run.settings.lora or (precomputed and init == start)
    return trl.DPOTrainer(
        model=models.load_policy(init, run.loading),
        ref_model=None if itself else models.load_policy(start, run.asked),
        args=trl.DPOConfig(**run.arguments),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=run.callbacks,
    )


STAGE = training.Stage(
    name="dpo",
    trainer=trainer,
    data="data/preference",
    kinds={"init": "ForCausalLM"},
    tracked={
        "loss": "train_loss",
        "rewards/accuracies": "train_accuracy",
        "eval_loss": "loss",
        "eval_rewards/accuracies": "accuracy",
        "eval_rewards/margins": "margin",
        "eval_logps/chosen": "chosen_logp",
        "eval_logps/rejected": "rejected_logp",
    },
    measure=answers.measure,
)

if __name__ == "__main__":
    training.main(STAGE)
