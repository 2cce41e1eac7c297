"""Model folders as a user may have them: refused, in one message, where they hold no model that can be used here."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from llmrl.errors import InputError

# What makes a folder whole.
MENDED = (
    "`dvc repro` brings back what it made; a model of your own must be put there whole, its weights as safetensors."
)

PROVENANCE = "provenance.json"  # what a model was made from
TRAINING = "training.json"  # and what was seen of its training
# Classes of a kind that are not called so.
ALSO = {"ForCausalLM": ("GPT2LMHeadModel",)}


def architecture(name: str) -> str:
    """The architecture named in a model folder's config. Raises InputError where there is no whole model, by what each
    of its files says it holds.
    """
    folder = Path(name)
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{name} is not a model's folder: {error}. {MENDED}") from None
    if "auto_map" in config:
        raise InputError(
            f"{name} brings its own code (auto_map in its config.json), which is never run: use a model that "
            "transformers has, and remove auto_map where it only names such a one."
        )
    files = sorted(folder.glob("*.safetensors"))
    file = folder / "model.safetensors.index.json"
    try:
        if file.exists():
            files = [folder / part for part in sorted(set(json.loads(file.read_text())["weight_map"].values()))]
        if not files:
            raise InputError(f"{folder} has no weights (*.safetensors). {MENDED}")
        for file in files:
            with safe_open(file, framework="np"):
                pass
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{file} is missing or not whole: {error}. {MENDED}") from None
    return str((config.get("architectures") or ["?"])[0])


def check_kind(folder: str, kind: str, setting: str) -> None:
    """Raise InputError where `folder`, named by `setting`, holds no model of `kind` (a class name's ending)."""
    if not is_kind(found := architecture(folder), kind):
        raise InputError(f"params.yaml: {setting}: {folder} holds a {found}; a model …{kind} is needed here.")


def gives_score(folder: str) -> bool:
    """Whether a reward model can be made of the model in a folder: not of every causal model has transformers a class
    that gives it a score, and not in each is the head called so.
    """
    import torch
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return False
    kind = transformers.AutoModelForSequenceClassification
    with torch.device("meta"):
        return hasattr(kind.from_config(config, attn_implementation="eager"), "score")


def is_kind(architecture: str, kind: str) -> bool:
    return architecture.endswith((kind, *ALSO.get(kind, ())))
