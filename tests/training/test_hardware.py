"""What is decided for a device, and how torch is set up for it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from small import TINY, settings

from llmrl.errors import InputError
from llmrl.training import hardware

GROWS = "expandable_segments:True"


@pytest.mark.parametrize(
    ("vllm", "given", "expected"),
    [
        (False, {}, {"PYTORCH_ALLOC_CONF": GROWS}),
        (True, {}, {"PYTORCH_ALLOC_CONF": GROWS, "PYTORCH_CUDA_ALLOC_CONF": GROWS}),
        (True, {"PYTORCH_ALLOC_CONF": "x"}, {"PYTORCH_ALLOC_CONF": "x"}),
        (False, {"PYTORCH_CUDA_ALLOC_CONF": "x"}, {"PYTORCH_CUDA_ALLOC_CONF": "x"}),
    ],
)
def test_memory_that_grows_where_it_lies(monkeypatch, vllm, given, expected):
    """vLLM, which must switch it off around its own, reads torch's older variable alone; a user's own choice stays."""
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    for name in names:
        monkeypatch.setenv(name, given.get(name, ""))
        if name not in given:
            monkeypatch.delenv(name)
    hardware.allocate(vllm)

    assert expected == {name: os.environ[name] for name in names if name in os.environ}


@pytest.fixture
def cpu(monkeypatch):
    """No GPU, and threads as they are afterwards."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("cpu")
def test_no_attention_of_cudnn_s():
    """Where a stage has looked for its device, torch does not choose it."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    hardware.detect(settings("sft", {"init": TINY}))

    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_precision_that_is_not_there(stage):
    """Neither to train in nor to answer in; each is named by its setting."""
    chosen = settings(stage, {"init": TINY})
    half = replace(chosen, own=replace(chosen.own, precision="fp16"))
    answering = replace(chosen, answers=replace(chosen.answers, precision="fp16"))

    assert ("fp32", "fp32") == (hardware.detect(chosen).precision, hardware.detect(chosen).answers)
    with pytest.raises(InputError, match=r"params.yaml: precision: fp16 is not to be had on CPU"):
        hardware.detect(half)
    with pytest.raises(InputError, match=r"params.yaml: answers.precision: fp16 is not to be had on CPU"):
        hardware.detect(answering)


@pytest.mark.parametrize(
    ("config", "kind", "asked", "expected"),
    [
        ({"model_type": "llama"}, "cuda", "auto", "cuda_graphs"),
        ({"model_type": "llama"}, "cuda", "auto, full_determinism", "transformers"),
        ({"model_type": "llama"}, "cuda", "cuda_graphs, full_determinism", "cuda_graphs"),
        ({"model_type": "llama"}, "cuda", "transformers", "transformers"),
        ({"model_type": "llama"}, "cpu", "auto", "transformers"),
        ({"model_type": "gemma3_text"}, "cuda", "auto", "transformers"),
        ({"model_type": "llama"}, "cpu", "cuda_graphs", "it would run on cpu"),
        ({"model_type": "gemma3_text"}, "cuda", "cuda_graphs", "is of type gemma3_text"),
    ],
)
def test_what_decodes(tmp_path, config, kind, asked, expected):
    """By the model and the device, or as is asked; what cannot be is refused."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine, _, exact = asked.partition(", ")
    chosen = settings("sft", {"init": str(tmp_path)}, full_determinism=bool(exact))
    chosen = replace(chosen, answers=replace(chosen.answers, engine=engine))
    if " " in expected:
        with pytest.raises(InputError, match=f"params.yaml: answers.engine: cuda_graphs needs CUDA.*{expected}"):
            hardware.engine_on(chosen, kind)
    else:
        assert expected == hardware.engine_on(chosen, kind)


def test_a_reward_model_answers_nothing(tmp_path):
    """Whatever decodes the others' answers, no setting of `answers` is among what its stage goes by."""
    chosen = settings("reward", {"init": str(tmp_path)})
    assert "transformers" == hardware.engine_on(replace(chosen, answers=replace(chosen.answers, engine="auto")), "cuda")
