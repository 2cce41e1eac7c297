"""Saving what a stage made: the same bytes for the same weights, a model that is whole without its adapter."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.models import DTYPES
from llmrl.models.loading import LOADING

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from llmrl.training.settings import Lora

# What a stage writes anew; everything else in a model's folder belongs to its tokenizer, which no stage changes.
WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


def save(
    model: PreTrainedModel | PeftModel, init: str, out: Path, records: dict[str, Any], lora: Lora | None = None
) -> None:
    """Write a model that came from the folder `init` into `out`, with records beside it by the names of their files:
    the same bytes for the same weights.

    An adapter is merged, so that the model is whole without it, and kept in adapter/.
    """
    if lora is not None:
        model = merged(model, init, out / "adapter", lora)
    model.save_pretrained(str(out))
    for file in Path(init).iterdir():
        if file.is_file() and not any(file.match(pattern) for pattern in (*WEIGHTS, *records)):
            shutil.copyfile(file, out / file.name)
    for name, record in records.items():
        (out / name).write_text(json.dumps(record, indent=2) + "\n")


def merged(model: PeftModel, init: str, out: Path, lora: Lora) -> PreTrainedModel:
    """The sum of a model's weights and its adapter, which is written into `out`, with its config."""
    import torch
    from peft import PeftModel

    model.save_pretrained(str(out))
    (out / "README.md").unlink()  # a form to fill in
    file = out / "adapter_config.json"
    # PEFT writes its sets in the order that this process has them.
    values = {name: sorted(v) if isinstance(v, list) else v for name, v in json.loads(file.read_text()).items()}
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    if lora.load_in_4bit:  # on the weights of `init` as they are
        quantised: Any = model.get_base_model()
        config = copy.deepcopy(quantised.config)
        del config.quantization_config
        whole = type(quantised).from_pretrained(init, config=config, **LOADING)
        if whole.can_generate():  # a classifier does not, and its head comes with the adapter
            whole.generation_config = quantised.generation_config
        model = PeftModel.from_pretrained(whole, str(out), torch_device="cpu")
    model = model.merge_and_unload(progressbar=True)  # in float32, in which all models are loaded
    return model.to(dtype=getattr(torch, lora.merge))


def left_by_rounding(model: PeftModel, precision: str) -> float | None:
    """The share of what adapters add to matrices that is left where the sums are rounded to a precision: how far they
    then move along what was added, 1 where nothing is lost. None where nothing is added, or matrices are in 4 bit.
    """
    import torch
    from peft.tuners.lora import Linear

    moved = asked = 0.0
    for layer in (one for one in model.modules() if isinstance(one, Linear)):
        base: Any = layer.get_base_layer()
        weights = base.weight.detach()
        (adapter,) = layer.active_adapters
        added = layer.get_delta_weight(adapter).detach()
        rounded = (weights + added).to(getattr(torch, DTYPES[precision])).float()
        moved += float(((rounded - weights) * added).sum())
        asked += float((added * added).sum())
    return moved / asked if asked else None
