"""Model folders: their kind, loading them to train or to measure, and saving what a stage made.

A folder of models/ is whole by itself and loads with plain `from_pretrained`: weights (safetensors), config,
generation config, tokenizer, chat template, and from the second on `provenance.json`.
"""

from __future__ import annotations

import copy
import json
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from safetensors import SafetensorError, safe_open

from llmrl import repository
from llmrl.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llmrl.sections import Lora

# What decides the bytes of a model beside its inputs and settings.
LIBRARIES = (
    "accelerate",
    "datasets",
    *(("liger-kernel",) if sys.platform == "linux" else ()),  # as in pyproject.toml
    "math-verify",
    "numpy",
    "peft",
    "sympy",  # by which math-verify compares
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)
# What a stage writes anew; everything else in a model's folder belongs to its tokenizer, which no stage changes.
OWN_FILES = ("config.json", "generation_config.json", "provenance.json", "*.safetensors", "*.safetensors.index.json")

# Safetensors alone, as a pickle runs what is in it; a model's own code never; nothing from the network.
LOADING = {"dtype": "float32", "local_files_only": True, "use_safetensors": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Loading:
    """How a model is brought into memory: with which attention, by transformers' name (None: the model's own choice),
    whether Liger's kernels compute its layers, and whether the matrices of these are kept in 4 bit, to be multiplied in
    the type `four_bit`, or, of a model that is not trained, in the type `frozen`.
    """

    attention: str | None = None
    liger: bool = False
    four_bit: str | None = None  # float32 | bfloat16 | float16
    frozen: str | None = None  # likewise

    def load(self, kind: Any, folder: str, **more: Any) -> PreTrainedModel:
        """The model of a folder, in float32 but for what is said; `kind` is one of transformers' Auto classes."""
        if self.four_bit:
            more["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.four_bit,
            )
        model = kind.from_pretrained(folder, attn_implementation=self.attention, **LOADING, **more)
        if self.four_bit:
            for module in model.modules():
                # On such a CPU the first evaluation would arrange the weights anew, so that no gradient passes them.
                if hasattr(module, "support_avx512bf16_for_cpu"):
                    module.support_avx512bf16_for_cpu = False
        if self.liger:
            from liger_kernel.transformers import _apply_liger_kernel_to_instance

            # Norms, rotation and the feed-forward part; the head's loss is TRL's.
            _apply_liger_kernel_to_instance(model, cross_entropy=False, fused_linear_cross_entropy=False)
        if self.frozen:
            freeze(model, self.frozen)
        return model


PLAIN = Loading()


def freeze(model: PreTrainedModel, dtype: str) -> None:
    """Have a model not be trained, and its layers' matrices be of the type they are multiplied in, by torch's name of
    it: the same products of half the bytes.
    """
    import torch

    model.requires_grad_(False)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(getattr(torch, dtype))


def architecture(folder: str) -> str:
    """The architecture named in a model folder's config. Raises InputError where there is no whole model."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is not a model's folder: {error}. `dvc repro` makes what is missing.") from None
    if "auto_map" in config:
        raise InputError(
            f"{folder} brings its own code (auto_map in its config.json), which is never run: use a model that "
            "transformers has, and remove auto_map where it only names such a one."
        )
    check_weights(Path(folder))
    return str((config.get("architectures") or ["?"])[0])


def check_weights(folder: Path) -> None:
    """Raise InputError where a model's weights are missing or not whole, by what each file says it holds."""
    files = sorted(folder.glob("*.safetensors"))
    file = folder / "model.safetensors.index.json"
    try:
        if file.exists():
            files = [folder / name for name in sorted(set(json.loads(file.read_text())["weight_map"].values()))]
        if not files:
            raise InputError(f"{folder} has no weights (*.safetensors). `dvc repro` or `dvc pull` brings them.")
        for file in files:
            with safe_open(file, framework="np"):
                pass
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(
            f"{file} is missing or not whole: {error}. `dvc checkout {folder}` brings back what DVC has; "
            "a model of your own must be copied anew."
        ) from None


def check_kind(folder: str, kind: str, setting: str) -> None:
    """Raise InputError where `folder`, named by `setting`, holds no model of `kind` (a class name's ending)."""
    if not (found := architecture(folder)).endswith(kind):
        raise InputError(f"params.yaml: {setting}: {folder} holds a {found}; a model …{kind} is needed here.")


def is_product(folder: str) -> bool:
    """Whether a stage made the model, and so has measured it."""
    return (Path(folder) / "provenance.json").exists()


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder."""
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_policy(folder: str, how: Loading = PLAIN) -> PreTrainedModel:
    """A model that answers, in float32 but for what `how` says."""
    return how.load(transformers.AutoModelForCausalLM, folder)


def save_adapter(model: PeftModel, out: Path) -> None:
    """Write a model's adapter, with its config, into `out`: the same bytes for the same weights."""
    model.save_pretrained(str(out))
    (out / "README.md").unlink()  # a form to fill in
    config = out / "adapter_config.json"
    # PEFT writes its sets in the order that this process has them.
    values = {name: sorted(v) if isinstance(v, list) else v for name, v in json.loads(config.read_text()).items()}
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def keep_one_hook(model: PreTrainedModel) -> None:
    """Have a model that is to be trained with checkpointing keep the hooks that its embedding has.

    transformers adds one each time that checkpointing is switched on and removes none, and the trainers of DPO and GRPO
    switch it at every micro-batch: thousands of them, each called in every forward pass. TRL has set the one that is
    needed, of a model with adapters; where the embedding is trained none is.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.enable_input_require_grads = lambda: None


def keep_small_updates(model: PreTrainedModel) -> None:
    """Have all that is trained in float32: TRL makes the adapters of a model in 4 bit bfloat16, in which most updates
    of a small learning rate are rounded away.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def on_whole(model: PeftModel, init: str, adapter: Path) -> PeftModel:
    """The saved adapter of a model in 4 bit, on the weights of the folder `init` as they are."""
    from peft import PeftModel

    quantised: Any = model.get_base_model()
    config = copy.deepcopy(quantised.config)
    del config.quantization_config
    whole = type(quantised).from_pretrained(init, config=config, **LOADING)
    if whole.can_generate():  # a classifier does not, and its head comes with the adapter
        whole.generation_config = quantised.generation_config
    return PeftModel.from_pretrained(whole, str(adapter), torch_device="cpu")


def load_classifier(folder: str, seed: int, how: Loading = PLAIN) -> PreTrainedModel:
    """A model that gives one score, in float32 but for what `how` says; on a policy's body its head is new, drawn by
    `seed`.
    """
    transformers.set_seed(seed)
    model = how.load(transformers.AutoModelForSequenceClassification, folder, num_labels=1)
    score_in_float32(model)
    return model


def score_in_float32(model: PreTrainedModel) -> None:
    """Have a classifier's head compute in float32, whatever the precision of the rest, which would round two close
    scores to one. Its weights and their names are as before.
    """
    import torch

    class Head(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            with torch.autocast(states.device.type, enabled=False):
                return super().forward(states.float())

    model.score.__class__ = Head


def save(
    model: PreTrainedModel | PeftModel, init: str, out: Path, provenance: dict[str, Any], lora: Lora | None = None
) -> None:
    """Write a model that came from the folder `init` into `out`: the same bytes for the same weights.

    An adapter is merged, so that the model is whole without it, and kept in adapter/.
    """
    if lora is not None:
        import torch

        save_adapter(model, out / "adapter")
        if lora.load_in_4bit:
            model = on_whole(model, init, out / "adapter")
        model = model.merge_and_unload()  # in float32, in which all models are loaded
        model.to(dtype=getattr(torch, lora.merge))
    model.save_pretrained(str(out))
    for file in Path(init).iterdir():
        if file.is_file() and not any(file.match(pattern) for pattern in OWN_FILES):
            shutil.copyfile(file, out / file.name)
    (out / "provenance.json").write_text(json.dumps(provenance, indent=2, sort_keys=True) + "\n")


def provenance(
    settings: dict[str, Any], inputs: list[Path], code: list[Path], packages: Iterable[str] = ()
) -> dict[str, Any]:
    """What makes a model: resolved settings, versions of LIBRARIES and of `packages`, and the hashes of inputs and code
    as DVC has them.

    Raises InputError where an input is not what DVC recorded when it was made.
    """
    recorded = repository.recorded()
    hashes = {path: repository.digest(path) for path in (*inputs, *code)}
    for path in inputs:
        if hashes[path] != recorded.get(path, hashes[path]):
            raise InputError(
                f"{path} is not what dvc.lock recorded when it was made: somebody has changed it. "
                f"`dvc checkout {path}` brings it back, `dvc repro` makes it anew."
            )
    return {
        "settings": settings,
        "inputs": {str(path): hashes[path] for path in inputs},
        "code": {str(path): hashes[path] for path in code},
        "versions": versions(packages),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python, LIBRARIES and `packages`."""
    return {"python": platform.python_version(), **{name: version(name) for name in (*LIBRARIES, *packages)}}
