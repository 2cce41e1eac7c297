"""The text model of a model of text and images, written as a causal model of its own.

Such a model (Gemma 3, Qwen3.5; its class ends in ForConditionalGeneration) is a text model with parts beside it that
see. Which classes these are, and by which names each has its weights, transformers knows. What is written is loaded
again, and taken only where it computes what the whole did.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from llmrl.errors import InputError
from llmrl.models.loading import LOADING, load_policy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT = "What is 2 + 2?"  # on which both are compared
APART = 1e-3  # the share of the greatest logit by which they may differ


def text_config_of(source: str, found: str) -> dict[str, Any]:
    """The config of the text model in the folder `source`, whose class is `found`.

    Raises InputError where no causal model can be made of it.
    """
    said = f"params.yaml: model.source: {source} holds a {found}; a model …ForCausalLM is needed here"
    try:
        config = config_of(source)
    except ValueError as error:
        raise InputError(f"{said}. {str(error).splitlines()[0]}") from None
    if config.is_encoder_decoder:
        raise InputError(
            f"{said}: this is an encoder-decoder, which writes one text to another, where a causal model goes on."
        )
    if type(config) not in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise InputError(f"{said}, or one of text and images, whose text model would be taken.")
    text = config.get_text_config(decoder=True)
    if type(text) not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{said}: for its text model ({type(text).__name__}) transformers {transformers.__version__} has no such "
            "class."
        )
    if getattr(config, "quantization_config", None):
        raise InputError(f"{said}, or one of text and images in weights that are not quantised.")
    return text.to_dict()


def config_of(folder: str) -> Any:
    return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def write_text_model(source: str, out: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """Write the text model in the folder `source` into `out`, its weights as exactly as they are there, and tell how
    many parameters are left out.

    Raises InputError where what was written computes otherwise than the whole.
    """
    import torch

    config = config_of(source)
    text_config = config.get_text_config(decoder=True)
    precision = text_config.dtype or config.dtype or torch.float32
    kind = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(text_config)]
    prompt = torch.tensor([tokenizer(PROMPT)["input_ids"]])  # (1, tokens)
    with quiet():
        whole = load_whole(source)
        with torch.inference_mode():
            expected = whole(input_ids=prompt).logits  # (1, tokens, vocabulary)
        parameters = whole.num_parameters()
        text = taken_out(whole, kind)
        del whole
        gc.collect()
        for weights in text.parameters():
            if torch.equal(stored := weights.data.to(precision), weights.data):
                weights.data = stored
        text.save_pretrained(out)
        left = text.num_parameters()
        del text
        gc.collect()
        with torch.inference_mode():
            computed = load_policy(str(out))(input_ids=prompt).logits
    file = out / "config.json"
    written = json.loads(file.read_text()) | {"dtype": str(precision).removeprefix("torch.")}
    file.write_text(json.dumps(written, indent=2) + "\n")
    if not (computed - expected).abs().max() <= APART * expected.abs().max():
        raise InputError(
            f"{source}: its text model alone computes otherwise than the whole, so that it is not what was trained; "
            "use a model of text."
        )
    return f"its text model alone, without the other {parameters - left:,} of {parameters:,} parameters"


def load_whole(source: str) -> Any:
    """The model of text and images in a folder. Raises InputError where it is not whole, or cannot be loaded here."""
    kind = transformers.AutoModelForImageTextToText
    try:
        model, info = kind.from_pretrained(source, output_loading_info=True, **LOADING)
    except ImportError as error:  # what sees is another package's
        raise InputError(f"{source} cannot be loaded here: {' '.join(str(error).split())}") from None
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"{source} is not whole: {len(missing)} of its weights are missing, {missing[0]} first.")
    return model


def taken_out(whole: Any, kind: Any) -> Any:
    """The text model of a whole one, as a `kind`, with the weights of that."""
    import torch

    decoder = whole.get_decoder()
    if isinstance(decoder, kind):
        return decoder
    with torch.device("meta"):
        text = kind(decoder.config)
    setattr(text, text.base_model_prefix, decoder)
    text.set_output_embeddings(whole.get_output_embeddings())
    # As it is: the configs of whole and part may say two things.
    text.config.tie_word_embeddings = text.get_output_embeddings().weight is text.get_input_embeddings().weight
    text.generation_config = transformers.GenerationConfig()
    return text


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of transformers on the terminal: its report is of the weights that are left out."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
