"""A model of text and images: its text model becomes models/base. What has none is refused, with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from architectures import NARROW
from clone import ROOT
from library_logs import logged_by_transformers

from llmrl.base import build, text_model
from llmrl.errors import InputError
from llmrl.folders import check_kind
from llmrl.models.loading import load_policy

TINY = ROOT / "models/tiny"
TEXT = {name: size for name, size in NARROW.items() if name != "tie_word_embeddings"}
TEXT |= {"vocab_size": 512}  # room for the built-in tokenizer
SEEING = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SEEING |= {"image_size": 28, "patch_size": 14}
LOOKING = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 14}
TURNED = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}
LINEAR = dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2)
LINEAR |= dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8) | {"rope_parameters": TURNED}
QWEN_IMAGES = {"image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503}
# By what transformers calls the text model: the config of the whole, and of its parts.
MODELS: dict[str, tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "Gemma3ForCausalLM": (
        transformers.Gemma3Config,
        {"layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": True},
        SEEING,
        {"mm_tokens_per_image": 4, "image_token_index": 500},
    ),
    "Qwen3_5ForCausalLM": (
        transformers.Qwen3_5Config,
        LINEAR | {"layer_types": ["linear_attention", "full_attention"]},
        LOOKING | {"out_hidden_size": 32},
        QWEN_IMAGES,
    ),
    "MistralForCausalLM": (
        transformers.Mistral3Config,
        {"model_type": "mistral"},
        SEEING | {"model_type": "pixtral", "head_dim": 8},
        {"image_token_index": 500},
    ),
    "Llama4ForCausalLM": (  # a causal model as it stands in the whole
        transformers.Llama4Config,
        {"num_local_experts": 2, "intermediate_size_mlp": 64, "layer_types": ["chunked_attention", "full_attention"]},
        SEEING | dict.fromkeys(("vision_output_dim", "projector_input_dim", "projector_output_dim"), 16),
        {},
    ),
}
# What transformers itself has no causal class for.
SEES_IN_ITS_TEXT = (
    transformers.Qwen2_5_VLConfig,
    {"rope_parameters": TURNED | {"mrope_section": [1, 1, 2]}},
    LOOKING | {"out_hidden_size": 32},
    QWEN_IMAGES,
)


def whole(config: Any, text: dict[str, Any], seeing: dict[str, Any], more: dict[str, Any], folder: Path) -> Any:
    """A model of text and images in bfloat16, written into a folder with the built-in tokenizer."""
    torch.manual_seed(0)
    made = config(text_config=TEXT | text, vision_config=seeing, **more)
    model = transformers.AutoModelForImageTextToText.from_config(made).to(torch.bfloat16).eval()
    model.save_pretrained(folder)
    for file in TINY.iterdir():
        if "token" in file.name or file.suffix == ".jinja":
            shutil.copy(file, folder)
    return model


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path, str]:
    """The text model's class, the whole model, what is made of it, and what is said of that."""
    folder = tmp_path_factory.mktemp(request.param)
    source, out = folder / "source", folder / "base"
    out.mkdir()
    model = whole(*MODELS[request.param], source)
    return request.param, model.float(), out, build.make_base(str(source), out)


def test_it_is_the_text_model(made: tuple[str, Any, Path, str]) -> None:
    """It is a causal model of its own, computes what the whole did, and has its weights as they were stored."""
    name, model, out, said = made
    policy, tokens = load_policy(str(out)), torch.tensor([[5, 6, 7, 8]])
    kept = [*policy.parameters()]
    with torch.no_grad():
        assert torch.allclose(model(input_ids=tokens).logits, policy(input_ids=tokens).logits, atol=1e-5)

    assert name == type(policy).__name__ == json.loads((out / "config.json").read_text())["architectures"][0]
    check_kind(str(out), "ForCausalLM", "sft.init")
    stored = safetensors.torch.load_file(out / "model.safetensors")
    assert {torch.bfloat16} == {weights.dtype for weights in stored.values()}
    assert sum(weights.numel() for weights in stored.values()) == sum(weights.numel() for weights in kept)
    left = model.num_parameters() - policy.num_parameters()
    assert (
        f"models/base: {name}, its text model alone, without the other {left:,} of {model.num_parameters():,}" in said
    )


@pytest.mark.parametrize("source", ["source", "base"])
def test_made_again(made: tuple[str, Any, Path, str], source: str, tmp_path: Path) -> None:
    """It is the same bytes each time, and as a source it is left as it is."""
    _, _, out, _ = made
    build.make_base(str(out.with_name(source)), tmp_path)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        file.name: file.read_bytes() for file in tmp_path.iterdir()
    }


def test_weights_in_two_precisions(tmp_path: Path) -> None:
    """What the source has in float32 beside bfloat16 loses nothing."""
    source, out = tmp_path / "source", tmp_path / "base"
    out.mkdir()
    whole(*MODELS["Gemma3ForCausalLM"], source)
    weights = safetensors.torch.load_file(source / "model.safetensors")
    (name,) = (one for one in weights if one.endswith("language_model.norm.weight") or "model.norm.weight" in one)
    weights[name] = torch.rand(32)
    safetensors.torch.save_file(weights, source / "model.safetensors", {"format": "pt"})
    build.make_base(str(source), out)

    assert torch.equal(weights[name], safetensors.torch.load_file(out / "model.safetensors")["model.norm.weight"])


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No bar and no report of transformers of what is left out: one line says it."""
    source = tmp_path / "source"
    whole(*MODELS["Qwen3_5ForCausalLM"], source)
    weights = safetensors.torch.load_file(source / "model.safetensors")
    weights["model.novel.weight"] = torch.rand(3)
    safetensors.torch.save_file(weights, source / "model.safetensors", {"format": "pt"})
    capfd.readouterr()
    with logged_by_transformers() as logged:
        build.make_base(str(source), tmp_path)
    assert [] == logged
    assert ("", "") == capfd.readouterr()


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_text_model_that_is_no_causal_one(tmp_path: Path) -> None:
    """Where transformers has no causal class for the text model, that is said, with its name."""
    whole(*SEES_IN_ITS_TEXT, tmp_path)
    said = (
        r"holds a Qwen2_5_VLForConditionalGeneration; a model …ForCausalLM is needed here: for its text model \(Qwen2_5"
    )
    with pytest.raises(InputError, match=said):
        build.make_base(str(tmp_path), tmp_path)


def test_weights_that_are_missing(tmp_path: Path) -> None:
    """A source without all weights is refused, rather than filled with random ones."""
    source = tmp_path / "source"
    whole(*MODELS["Qwen3_5ForCausalLM"], source)
    weights = safetensors.torch.load_file(source / "model.safetensors")
    lost = next(name for name in weights if "layers.1.mlp.up_proj" in name)
    del weights[lost]
    safetensors.torch.save_file(weights, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"is not whole: 1 of its weights are missing, .*layers\.1\.mlp\.up_proj"):
        build.make_base(str(source), tmp_path)


def test_a_text_model_that_computes_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken out is compared with the whole, and refused where they differ."""
    source = tmp_path / "source"
    whole(*MODELS["Gemma3ForCausalLM"], source)

    def spoilt(of: Any, kind: Any) -> Any:
        text = taken_out(of, kind)
        text.model.norm.weight.data[0] += 10.0
        return text

    taken_out = text_model.taken_out
    monkeypatch.setattr(text_model, "taken_out", spoilt)
    with pytest.raises(InputError, match="its text model alone computes otherwise than the whole"):
        build.make_base(str(source), tmp_path)


@pytest.mark.parametrize(
    ("config", "architecture", "said"),
    [
        (transformers.T5Config(), "T5ForConditionalGeneration", "this is an encoder-decoder"),
        (transformers.BartConfig(), "BartForConditionalGeneration", "this is an encoder-decoder"),
        (transformers.WhisperConfig(), "WhisperForConditionalGeneration", "this is an encoder-decoder"),
        (transformers.Qwen2AudioConfig(), "Qwen2AudioForConditionalGeneration", "or one of text and images"),
        (transformers.BertConfig(), "BertForMaskedLM", "or one of text and images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds(config: Any, architecture: str, said: str, tmp_path: Path) -> None:
    """What is no model of text that goes on is refused, with the reason."""
    shutil.copytree(TINY, tmp_path / "source")
    config.architectures = [architecture]
    config.save_pretrained(tmp_path / "source")
    with pytest.raises(InputError, match=f"model.source: .*source holds a {architecture}; .*ForCausalLM.*{said}"):
        build.make_base(str(tmp_path / "source"), tmp_path)


def test_a_kind_that_is_not_known(tmp_path: Path) -> None:
    """A model that this transformers does not have is named."""
    shutil.copytree(TINY, tmp_path / "source")
    file = tmp_path / "source/config.json"
    file.write_text(json.dumps({"architectures": ["NovelForConditionalGeneration"], "model_type": "novel"}))
    with pytest.raises(InputError, match=r"holds a NovelForConditionalGeneration; .*`novel`"):
        build.make_base(str(tmp_path / "source"), tmp_path)


def test_gpt_2(tmp_path: Path) -> None:
    """GPT-2's causal class is called otherwise, and is one."""
    source = tmp_path / "source"
    torch.manual_seed(0)
    shutil.copytree(TINY, source)
    config = transformers.GPT2Config(vocab_size=512, n_embd=32, n_layer=1, n_head=4, bos_token_id=2, eos_token_id=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(source)
    assert build.make_base(str(source), tmp_path).startswith("models/base: GPT2LMHeadModel; ")
    check_kind(str(tmp_path), "ForCausalLM", "sft.init")
