"""What stays of how a model's makers had it sampled: its generation_config.json, with the tokens that are right now.

`generate` and servers go by it. Measuring and GRPO do not (llmrl/answers/generation.py), so that every model is asked
in one way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from llmrl.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "generation_config.json"
ABOUT_ITSELF = ("transformers_version", "_from_model_config", "_commit_hash")
WAYS = ("do_sample", "num_beams")  # which decide whether others count


def generation_config(
    source: str, config: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> tuple[GenerationConfig, str]:
    """The generation config for the model in the folder `source`, whose config says what no generation config does, and
    its tokenizer; and, in words, what was kept and what changed.

    A turn may end with any of the tokens that ended a text before, as long as these are no words. Raises InputError
    where the file is none.
    """
    file = Path(source) / FILE
    try:
        given = dict(json.loads(file.read_text())) if file.exists() else {"eos_token_id": config.get("eos_token_id")}
    except (ValueError, TypeError) as error:
        raise InputError(f"{file} is not the JSON it must be: {error}.") from None
    usual = GenerationConfig._get_default_generation_params()
    values = {
        name: value
        for name, value in sorted(given.items())
        if name not in ABOUT_ITSELF
        and value not in (usual.get(name), None)
        and not (value is False and name not in usual)
    }
    end, before = tokenizer.eos_token_id, values.get("eos_token_id", [])
    tokens = tokenizer.get_added_vocab().values()
    ends = [token for token in (before if isinstance(before, list) else [before]) if token in tokens]
    ends = ends if end in ends else [end, *ends]
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends if len(ends) > 1 else end,
        "pad_token_id": tokenizer.pad_token_id,
    }
    made, kept, without = GenerationConfig(**ids), {}, {}
    for name in sorted(values.keys() - ids.keys(), key=lambda name: (name not in WAYS, name)):
        usually = getattr(made, name, None)
        setattr(made, name, values[name])
        try:
            made.validate(strict=True)
            kept[name] = values[name]
        except (ValueError, TypeError, AttributeError):  # it does nothing, or is no such value: it could not be saved
            setattr(made, name, usually)
            without[name] = values[name]
    changed = {name: value for name, value in ids.items() if value != values.get(name)}
    said = [f"{worded(kept)} kept"] if kept else []
    said += [f"{worded({name: value})} (was {json.dumps(values.get(name))})" for name, value in changed.items()]
    said += [f"{worded(without)} left out, as they have no effect"] if without else []
    return made, "; ".join(said)


def worded(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in values.items())
