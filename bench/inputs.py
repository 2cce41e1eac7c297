"""What a measurement reads: `python -m bench.inputs qwen2.5-0.5b` fills models/ and data/ of the folder it stands in.

The model has the shapes of the profile's, random weights and the built-in tokenizer; its vocabulary is the real one's,
as that decides memory. Every row is as long as the params.yaml of that folder admits.
"""

from __future__ import annotations

import bisect
import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.data.rows import Row
from llmrl.data.spool import SCHEMAS
from llmrl.data.turns import Turn
from llmrl.params import experiment
from llmrl.toy import arithmetic
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
    """models/base, and models/reward on its body."""
    import torch
    import transformers

    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = transformers.AutoConfig.for_model(**shape, **ids)
    policy = transformers.AutoModelForCausalLM.from_config(config)
    policy.generation_config = transformers.GenerationConfig(
        pad_token_id=ids["pad_token_id"], eos_token_id=ids["eos_token_id"]
    )
    for folder in (root / "base", root / "reward"):
        policy.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    transformers.AutoModelForSequenceClassification.from_pretrained(
        root / "reward", num_labels=1, dtype="float32"
    ).save_pretrained(root / "reward")


def longest(make: Callable[[str], Row], text: str, limit: int, tokenizer: PreTrainedTokenizerBase) -> Row:
    """The row that `make` gives of as much of a text as fits in `limit` tokens."""

    def tokens(characters: int) -> int:
        return lengths({name: [value] for name, value in make(text[:characters]).items()}, tokenizer)[0]

    return make(text[: bisect.bisect_right(range(len(text)), limit, key=tokens) - 1])


def rows(limits: dict[str, int], tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    """The three data sets, of rows of so many tokens."""
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
    turns = (turn["content"] for row in arithmetic.conversations(0) for turn in row["messages"])
    book = "\n".join(islice(turns, 2000))
    for name, limit in limits.items():
        for side, count in ROWS.items():
            pages = [book[number:][: 8 * limit] for number in range(count)]  # each begins elsewhere
            made = [longest(shapes[name], page, limit, tokenizer) for page in pages]
            (root / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(made, schema=SCHEMAS[name]), root / name / f"{side}.parquet")


def main() -> None:
    """Fill the folder."""
    import transformers

    profile = sys.argv[1]
    shape = MODELS[profile] | (NARROW if "--smoke" in sys.argv else {})
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
    print(json.dumps(limits))


if __name__ == "__main__":
    main()
