"""Makes models/base, where tokenizer, chat template, pad and end-of-turn tokens are made right, once.

builtin:tiny (models/tiny), raw (a user's own model in models/raw) or a repository of the Hub -> models/base

    python -m llmrl.base
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import transformers

from llmrl import models, params, sections
from llmrl.errors import InputError, reported

SOURCES = {"builtin:tiny": "models/tiny", "raw": "models/raw"}
HUB = Path("models/.hub")  # links into the Hub's cache, for as long as this runs
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What loading from a folder leaves in a tokenizer's config: it would differ between the first and a later saving.
PASSING = ("is_local", "local_files_only", "name_or_path")


def make(source: str, out: Path) -> None:
    """Write the base model into the folder `out`. Raises InputError where it cannot be trained on."""
    models.check_kind(source, "ForCausalLM", "model.source")
    tokenizer = models.load_tokenizer(source)
    check(tokenizer, source)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    for file in sorted(Path(source).glob("*.safetensors*")):
        shutil.copyfile(file, out / file.name)
    config = json.loads((Path(source) / "config.json").read_text()) | ids
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    transformers.GenerationConfig(**ids).save_pretrained(out)
    tokenizer.save_pretrained(out)
    settings = out / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(settings.read_text()).items() if name not in PASSING}
    settings.write_text(json.dumps(kept, indent=2) + "\n")


def check(tokenizer: transformers.PreTrainedTokenizerBase, source: str) -> None:
    """Raise InputError where turns could not be told apart, ended, or masked."""
    if not tokenizer.chat_template:
        raise InputError(f"{source}: its tokenizer has no chat template; add one as {source}/chat_template.jinja.")
    if not GENERATION.search(tokenizer.chat_template):
        raise InputError(
            f"{source}: its chat template has no {{% generation %}} … {{% endgeneration %}} around the assistant's "
            "text, so that the loss could not be limited to answers; add them."
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise InputError(
            f"{source}: its pad token ({tokenizer.pad_token!r}) must be set and differ from its end-of-turn token "
            f"({tokenizer.eos_token!r}), or the model never learns to end; set pad_token in tokenizer_config.json."
        )
    size = json.loads((Path(source) / "config.json").read_text())["vocab_size"]
    if len(tokenizer) > size:
        raise InputError(f"{source}: its tokenizer has {len(tokenizer)} tokens, more than the model's {size}.")


def folder(model: sections.Model) -> str:
    """The folder of the model that is named; a repository of the Hub is fetched into one below HUB."""
    if model.source in SOURCES:
        return SOURCES[model.source]
    from llmrl import hub

    hub.model(model.source, model.revision, HUB / model.source)
    return str(HUB / model.source)


def main() -> None:
    """Make models/base, whole or not at all."""
    unfinished, out = Path("models/.base"), Path("models/base")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        make(folder(params.model()), unfinished)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(HUB, ignore_errors=True)


if __name__ == "__main__":
    with reported():
        main()
