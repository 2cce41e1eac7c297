"""Direct preference optimization: the policy learns from pairs which answer to prefer.

    models/sft + data/pairs -> models/dpo

The reference is the model it starts from. https://arxiv.org/abs/2305.18290
"""

from __future__ import annotations

import trl

from llmrl.models import loading
from llmrl.training.run import Run


def trainer(run: Run, init: str) -> trl.DPOTrainer:
    """TRL's trainer on the model in the folder `init`."""
    start, precomputed = run.settings.own.init, run.settings.trl.get("precompute_ref_log_probs")
    # The reference, where adapters are trained, is the model with these off; where its log-probabilities are computed
    # beforehand, the model that has not been trained yet.
    itself = run.settings.own.lora or (precomputed and init == start)
    return trl.DPOTrainer(
        model=loading.load_policy(init, run.loading),
        ref_model=None if itself else loading.load_policy(start, run.reference),
        args=trl.DPOConfig(**run.arguments),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=run.callbacks,
    )


if __name__ == "__main__":
    from llmrl import stage

    stage.main("dpo", trainer)
