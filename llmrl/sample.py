"""What a stage trains on, to read: its first row as the trainer tokenised it, with what the loss covers marked."""

from __future__ import annotations

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
        prompt = row.get("prompt_ids")
        sides = [row["chosen_ids"], row["rejected_ids"]]
        if prompt is None:
            said, texts = (
                "A reward model's score is read at the last token.",
                [tokenizer.decode(side) for side in sides],
            )
        else:
            said = COVERED
            texts = [marked(prompt + side, [False] * len(prompt) + [True] * len(side), tokenizer) for side in sides]
        return f"The first pair. {said}\n\nchosen:\n{texts[0]}\n\nrejected:\n{texts[1]}\n"
    prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    return f"The first prompt. The model itself writes the answers that it is trained on.\n\n{prompt}\n"


def marked(tokens: list[int], covered: list[bool], tokenizer: PreTrainedTokenizerBase) -> str:
    """Tokens as text, with brackets around the stretches that are covered."""
    parts, start = [], 0
    for end in range(1, len(tokens) + 1):
        if end == len(tokens) or covered[end] != covered[start]:
            part = tokenizer.decode(tokens[start:end])
            parts.append(f"⟦{part}⟧" if covered[start] else part)
            start = end
    return "".join(parts)
