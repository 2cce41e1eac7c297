"""models/base: what is made right, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import transformers

from llmrl.base import build
from llmrl.errors import InputError

TINY = Path(__file__).parents[2] / "models/tiny"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the built-in model to spoil."""
    return Path(shutil.copytree(TINY, tmp_path / "source"))


@pytest.fixture
def made(source: Path, tmp_path: Path) -> Path:
    """models/base as made of it."""
    out = tmp_path / "base"
    out.mkdir()
    build.make_base(str(source), out)
    return out


def edit(file: Path, **values: object) -> None:
    """Change a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_base_keeps_the_weights(made: Path) -> None:
    """models/base holds the source's weights as they are."""
    assert (TINY / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()


def test_base_of_base_is_the_same(made: Path, tmp_path: Path) -> None:
    """What is right already is made the same bytes again, so that nothing depends on where a model was loaded from."""
    again = tmp_path / "again"
    again.mkdir()
    build.make_base(str(made), again)

    assert {f.name: f.read_bytes() for f in made.iterdir()} == {f.name: f.read_bytes() for f in again.iterdir()}


def test_ids_agree(made: Path) -> None:
    """Config and generation config name the tokenizer's pad and end-of-turn tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    for name in ("config.json", "generation_config.json"):
        found = json.loads((made / name).read_text())

        assert tokenizer.pad_token_id == found["pad_token_id"]
        assert tokenizer.eos_token_id == found["eos_token_id"]


def test_a_config_that_holds_another(made: Path, tmp_path: Path) -> None:
    """A model whose config holds another for its text is measured, and set right, by that one."""
    config = json.loads((made / "config.json").read_text())
    nested = {"architectures": config["architectures"], "text_config": config | {"eos_token_id": 0}}
    (made / "config.json").write_text(json.dumps(nested))
    out = tmp_path / "out"
    out.mkdir()
    build.make_base(str(made), out)
    found = json.loads((out / "config.json").read_text())

    assert config["eos_token_id"] == found["eos_token_id"] == found["text_config"]["eos_token_id"]


def no_simple_template(source: Path) -> None:
    (source / "chat_template.jinja").write_text(
        "{% for m in messages | reverse %}{{ m['content'] }}<|im_end|>{% endfor %}"
    )


def dated_template(source: Path) -> None:
    (source / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}")


def nothing_ends_a_turn(source: Path) -> None:
    template = source / "chat_template.jinja"
    template.write_text(template.read_text().replace("+ '<|im_end|>' }}", "}}"))


def no_token_to_pad_with(source: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (source / name).read_text()
        (source / name).write_text(text.replace("<|endoftext|>", "<|novel|>"))
    config = json.loads((source / "tokenizer_config.json").read_text())
    edit(source / "tokenizer_config.json", pad_token=config["eos_token"])


def too_few_embeddings(source: Path) -> None:
    edit(source / "config.json", vocab_size=100)


def wrong_kind(source: Path) -> None:
    edit(source / "config.json", architectures=["Qwen2ForSequenceClassification"])


def no_weights(source: Path) -> None:
    (source / "model.safetensors").unlink()


def no_tokenizer(source: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (source / name).unlink()


def no_words(source: Path) -> None:
    (source / "tokenizer.json").unlink()


def cut_tokenizer(source: Path) -> None:
    (source / "tokenizer.json").write_text((source / "tokenizer.json").read_text()[:100])


def no_tokenizer_of_another_kind(source: Path) -> None:
    no_tokenizer(source)
    edit(source / "config.json", model_type="llama")


def no_config(source: Path) -> None:
    (source / "config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_simple_template, "{% generation %}"),
        (dated_template, "the day's date"),
        (nothing_ends_a_turn, "never learn to stop"),
        (no_token_to_pad_with, "pad token"),
        (too_few_embeddings, "more than the model's 100"),
        (wrong_kind, "a model …ForCausalLM is needed"),
        (no_weights, "has no weights"),
        (no_tokenizer, "has no whole tokenizer .it has special tokens alone.: tokenizer.json and"),
        (no_words, "has no whole tokenizer .it has special tokens alone."),
        (cut_tokenizer, "has no whole tokenizer .Expecting value: line"),
        (no_tokenizer_of_another_kind, "has no whole tokenizer"),
        (no_config, "is not a model's folder"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_trained_on_is_refused(spoil, said: str, source: Path, tmp_path: Path) -> None:
    """A base model that cannot be trained on is refused in one message that names it and what would be right."""
    spoil(source)

    with pytest.raises(InputError, match=said.replace("{", r"\{").replace("%", "%")) as error:
        build.make_base(str(source), tmp_path)

    assert str(source) in str(error.value)
