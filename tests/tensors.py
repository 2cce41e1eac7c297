"""Models of known shapes, and the bytes of the tensors that live while one is trained."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from small import ROOT, run, settings
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from bench import inputs
from llmrl.memory import formula
from llmrl.memory.formula import Planned
from llmrl.memory.shape import Shape
from llmrl.training import loop
from llmrl.training.settings import Lora

BUILT_IN = json.loads((ROOT / "models/tiny/config.json").read_text())
QWEN, SMOLLM2 = inputs.MODELS["qwen2.5-0.5b"], inputs.MODELS["smollm2-135m"]
SMALL = QWEN | {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
KINDS = {
    "sft": (trl.SFTTrainer, trl.SFTConfig, transformers.AutoModelForCausalLM, "CAUSAL_LM"),
    "reward": (trl.RewardTrainer, trl.RewardConfig, transformers.AutoModelForSequenceClassification, "SEQ_CLS"),
    "dpo": (trl.DPOTrainer, trl.DPOConfig, transformers.AutoModelForCausalLM, "CAUSAL_LM"),
}


def config(values: dict) -> transformers.PretrainedConfig:
    return transformers.AutoConfig.for_model(**values)


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it and still live, and their most."""

    def __init__(self, *before: torch.Tensor) -> None:
        super().__init__()
        self.live = self.most = 0
        self.sizes: dict[int, int] = {}
        self.before = [tensor.untyped_storage() for tensor in before]
        self.known = {id(storage) for storage in self.before}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self.sizes and id(storage) not in self.known:
                    self.sizes[id(storage)] = storage.nbytes()
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self.freed, id(storage))
        self.most = max(self.most, self.live)
        return made

    def freed(self, number: int) -> None:
        self.live -= self.sizes.pop(number)


def size(tensors: Iterable[object]) -> int:
    """The bytes of tensors, of which several may be the same."""
    storages = (one.untyped_storage() for one in tensors if torch.is_tensor(one))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def weights(model: torch.nn.Module) -> Iterable[object]:
    """Parameters, and what those in 4 bit are decoded by."""
    for parameter in model.parameters():
        yield parameter.data
        for state in filter(None, (getattr(parameter, "quant_state", None),)):
            yield from (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)


def whole_training(
    folder: Path, stage: str, lora: dict[str, Any] | None, precision: str, checkpointing: bool
) -> tuple[int, int]:
    """The bytes at the worst moment of TRL's trainer: as the formula has them, and of the tensors that live."""
    torch.manual_seed(1)
    values = SMALL | {"vocab_size": 5_000, "hidden_size": 256, "intermediate_size": 1024, "num_labels": 1}
    kind, configuration, auto, task = KINDS[stage]
    options = {"max_length": 128, "gradient_checkpointing": checkpointing, "eval_strategy": "no"}
    own = {"lora": lora and Lora(**lora), "batch": 4, "micro_batch": 2}
    long = list(range(5, 133))
    row = {
        "sft": {"input_ids": long, "labels": long},
        "reward": {"chosen_ids": long, "rejected_ids": long},
        "dpo": {"prompt": "1 + 2 = ", "chosen": "1 + 2 = 3. " * 50, "rejected": "3" * 500},  # cut at max_length
    }[stage]
    one = run(folder, settings(stage, own, optim="adamw_torch", max_steps=2, **options), [row] * 8, precision)
    auto.from_config(config(values), dtype=torch.float32).save_pretrained(folder / "model")
    reference = one.asked.load(auto, str(folder / "model")) if stage == "dpo" and not lora else None

    def build(one: Any, init: str) -> transformers.Trainer:
        return kind(
            model=one.loading.load(auto, init),
            args=configuration(**one.arguments),
            train_dataset=one.train_rows,
            processing_class=one.tokenizer,
            peft_config=one.lora(task),
            **({"ref_model": reference} if reference else {}),
        )

    trainer = loop.constructed(build, one, str(folder / "model"))
    held = [*weights(trainer.model), *(reference.parameters() if reference else ())]
    with Live(*held) as live:
        trainer.train()
    planned = Planned(Shape.of(values), one.settings, precision)
    worst = max(sum(parts.values()) for parts in formula.step(planned).values())
    return worst, live.most + size(held)
