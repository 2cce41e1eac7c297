"""The built-in model: `python -m llmrl.tiny` writes models/tiny/, a Qwen2 of under half a million parameters.

It is pretrained on plain text about sums, written out and in one go, so it can calculate a little. It has never seen a question,
a chat turn or a boxed answer: those are left for the pipeline to teach. Two runs on one machine write the same bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from llmrl import arithmetic

if TYPE_CHECKING:  # torch and transformers take seconds to import, and only the recipe itself needs them
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

FOLDER = Path("models/tiny")
SEED = 0
THREADS = int(__import__("os").environ.get("T", 2))
VOCABULARY = 448
STEPS = int(__import__("os").environ.get("S", 1000))
BATCH, LENGTH = 64, 64
LEARNING_RATE = 4e-3

PAD, TURN_START, TURN_END = "<|pad|>", "<|im_start|>", "<|im_end|>"
# ChatML. The generation marks enclose what a model has to write itself, its end-of-turn token included, so that
# `assistant_only_loss` teaches it to stop.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}
{{- message['content'] + '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
WORDS = {"+": "plus", "-": "minus", "*": "times"}


def chat_texts(rows: int) -> Iterator[str]:
    """Yields what the built-in task says, for the tokenizer to know its words."""
    for _, row in zip(range(rows), arithmetic.conversations(SEED)):
        yield from (message["content"] for message in row["messages"])
    for _, row in zip(range(rows), arithmetic.preferences(SEED)):
        yield row["rejected"][0]["content"]
    yield from ["system\n", "user\n", "assistant\n"] * rows


def plain_texts(seed: int) -> Iterator[str]:
    """Yields what a book of exercises would say: a sum as such or in words, and its result, often with the steps."""
    random = Random(seed)
    while True:
        problem = arithmetic.draw_problem(random)
        bare = f"{problem.left}{problem.sign}{problem.right}:"
        working = arithmetic.work_out(problem)
        exercise = random.choice((bare, arithmetic.draw_question(random, problem), arithmetic.draw_question(random, problem)))
        steps = random.choice(("", f"{working.ones}, {working.tens}. ", f"{working.ones}, {working.tens}. "))
        yield f"{exercise} {steps}{working.result}\n"


def make_tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level BPE of the task's own words, in which any text can be written and each digit is a token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|[^\d\s]+ ?|\s+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chat_texts(rows=4000), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        extra_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def make_model(tokenizer: "PreTrainedTokenizerFast") -> "Qwen2ForCausalLM":
    """The model with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def pretrain(model: "Qwen2ForCausalLM", tokens: "torch.Tensor", steps: int) -> None:
    """Next-token prediction on windows of one long row of tokens."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    for step in range(steps):
        starts = torch.randint(len(tokens) - LENGTH, (BATCH, 1))
        batch = tokens[starts + torch.arange(LENGTH)]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.3f}", flush=True)


def make(folder: Path = FOLDER, steps: int = STEPS) -> None:
    """Makes the tokenizer, pretrains the model and writes both to a folder."""
    import torch

    torch.set_num_threads(THREADS)  # another number of threads adds up in another order and gives other bytes
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    texts = plain_texts(SEED)
    tokens = torch.tensor(tokenizer("".join(next(texts) for _ in range(40 * steps)))["input_ids"])
    pretrain(model, tokens, steps)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    make()
