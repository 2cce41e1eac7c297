"""The built-in model: what is shipped loads, fits and speaks the chat format, and its recipe repeats itself."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, Qwen2ForCausalLM

from llmrl.data.asking import held_out, opening
from llmrl.params import experiment
from llmrl.toy import arithmetic
from models import recipe as tiny

SHIPPED = Path(__file__).parents[2] / tiny.FOLDER


def loaded(folder: Path) -> Qwen2ForCausalLM:
    """A model, in the precision in which it was trained."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32")


@torch.no_grad()
def loss_of_each(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> float:
    """The mean next-token loss of texts, each given to the model alone."""
    total = tokens = 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        total += model(input_ids=ids, labels=ids).loss.item() * (ids.numel() - 1)
        tokens += ids.numel() - 1
    return total / tokens


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(SHIPPED)


def test_shipped_weights_are_small() -> None:
    """The shipped weights are less than one MiB."""
    assert (SHIPPED / "model.safetensors").stat().st_size < 2**20


def test_shipped_model_loads_without_warnings(
    tokenizer: PreTrainedTokenizerBase, capfd: pytest.CaptureFixture[str]
) -> None:
    """The shipped model is a Qwen2 that loads silently and shares its end and pad tokens with the tokenizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = AutoModelForCausalLM.from_pretrained(SHIPPED)
    assert "warn" not in capfd.readouterr().err.lower()
    assert isinstance(model, Qwen2ForCausalLM)
    assert len(tokenizer) == model.config.vocab_size
    for config in (model.config, model.generation_config):
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (config.eos_token_id, config.pad_token_id)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_the_book_has_no_held_out_question() -> None:
    """What the default experiment holds out is the same split by which the book of exercises leaves questions out."""
    data = experiment(SHIPPED.parents[1] / "params.yaml").data
    assert tiny.SPLIT == (data.salt, data.eval_share)
    book = "".join(islice(tiny.plain_texts(tiny.SEED), tiny.STEPS * tiny.BATCH))
    questions = [row["prompt"][0]["content"] for row in islice(arithmetic.prompts(1), 5000)]
    kept = [q for q in questions if held_out(opening({"prompt": [{"role": "user", "content": q}]}), *tiny.SPLIT)]
    assert [] == [question for question in kept if question in book]
    assert any(question in book for question in questions)


def test_two_texts_in_a_row_do_not_see_each_other(tokenizer: PreTrainedTokenizerBase) -> None:
    """A batch has the loss of its texts alone, and without the positions that keep them apart it has not."""
    model = loaded(SHIPPED)
    batch = next(tiny.packed(tokenizer))
    alone = loss_of_each(model, tokenizer, islice(tiny.plain_texts(tiny.SEED), tiny.BATCH))
    with torch.no_grad():
        together = model(**batch, use_cache=False).loss.item()
        mixed = model(**{**batch, "position_ids": None}, use_cache=False).loss.item()
    assert tiny.BATCH // 2 == len(batch["input_ids"])
    assert pytest.approx(alone, abs=1e-5) == together
    assert pytest.approx(alone, abs=1e-2) != mixed


def test_it_can_calculate_in_plain_text() -> None:
    """Asked as in the book, greedily, it answers held-out questions right: that is not what the stages teach."""
    model, tokenizer = loaded(SHIPPED), AutoTokenizer.from_pretrained(SHIPPED, padding_side="left")
    prompts = (row | {"question": row["prompt"][0]["content"]} for row in arithmetic.prompts(1))
    rows = list(islice((row for row in prompts if held_out(opening(row), *tiny.SPLIT)), 500))
    asked = tokenizer([f"{row['question']}\nSolution:" for row in rows], return_tensors="pt", padding=True)
    written = model.generate(**asked, max_new_tokens=40, do_sample=False)[:, asked["input_ids"].shape[1] :]
    results = [re.findall(r"\d+", text.partition("\n")[0]) for text in tokenizer.batch_decode(written)]
    right = sum(numbers[-1:] == [row["solution"]] for numbers, row in zip(results, rows, strict=True))
    print(f"{right} of {len(rows)}")
    assert 0.95 * len(rows) < right


def test_each_digit_is_a_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """A number is written with one token a digit."""
    assert list("1234567890") == tokenizer.tokenize("1234567890")


@pytest.mark.parametrize("text", ["", " x\n\ty  ", "naïve Ωμέγα 日本語 😀", "\\boxed{132}", "it's 3.5 %"])
def test_any_text_makes_the_round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    """Any text in Unicode's composed form, to which Qwen2's tokenizer brings it, is encoded and decoded unchanged."""
    text = unicodedata.normalize("NFC", text)
    assert text == tokenizer.decode(tokenizer(text)["input_ids"])


def test_generation_mask_covers_what_the_model_writes(tokenizer: PreTrainedTokenizerBase) -> None:
    """The generation mask covers each answer and its end-of-turn token, and nothing else."""
    for row in islice(arithmetic.conversations(0), 20):
        encoded = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
        marked = [token for token, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        assert "".join(answer + tiny.TURN_END for answer in answers) == tokenizer.decode(marked)


def test_generation_prompt_is_a_prefix(tokenizer: PreTrainedTokenizerBase) -> None:
    """A prompt rendered for generation is a prefix of the whole conversation, in text and in tokens."""
    for row in islice(arithmetic.preferences(0), 20):
        whole, prompt = row["prompt"] + row["chosen"], row["prompt"]
        for tokenize in (False, True):
            rendered = tokenizer.apply_chat_template(whole, tokenize=tokenize, return_dict=False)
            start = tokenizer.apply_chat_template(
                prompt, tokenize=tokenize, return_dict=False, add_generation_prompt=True
            )
            assert start == rendered[: len(start)]


def recipe(folder: Path, steps: int) -> dict[str, bytes]:
    """The files that the recipe writes in a process of its own."""
    code = f"from pathlib import Path; from models import recipe; recipe.make_tiny(Path({str(folder)!r}), {steps})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SHIPPED.parents[1])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("steps", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_recipe_repeats_itself(tmp_path: Path, steps: int) -> None:
    """Two runs of the recipe, each in its own process, write the same files with the same bytes."""
    one, two = (recipe(tmp_path / name, steps) for name in ("one", "two"))

    assert set(one) == {path.name for path in SHIPPED.iterdir()}
    assert one == two


@pytest.mark.slow
@pytest.mark.alone("trains with both cores")
def test_recipe_makes_what_is_shipped(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """With all its steps, but for what another processor's last bits grow to."""
    made = recipe(tmp_path / "made", tiny.STEPS)
    texts = list(islice(tiny.plain_texts(tiny.SEED + 1), 500))
    losses = [loss_of_each(loaded(folder), tokenizer, texts) for folder in (tmp_path / "made", SHIPPED)]
    print(f"loss of what is made {losses[0]:.4f}, of what is shipped {losses[1]:.4f}")

    for name in ("tokenizer.json", "chat_template.jinja"):
        assert made[name] == (SHIPPED / name).read_bytes()
    assert pytest.approx(losses[0], abs=0.02) == losses[1]
