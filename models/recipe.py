"""The built-in model: `python -m models.recipe` writes models/tiny/, a Qwen2 of under half a million parameters.

It is pretrained on plain text, a book of exercises: sums and little stories with their results, mostly worked out, now
and then boxed. It can calculate a little, but has never seen a chat turn, nor a question that the default experiment
holds out: how to answer one is left for the pipeline to teach. Two runs on one machine write the same bytes; one takes
a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import OneCycleLR
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from llmrl.data.asking import Opening, held_out
from llmrl.toy import arithmetic

FOLDER = Path("models/tiny")
SEED = 0
VOCABULARY = 480
STEPS = 1250
BATCH = 32
LEARNING_RATE = 3.5e-3
SPLIT = ("llmrl", 0.1)  # data.salt and data.eval_share of params.yaml

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"  # as all Qwen2 models have them
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
        exercises = []
        for _ in range(random.choice((1, 2))):
            problem = arithmetic.draw_problem(random)
            working = arithmetic.work_out(problem)
            bare = f"{problem.left}{problem.sign}{problem.right}"
            question = arithmetic.draw_question(random, problem)
            if held_out(Opening("", question), *SPLIT):
                question = bare
            task = random.choice((bare, question, question))
            gap = random.choice((" ", "\n", ": ", "\nSolution: ", "\nAnswer: ", " Answer: ", "\n\n"))
            steps = random.choice(("", f"{working.steps} ", f"{working.steps} "))
            # A box is common enough to be known and rare enough that the model would not choose it by itself.
            result = random.choice((str(working.result),) * 2 + (arithmetic.boxed(working.result),))
            exercises.append(f"{task}{gap}{steps}{result}")
        yield "\n".join(exercises) + TURN_END


def make_tokenizer() -> Qwen2Tokenizer:
    """A byte-level BPE of the task's own words, in which any text can be written and each digit is a token.

    AutoTokenizer gives every Qwen2 model the class Qwen2Tokenizer, which brings its own way to split text into words.
    So the words are learned through that class: what is loaded later is then what was trained.
    """
    untaught = Qwen2Tokenizer(
        vocab={PAD: 0, TURN_START: 1, TURN_END: 2},
        eos_token=TURN_END,
        extra_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )
    return untaught.train_new_from_iterator(chat_texts(rows=4000), VOCABULARY, show_progress=False)


def packed(tokenizer: Qwen2Tokenizer) -> Iterator[dict[str, torch.Tensor]]:
    """Yields batches of BATCH texts, two in a row, the longest beside the shortest; (BATCH / 2, tokens).

    That leaves a tenth to pad where one text a row leaves half. The positions keep the two apart: where they begin
    anew, transformers ends what attention sees.
    """

    def padded(rows: list[list[int]], filling: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filling)

    texts = plain_texts(SEED)
    while True:
        rows = sorted(tokenizer(list(islice(texts, BATCH)))["input_ids"], key=len)
        pairs = [(rows[row], rows[-1 - row]) for row in range(BATCH // 2)]
        yield {
            "input_ids": padded([one + other for one, other in pairs], tokenizer.pad_token_id),
            # Nothing foretells how a text begins.
            "labels": padded([[-100, *one[1:], -100, *other[1:]] for one, other in pairs], -100),
            "position_ids": padded([[*range(len(one)), *range(len(other))] for one, other in pairs], 0),
        }


def average_unseen(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer) -> None:
    """Gives the tokens that the texts do not use the mean of the others, as transformers does for added tokens.

    Pretraining has pushed them far away, where fine-tuning would have to bring them back from first.
    """
    seen = {token for text in islice(plain_texts(SEED), 5000) for token in tokenizer(text)["input_ids"]}
    unseen = sorted(set(range(len(tokenizer))) - seen)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[unseen] = weight[sorted(seen)].mean(0)


def make_tiny(folder: Path = FOLDER, steps: int = STEPS) -> None:
    """Makes the tokenizer, pretrains the model and writes both to a folder."""
    torch.set_num_threads(2)  # another number of threads adds up in another order and gives other bytes
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
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
    model = Qwen2ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False)
    for step, batch in enumerate(islice(packed(tokenizer), steps)):
        loss = model(**batch, use_cache=False).loss  # with a cache transformers does not look at the positions
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    average_unseen(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner may read


if __name__ == "__main__":
    make_tiny()
