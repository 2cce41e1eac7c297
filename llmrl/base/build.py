"""What models/base is made of a model: tokenizer, chat template, pad and end-of-turn tokens made right, once.

The chat template gets generation marks, or is given where there is none; the end-of-turn token is the one with which
the template ends an assistant's turn; the pad token is another. Config, generation config and tokenizer name the same.
Of a model of text and images the text model is taken.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import transformers

from llmrl.base import templates
from llmrl.base.sampling import generation_config
from llmrl.base.text_model import text_config_of, write_text_model
from llmrl.errors import InputError
from llmrl.folders import architecture, gives_score, is_kind
from llmrl.models.loading import load_tokenizer

# Tokens that models have and never write, the likeliest first.
PADDING = (
    "<pad>",
    "<|pad|>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<unk>",
)
# What loading from a folder leaves in a tokenizer's config: it would differ between the first and a later saving.
PASSING = ("is_local", "local_files_only", "name_or_path")


def make_base(source: str, out: Path, switches: dict[str, Any] | None = None) -> str:
    """Write the base model into the folder `out`, its chat template with these switches as defaults, and tell what was
    made of it.

    Raises InputError where it cannot be trained on.
    """
    causal = is_kind(found := architecture(source), "ForCausalLM")
    config = json.loads((Path(source) / "config.json").read_text()) if causal else text_config_of(source, found)
    text_config = config.get("text_config", config)  # some hold another for their text
    tokenizer = whole_tokenizer(source)
    before = tokenizer.chat_template
    complete(tokenizer, text_config["vocab_size"], source, switches)
    sampling, changes = generation_config(source, text_config, tokenizer)
    left_out = ""
    if causal:
        for kind in ("*.safetensors", "*.safetensors.index.json"):  # no more: `dvc add` leaves a file of that beginning
            for file in Path(source).glob(kind):
                shutil.copyfile(file, out / file.name)
    else:
        left_out = f", {write_text_model(source, out, tokenizer)}"
        config = text_config = json.loads((out / "config.json").read_text())
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config |= ids
    text_config |= ids
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    sampling.save_pretrained(out)
    tokenizer.save_pretrained(out)
    settings = out / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(settings.read_text()).items() if name not in PASSING}
    settings.write_text(json.dumps(kept, indent=2) + "\n")
    template = "given generation marks" if before else "none, so it was given one"
    if isinstance(before, str) and tokenizer.chat_template == templates.with_defaults(before, switches or {}):
        template = "as it came"
    if switches:
        template += f", with {json.dumps(switches, ensure_ascii=False)}"
    said = (
        f"models/base: {config['architectures'][0]}{left_out}; chat template: {template}; "
        f"a turn ends with {tokenizer.eos_token}, padding is {tokenizer.pad_token}"
    )
    if changes:
        said += f"\nits generation config: {changes}"
    if not gives_score(str(out)):
        said += (
            "\nno reward model can be made of it: transformers has no class for that; sft and dpo train on it, and "
            "grpo with another reward model (docs/models.md)"
        )
    return said


def whole_tokenizer(source: str) -> transformers.PreTrainedTokenizerBase:
    """A model's tokenizer. Raises InputError where its files are missing or not whole."""
    try:
        tokenizer = load_tokenizer(source)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what transformers makes of no files
            raise ValueError("it has special tokens alone")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source} has no whole tokenizer ({str(error).partition(chr(10))[0]}): tokenizer.json and "
            "tokenizer_config.json must lie there, as `save_pretrained` writes them."
        ) from None
    if (
        tokenizer.is_fast
        and tokenizer.clean_up_tokenization_spaces
        and type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    ):
        # Of byte pairs in Rust transformers leaves the spaces as they are, whatever is set, and warns of it in each
        # process. A tokenizer in Python does what is set.
        tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def complete(
    tokenizer: transformers.PreTrainedTokenizerBase, size: int, source: str, switches: dict[str, Any] | None = None
) -> None:
    """Give the tokenizer of a model of `size` tokens what training needs: turns that can be told apart, and that end.

    Raises InputError where that cannot be.
    """
    if len(tokenizer) > size:
        raise InputError(f"{source}: its tokenizer has {len(tokenizer)} tokens, more than the model's {size}.")
    tokenizer.chat_template = templates.with_marks(tokenizer, source, switches)
    if (end := templates.end_of_turn(tokenizer, source)) != tokenizer.eos_token:
        tokenizer.add_special_tokens({"eos_token": end})
    if tokenizer.pad_token is None or tokenizer.pad_token == end:
        # One that no text has: were it the end-of-turn token, the model would never learn to end.
        used = end + templates.written(tokenizer, templates.CHAT)
        spare = [token for token in PADDING if token in tokenizer.get_added_vocab() and token not in used]
        if not spare and len(tokenizer) == size:  # many models have more embeddings than tokens, and so room for one
            raise InputError(
                f"{source}: its pad token ({tokenizer.pad_token!r}) must be set and differ from its end-of-turn token "
                f"({end!r}), and its vocabulary has none to spare; docs/models.md says how to add one."
            )
        tokenizer.add_special_tokens({"pad_token": (spare or PADDING)[0]})
