"""models/base: what is made right, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import transformers
from library_logs import logged_by_transformers

from llmrl.base import build
from llmrl.errors import InputError
from llmrl.models.loading import load_policy
from llmrl.models.saving import save

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
    """Config and generation config name the tokenizer's pad and end-of-turn tokens, and the one that begins a text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    for name in ("config.json", "generation_config.json"):
        found = json.loads((made / name).read_text())

        assert tokenizer.pad_token_id == found["pad_token_id"]
        assert tokenizer.eos_token_id == found["eos_token_id"]
        assert tokenizer.bos_token_id == found.get("bos_token_id")


def test_a_config_that_holds_another(made: Path, tmp_path: Path) -> None:
    """A model whose config holds another for its text is measured, and set right, by that one."""
    config = json.loads((made / "config.json").read_text())
    nested = {"architectures": config["architectures"], "model_type": "llama4"}
    nested["text_config"] = config | {"model_type": "llama4_text", "eos_token_id": 0}
    (made / "config.json").write_text(json.dumps(nested))
    out = tmp_path / "out"
    out.mkdir()
    build.make_base(str(made), out)
    found = json.loads((out / "config.json").read_text())

    assert config["eos_token_id"] == found["eos_token_id"] == found["text_config"]["eos_token_id"]


def test_it_says_that_there_will_be_no_reward_model(source: Path, tmp_path: Path) -> None:
    """Where transformers has no class for one; the base model is made all the same, as other stages train on it."""
    narrow = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vocabulary = json.loads((TINY / "config.json").read_text())["vocab_size"]
    config = transformers.GraniteConfig(vocab_size=vocabulary, num_key_value_heads=2, **narrow)
    out = [tmp_path / name for name in ("tiny", "granite")]
    for folder in out:
        folder.mkdir()
    tiny = build.make_base(str(source), out[0])
    transformers.GraniteForCausalLM(config).save_pretrained(source)
    granite = build.make_base(str(source), out[1])

    assert "\nno reward model can be made of it: transformers has no class for that; sft and dpo" in granite
    assert "reward model" not in tiny
    assert (out[1] / "model.safetensors").exists()


# --- the generation config -------------------------------------------------------------------------------------------

SAMPLED = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05, "min_p": 0.02}


def generation(folder: Path) -> dict[str, object]:
    return json.loads((folder / "generation_config.json").read_text())


def test_how_a_model_is_sampled_is_kept(source: Path, tmp_path: Path) -> None:
    """By its makers; and it is said, with the values. A trained model has it too, in the same words."""
    edit(source / "generation_config.json", **SAMPLED, max_new_tokens=2048)
    said = build.make_base(str(source), tmp_path)

    assert {**SAMPLED, "max_new_tokens": 2048}.items() <= generation(tmp_path).items()
    (line,) = [line for line in said.splitlines() if line.startswith("its generation config: ")]
    assert "do_sample true, max_new_tokens 2048, min_p 0.02, repetition_penalty 1.05, temperature 0.7" in line
    assert line.endswith(" kept")
    save(load_policy(str(tmp_path)), str(tmp_path), tmp_path / "sft", {})
    assert generation(tmp_path) == generation(tmp_path / "sft")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (2, 2),  # <|im_end|>, as the tokenizer has it
        (0, [2, 0]),  # <|endoftext|>, at which a text ended
        ([0, 1], [2, 0, 1]),
        ([0, 2], [0, 2]),
        ([0, 2, 60, 100_000], [0, 2]),  # a word, and what is no token at all
        (None, 2),
        ([], 2),
    ],
)
def test_what_ends_a_text(before: object, after: object, source: Path, tmp_path: Path) -> None:
    """All tokens that ended a text still do, beside the one that ends a turn; but for words. A change is said."""
    edit(source / "generation_config.json", eos_token_id=before)
    said = build.make_base(str(source), tmp_path)

    assert after == generation(tmp_path)["eos_token_id"]
    assert 2 == json.loads((tmp_path / "config.json").read_text())["eos_token_id"]
    was = f"eos_token_id {json.dumps(after)} (was {json.dumps(before)})"
    assert (was in said) == (before != after)


def test_without_a_generation_config_the_config_says_what_ends_a_text(source: Path, tmp_path: Path) -> None:
    """As transformers reads it."""
    (source / "generation_config.json").unlink()
    edit(source / "config.json", eos_token_id=[0, 2])
    build.make_base(str(source), tmp_path)

    assert [0, 2] == generation(tmp_path)["eos_token_id"]


def test_what_could_not_be_saved_is_left_out(source: Path, tmp_path: Path) -> None:
    """A temperature without sampling does nothing, but would end the saving of a trained model in an error."""
    edit(source / "generation_config.json", temperature=0.9, top_p=0.6, compile_config={"x": 1}, repetition_penalty=1.2)
    with logged_by_transformers() as logged:
        said = build.make_base(str(source), tmp_path)

    assert [] == logged
    assert {"temperature", "top_p", "compile_config"}.isdisjoint(generation(tmp_path))
    assert "repetition_penalty 1.2 kept" in said
    assert 'compile_config {"x": 1}, temperature 0.9, top_p 0.6 left out, as they have no effect' in said
    save(load_policy(str(tmp_path)), str(tmp_path), tmp_path / "sft", {})


def test_a_line_less_where_there_is_nothing_to_say(source: Path, tmp_path: Path) -> None:
    """Of the built-in model nothing is kept that is not usual, and nothing changed."""
    assert 1 == len(build.make_base(str(source), tmp_path).splitlines())


def test_no_generation_config_at_all(source: Path, tmp_path: Path) -> None:
    """A file that is cut short is named."""
    (source / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"source/generation_config\.json is not the JSON it must be"):
        build.make_base(str(source), tmp_path)


def test_spaces_before_punctuation(source: Path, tmp_path: Path) -> None:
    """An old setting that transformers ignores, with a warning in every process, is set to what is done anyway."""
    edit(source / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    with logged_by_transformers() as logged:
        build.make_base(str(source), tmp_path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)

        assert "2 + 2 , is it ?" == tokenizer.decode(tokenizer("2 + 2 , is it ?")["input_ids"])
    assert [] == logged
    written = [json.loads((folder / "tokenizer_config.json").read_text()) for folder in (TINY, tmp_path)]
    assert {**written[0], "clean_up_tokenization_spaces": False} == written[1]


# --- what made it ----------------------------------------------------------------------------------------------------


def test_what_made_it_lies_beside_it(source: Path, project: Path, python, change) -> None:
    """The settings, every file that it was made of; no more, so that it is the same bytes anywhere. What another
    pipeline recorded of its model, what `dvc add` did of its weights, and notes beside it, are not taken for its files.
    """
    for name in ("provenance.json", "training.json", "notes.txt", "LICENSE", "model.safetensors.dvc"):
        (source / name).write_text('{"settings": {}}')
    shutil.copytree(source, project / "models/raw", dirs_exist_ok=True)
    change("model.source", "raw")
    done = python("-m", "llmrl.base")
    assert (0, "") == (done.returncode, done.stderr)
    made = json.loads((project / "models/base/provenance.json").read_text())

    assert {"source": "raw", "revision": None}.items() <= made["settings"]["model"].items()
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in TINY.iterdir()} == made["inputs"]
    assert {"settings", "inputs"} == set(made)
    assert not (project / "models/base/training.json").exists()
    assert not (project / "models/base/model.safetensors.dvc").exists()


# --- what is refused -------------------------------------------------------------------------------------------------


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
