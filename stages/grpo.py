"""Group relative policy optimization: the policy practises, and what scores above its group's mean is reinforced.

    models/dpo + models/reward + data/prompts -> models/grpo

The rewards are functions of llmrl/rewards.py and the trained reward model, by weight. https://arxiv.org/abs/2402.03300
"""

from __future__ import annotations

from functools import partial

import trl

from llmrl import rewards
from llmrl.answers import generation
from llmrl.models import loading
from llmrl.training import rows
from llmrl.training.reward_functions import checked
from llmrl.training.run import Run


def trainer(run: Run, init: str) -> trl.GRPOTrainer:
    """TRL's trainer on the model in the folder `init`."""
    own, machine = run.settings.own, run.hardware
    judge = loading.load_classifier(own.reward_model, own.seed, run.asked)
    judge.config.name_or_path = "reward_model"  # TRL calls its scores by this
    length = run.settings.option("max_completion_length")
    given = {"marks": run.settings.answers.marks, "max_completion_length": length}
    columns, ours = rows.extra_columns(), [name for name in own.rewards if name != "reward_model"]
    functions = {name: checked(getattr(rewards, name), columns, **given) for name in ours}
    return trl.GRPOTrainer(
        model=loading.load_policy(init, run.loading),
        reward_funcs=[functions.get(name, judge) for name in own.rewards],
        reward_processing_classes=[run.tokenizer if name == "reward_model" else None for name in own.rewards],
        args=trl.GRPOConfig(
            **run.arguments,
            reward_weights=[float(weight) for weight in own.rewards.values()],
            log_completions=True,  # as Parquet in the run's folder
            num_completions_to_print=0,
        ),
        train_dataset=run.train_rows,
        eval_dataset=run.eval_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=run.callbacks,
        rollout_func=(
            None if run.settings.trl.get("use_vllm") else partial(generation.rollout, machine.answers, machine.engine)
        ),
    )


if __name__ == "__main__":
    from llmrl import stage

    stage.main("grpo", trainer)
