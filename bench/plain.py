"""One stage's training as a plain TRL script would do it: `python -m bench.plain sft ARGUMENTS.json`.

ARGUMENTS.json holds `config` (of the TRL config), `init`, `data`, and for grpo `reward_model` and `rewards`. Prints the
seconds of its evaluation before training, and the logs, which tell those of the training loop, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import datasets
import torch
import transformers
import trl

from llmrl import rewards

stage, arguments = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
torch.set_num_threads(arguments["threads"])
torch.backends.cuda.enable_cudnn_sdp(False)  # as llmrl/training/hardware.py says
datasets.disable_progress_bars()
rows = {side: datasets.Dataset.from_parquet(f"{arguments['data']}/{side}.parquet") for side in ("train", "eval")}
rows["eval"] = rows["eval"].select(range(min(len(rows["eval"]), arguments["eval_rows"] or len(rows["eval"]))))
tokenizer = transformers.AutoTokenizer.from_pretrained(arguments["init"])
common = {"train_dataset": rows["train"], "eval_dataset": rows["eval"], "processing_class": tokenizer}


def policy() -> transformers.PreTrainedModel:
    """The model the stage starts from."""
    return transformers.AutoModelForCausalLM.from_pretrained(arguments["init"], dtype="float32")


def classifier(folder: str) -> transformers.PreTrainedModel:
    """A reward model, with a new head where the folder's has none."""
    transformers.set_seed(arguments["config"]["seed"])
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype="float32")


if stage == "sft":
    trainer = trl.SFTTrainer(policy(), trl.SFTConfig(**arguments["config"], assistant_only_loss=True), **common)
elif stage == "reward":
    trainer = trl.RewardTrainer(classifier(arguments["init"]), trl.RewardConfig(**arguments["config"]), **common)
elif stage == "dpo":
    trainer = trl.DPOTrainer(policy(), policy(), trl.DPOConfig(**arguments["config"]), **common)
else:
    judge = classifier(arguments["reward_model"])
    names = arguments["rewards"]
    trainer = trl.GRPOTrainer(
        policy(),
        [judge if name == "reward_model" else getattr(rewards, name) for name in names],
        trl.GRPOConfig(**arguments["config"], reward_weights=list(names.values())),
        reward_processing_classes=[tokenizer if name == "reward_model" else None for name in names],
        **common,
    )
begun = time.monotonic()
trainer.evaluate()
evaluated = time.monotonic() - begun
trainer.train()
trainer.save_model(arguments["config"]["output_dir"] + "/model")
print(json.dumps({"evaluation": evaluated, "logs": trainer.state.log_history}))
