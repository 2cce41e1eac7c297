"""The built-in model: `python -m llmrl.tiny` writes models/tiny/, a Qwen2 of under half a million parameters.

It is pretrained on plain text, a book of exercises: sums and little stories with their results, mostly worked out, now
and then boxed. It can calculate a little, but has never seen a chat turn, nor a question that the default experiment
holds out: how to answer one is left for the pipeline to teach. Two runs on one machine write the same bytes; one takes
a minute on two cores.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from llmrl import arithmetic, data

if TYPE_CHECKING:  # torch and transformers take seconds to import, and only the recipe itself needs them
    import torch
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

FOLDER = Path("models/tiny")
SEED = 0
THREADS = 2
VOCABULARY = 480
STEPS = 1250
BATCH = 32
LEARNING_RATE = 3.5e-3
SPLIT = ("llmrl", 0.1)  # data.salt and data.eval_share of params.yaml

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
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


def chat_texts(rows: int) -> Iterator[str]:
    """Yields what the built-in task says, for the tokenizer to know its words."""
    for row in islice(arithmetic.conversations(SEED), rows):
        yield from (message["content"] for message in row["messages"])
    for row in islice(arithmetic.preferences(SEED), rows):
        yield row["rejected"][0]["content"]
    yield from ["system\n", "user\n", "assistant\n", "Solution: ", "Answer: "] * rows


def plain_texts(seed: int) -> Iterator[str]:
    """Yields pieces of a book of exercises: one or two sums, as such or in words, mostly with the steps to the result.

    The styles vary so that the model learns to look numbers up wherever they stand, not at a fixed distance.
    """
    random = Random(seed)
    while True:
        yield "\n".join(exercise(random) for _ in range(random.choice((1, 2)))) + TURN_END


def exercise(random: Random) -> str:
    """One exercise and its solution in one of many styles."""
    problem = arithmetic.draw_problem(random)
    working = arithmetic.work_out(problem)
    bare = f"{problem.left}{problem.sign}{problem.right}"
    question = arithmetic.draw_question(random, problem)
    if data.held_out({"prompt": [{"role": "user", "content": question}]}, *SPLIT):
        question = bare
    task = random.choice((bare, question, question))
    gap = random.choice((" ", "\n", ": ", "\nSolution: ", "\nAnswer: ", " Answer: ", "\n\n"))
    steps = random.choice(("", f"{working.ones}, {working.tens}. ", f"{working.ones}, {working.tens}. "))
    # A box is common enough to be known and rare enough that the model would not choose it by itself.
    result = random.choice((str(working.result),) * 2 + (arithmetic.boxed(working.result),))
    return f"{task}{gap}{steps}{result}"


def make_tokenizer() -> "Qwen2Tokenizer":
    """A byte-level BPE of the task's own words, in which any text can be written and each digit is a token.

    AutoTokenizer gives every Qwen2 model the class Qwen2Tokenizer, which brings its own way to split text into words.
    So the words are learned through that class: what is loaded later is then what was trained.
    """
    from tokenizers import pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    learner = Qwen2Tokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(chat_texts(rows=4000), trainer)
    learned = json.loads(learner.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=PAD,
        pad_token=PAD,
        eos_token=TURN_END,
        extra_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )


def make_model(tokenizer: "Qwen2Tokenizer") -> "Qwen2ForCausalLM":
    """The model with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,  # two do not learn in a minute to look digits up in a story, three do
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        initializer_range=0.08,  # the usual 0.02 is for wide models
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def batches(tokenizer: "Qwen2Tokenizer") -> Iterator[dict[str, "torch.Tensor"]]:
    """Yields batches of BATCH texts, two in a row, the longest beside the shortest; (BATCH / 2, tokens).

    That leaves a tenth to pad where one text a row leaves half. The positions keep the two apart: where they begin
    anew, transformers ends what attention sees.
    """
    import torch

    texts = plain_texts(SEED)
    while True:
        rows = sorted(tokenizer([next(texts) for _ in range(BATCH)])["input_ids"], key=len)
        pairs = [(rows[row], rows[-1 - row]) for row in range(BATCH // 2)]
        size = (len(pairs), max(len(one) + len(other) for one, other in pairs))
        tokens, labels = (torch.full(size, filling) for filling in (tokenizer.pad_token_id, -100))
        positions = torch.zeros_like(tokens)
        for row, pair in enumerate(pairs):
            start = 0
            for text in pair:
                part = slice(start, start + len(text))
                tokens[row, part] = labels[row, part] = torch.tensor(text)
                labels[row, start] = -100  # nothing foretells how a text begins
                positions[row, part] = torch.arange(len(text))
                start += len(text)
        yield {"input_ids": tokens, "labels": labels, "position_ids": positions}


def pretrain(model: "Qwen2ForCausalLM", tokenizer: "Qwen2Tokenizer", steps: int) -> None:
    """Next-token prediction."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    for step, batch in enumerate(islice(batches(tokenizer), steps)):
        loss = model(**batch, use_cache=False).loss  # with a cache transformers does not look at the positions
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)


def average_unseen(model: "Qwen2ForCausalLM", tokenizer: "Qwen2Tokenizer") -> None:
    """Gives the tokens that the texts do not use the mean of the others, as transformers does for added tokens.

    Pretraining has pushed them far away, where fine-tuning would have to bring them back from first.
    """
    import torch

    texts = plain_texts(SEED)
    seen = {token for _ in range(5000) for token in tokenizer(next(texts))["input_ids"]}
    unseen = sorted(set(range(len(tokenizer))) - seen)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[unseen] = weight[sorted(seen)].mean(0)


def make(folder: Path = FOLDER, steps: int = STEPS) -> None:
    """Makes the tokenizer, pretrains the model and writes both to a folder."""
    import torch

    torch.set_num_threads(THREADS)  # another number of threads adds up in another order and gives other bytes
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    pretrain(model, tokenizer, steps)
    average_unseen(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (Path(folder) / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner may read


if __name__ == "__main__":
    make()
