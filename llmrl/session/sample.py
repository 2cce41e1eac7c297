"""What a stage trains on, to read: its first row as the trainer tokenised it, with what the loss covers marked."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

COVERED = "The loss covers what stands between ⟦ and ⟧."


def text(trainer: Trainer, tokenizer: PreTrainedTokenizerBase) -> str:
    """The first row of a trainer's own data, decoded; of a pair both sides."""
    row: dict[str, Any] = next(iter(trainer.train_dataset))
    if "labels" in row:
        covered = [label != -100 for label in row["labels"]]
        return f"The first row. {COVERED}\n\n{marked(row['input_ids'], covered, tokenizer)}\n"
    if "chosen_ids" in row:
        said = COVERED if "prompt_ids" in row else "A reward model's score is read at the last token."
        prompt = row.get("prompt_ids", [])
        chosen, rejected = (
            marked(prompt + side, [False] * len(prompt) + ["prompt_ids" in row] * len(side), tokenizer)
            for side in (row["chosen_ids"], row["rejected_ids"])
        )
        return f"The first pair. {said}\n\nchosen:\n{chosen}\n\nrejected:\n{rejected}\n"
    prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    return f"The first prompt. The model itself writes the answers that it is trained on.\n\n{prompt}\n"


def marked(tokens: list[int], covered: list[bool], tokenizer: PreTrainedTokenizerBase) -> str:
    """Tokens as text, with brackets around the stretches that are covered."""
    text = ""
    for within, stretch in groupby(zip(covered, tokens, strict=True), key=lambda pair: pair[0]):
        part = tokenizer.decode([token for _, token in stretch])
        text += f"⟦{part}⟧" if within else part
    return text
