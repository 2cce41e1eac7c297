"""What a measurement reads: `python -m bench.inputs qwen2.5-0.5b` fills models/ and data/ of the folder it stands in.

The model has the shapes of the profile's, random weights and the built-in tokenizer; its vocabulary is the real one's,
as that decides memory. Every row is as long as the params.yaml of that folder admits.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.data.rows import Row
from llmrl.data.spool import SCHEMAS
from llmrl.data.turns import Turn
from llmrl.params import experiment
from llmrl.training.rows import lengths

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODELS = {
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
    },
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
}
NARROW = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
ROWS = {"train": 64, "eval": 64}
OTHER = str.maketrans("123456789", "987654321")  # an answer of other numbers, and as many tokens


def models(shape: dict, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    """models/base, and models/reward, which is the same body, on disk too, and a head."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = transformers.AutoConfig.for_model(**shape, **ids)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # random numbers are a GPU's to draw
        policy = transformers.AutoModelForCausalLM.from_config(config)
    policy.generation_config = transformers.GenerationConfig(
        pad_token_id=ids["pad_token_id"], eos_token_id=ids["eos_token_id"]
    )
    base, reward = root / "base", root / "reward"
    policy.save_pretrained(base, max_shard_size="10GB")
    body, head = dict.fromkeys(policy.base_model.state_dict(prefix="model."), "body.safetensors"), "head.safetensors"
    config.num_labels = 1
    config.architectures = [policy.config.architectures[0].replace("CausalLM", "SequenceClassification")]
    config.save_pretrained(reward)
    os.link(base / "model.safetensors", reward / "body.safetensors")
    save_file({"score.weight": 0.02 * torch.randn(1, config.hidden_size)}, reward / head, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": body | {"score.weight": head}}
    (reward / "model.safetensors.index.json").write_text(json.dumps(index))
    for folder in (base, reward):
        tokenizer.save_pretrained(folder)


def rows(limits: dict[str, int], tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    """The three data sets, of rows of so many tokens: of digits, each of which is a token."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def asked(text: str) -> list[Turn]:
        return [{"role": "user", "content": text}]

    def answered(text: str) -> list[Turn]:
        return [{"role": "assistant", "content": text}]

    shapes: dict[str, Callable[[str], Row]] = {
        "sft": lambda text: {"messages": asked("2 + 2?") + answered(text)},
        "preference": lambda text: {
            "prompt": asked("2 + 2?"),
            "chosen": answered(text),
            "rejected": answered(text.translate(OTHER)),
        },
        "prompts": lambda text: {"prompt": asked(text), "solution": "4"},
    }
    drawn = random.Random(0)
    for name, limit in limits.items():
        around = length(shapes[name](""), tokenizer)
        for side, count in ROWS.items():
            made = [shapes[name]("".join(drawn.choices("123456789", k=limit - around))) for _ in range(count)]
            assert limit == length(made[0], tokenizer)
            folder = root / ("pairs" if name == "preference" else name)
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(made, schema=SCHEMAS[name]), folder / f"{side}.parquet")


def length(row: Row, tokenizer: PreTrainedTokenizerBase) -> int:
    """In tokens."""
    return lengths({name: [value] for name, value in row.items()}, tokenizer)[0]


def fill(profile: str, smoke: bool) -> dict[str, int]:
    """Fill this folder, and say how long its rows are."""
    import transformers

    shape = MODELS[profile] | (NARROW if smoke else {})
    repository = Path(__file__).parents[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(repository / "models/tiny", local_files_only=True)
    tokenizer.model_max_length = 8192
    models(shape, tokenizer, Path("models"))
    settings = experiment().stages
    limits = {
        "sft": settings["sft"].option("max_length"),
        "preference": min(settings[name].option("max_length") for name in ("reward", "dpo")),
        "prompts": settings["grpo"].own.max_prompt_length,
    }
    rows(limits, tokenizer, Path("data"))
    return limits


def main() -> None:
    print(json.dumps(fill(sys.argv[1], "--smoke" in sys.argv)))


if __name__ == "__main__":
    main()
