"""What a stage holds while it trains, as JSON: `python -m tests.four_bit sft` in a clone, with its settings.

A process of its own, as transformers looks once whether bitsandbytes is there.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers

from llmrl import params, training


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


def matrices(model: torch.nn.Module) -> dict[str, int]:
    """The modules of a decoder's layers that multiply, by their class, and how many: adapters are within others."""
    found = (module for name, module in model.named_modules() if name.removesuffix(".base_layer").endswith("_proj"))
    return Counter(type(one).__name__ for one in found if not hasattr(one, "base_layer"))


class Look(transformers.TrainerCallback):
    """Notes the bytes of the gradients."""

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.gradients = size(one.grad for one in model.parameters())


def main(name: str) -> None:
    """Train one stage of the clone, but for its figures and its product."""
    stage, settings = importlib.import_module(f"stages.{name}").STAGE, params.stage(name)
    with tempfile.TemporaryDirectory() as folder:
        run, _ = training.prepared(stage, settings, SimpleNamespace(id="run", path=Path(folder)))
        look = Look()
        work = training.Work(stage, replace(run, callbacks=[look]), None, None, None, None)
        trainer = work.trainer(work.run, settings.own.init)
        trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    trained = [one for one in trainer.model.parameters() if one.requires_grad]
    found = {
        "matrices": matrices(trainer.model),
        "reward model": [matrices(judge) for judge in getattr(trainer, "reward_funcs", []) if hasattr(judge, "config")],
        "trained": sorted({str(one.dtype) for one in trained}),
        "held": {
            "weights": size(weights(trainer.model)),
            "gradients": look.gradients,
            "optimizer states": size(states),
        },
        "expected": run.memory.step()["update"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
