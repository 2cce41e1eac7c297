"""Models as the Hub has them, but narrow and with random weights: special tokens, template, vocabulary size are theirs.

    qwen2    Qwen2.5-0.5B     a template without marks; ends a text, and pads, with <|endoftext|>
    llama    SmolLM2-135M     no template, no pad token; its only named token is <|endoftext|>
    gemma    Gemma            a template without marks and without system turns; in no profile, so of few tokens
    gemma3   Gemma 3          the same, and it sees: a model of text and images, whose text model is taken

The words of the tokenizers are learned here, from the built-in task.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers, trainers
from trl import chat_template_utils as trl_templates

from models import recipe as tiny

NARROW = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QWEN = {
    "unk_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "extra_special_tokens": ["<|im_start|>", "<|im_end|>"],
    # The base model greets with less than the Instruct model, whose template is the one that TRL knows.
    "chat_template": trl_templates.qwen2_5_chat_template.replace(QWEN_SYSTEM, "You are a helpful assistant."),
}
SMOLLM2 = {
    "unk_token": "<|endoftext|>",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "extra_special_tokens": ["<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"],
}
GEMMA = {
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "bos_token": "<bos>",
    "unk_token": "<unk>",
    "extra_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
    "chat_template": trl_templates.gemma_chat_template,
}
ARCHITECTURES = ("qwen2", "llama", "gemma", "gemma3")
PROFILE = {"qwen2": "qwen2.5-0.5b", "llama": "smollm2-135m", "gemma": "smollm2-135m", "gemma3": "smollm2-135m"}
VOCABULARY = {"qwen2": 151_936, "llama": 49_152, "gemma": 1_024, "gemma3": 1_024}
FEW = 1_024  # where many are trained on for long: of Qwen's, all four stages took four minutes of a core
SEEING = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SEEING |= {"image_size": 28, "patch_size": 14}
# As the makers of Gemma 3 have it sampled, and end: with the text, or with the turn.
GEMMA3_SAMPLED = {"do_sample": True, "top_k": 64, "top_p": 0.95}
GEMMA3_ENDS = ("<eos>", "<end_of_turn>")


def make(architecture: str, folder: Path, vocabulary: int | None = None) -> None:
    """Write the model into a folder, as its makers would, but for the size of its vocabulary if that is given."""
    torch.manual_seed(0)
    size = {"vocab_size": vocabulary or VOCABULARY[architecture]}
    model: Any
    if architecture == "qwen2":
        tokenizer = learned(transformers.Qwen2Tokenizer, **QWEN)
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**NARROW, **size))
    elif architecture == "llama":
        tokenizer = learned(transformers.GPT2Tokenizer, **SMOLLM2)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**NARROW, **size))
    elif architecture == "gemma":
        tokenizer = learned(transformers.GemmaTokenizer, **GEMMA)
        model = transformers.GemmaForCausalLM(transformers.GemmaConfig(**NARROW, **size))
    else:
        tokenizer = learned(transformers.GemmaTokenizer, **GEMMA)
        layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 256}
        config = transformers.Gemma3Config(
            text_config=NARROW | size | layers, vision_config=SEEING, mm_tokens_per_image=4, image_token_index=1_000
        )
        model = transformers.Gemma3ForConditionalGeneration(config)
    model.config.bos_token_id, model.config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    model.generation_config = transformers.GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    if architecture == "gemma3":
        ends = tokenizer.convert_tokens_to_ids(GEMMA3_ENDS)
        model.generation_config = transformers.GenerationConfig(**GEMMA3_SAMPLED, eos_token_id=ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def learned(cls: type, extra_special_tokens: list[str], chat_template: str | None = None, **named: str) -> Any:
    """A tokenizer whose words come from the built-in task; learned through its class, which splits in its own way."""
    tokens = list(dict.fromkeys([*named.values(), *extra_special_tokens]))
    learner = cls(vocab=None, merges=None, **named).backend_tokenizer
    words = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=tokens,
        initial_alphabet=byte_letters() if learner.pre_tokenizer and "Byte" in repr(learner.pre_tokenizer) else [],
        show_progress=False,
    )
    learner.train_from_iterator(islice(tiny.chat_texts(rows=500), 4000), words)
    model = json.loads(learner.to_str())["model"]
    return cls(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        extra_special_tokens=extra_special_tokens,
        chat_template=chat_template,
        **named,
    )


def byte_letters() -> list[str]:
    """The 256 bytes as the letters in which byte-level tokenizers write them."""
    return pre_tokenizers.ByteLevel.alphabet()
