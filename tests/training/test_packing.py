"""Documents packed into one row do not attend to each other: each has the loss and the gradient that it has alone."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import small
import torch
import transformers
from tensors import SMALL
from torch._subclasses.fake_tensor import FakeTensorMode

from llmrl.fields import fields_of
from llmrl.memory import shape
from llmrl.models import attention, loading
from llmrl.training.settings import TrainSettings
from stages import sft

# Weights so large that every token looks at others, and a leak shows.
NARROW = SMALL | {"hidden_size": 32, "intermediate_size": 64, "head_dim": 8, "initializer_range": 0.3}
FAMILIES = {family: {} for family in shape.FAMILIES} | {
    "mistral": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
}
TRAINED = ("eager", "sdpa", None)  # None: what transformers chooses
LONG = (3, 21, 9, 14, 2, 17, 30, 5, 11, 8)


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model of random weights, with the tokenizer of the built-in one."""
    torch.manual_seed(1)
    tokenizer = loading.load_tokenizer(small.TINY)
    values = NARROW | {"model_type": request.param, "vocab_size": len(tokenizer)} | FAMILIES[request.param]
    shutil.copytree(small.TINY, tmp_path / "model")
    config = transformers.AutoConfig.for_model(**values)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def trainer(folder: Path, attention: str | None, **options: Any) -> Any:
    """The stage's trainer on a few conversations of different lengths, all in one batch."""
    rows = [
        {"messages": [{"role": "user", "content": "1" * n}, {"role": "assistant", "content": "7" * (n // 2 + 1)}]}
        for n in LONG
    ]
    own = {"attn_implementation": attention, "batch": 8, "micro_batch": 8}
    chosen = small.settings("sft", own, **{"max_length": 96, "per_device_eval_batch_size": 8} | options)
    run = small.run(folder.parent / "run", chosen, rows)
    return sft.trainer(run, str(folder))


def alone(folder: Path, attention: str | None) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss of all answers' tokens, each document by itself, and its gradients."""
    found = trainer(folder, attention)
    model, rows = found.model.eval(), found.train_dataset
    counted = sum(label != -100 for row in rows for label in row["labels"][1:])
    total = torch.zeros(())
    for row in rows:
        logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        total = total + torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / counted
    total.backward()
    return total.item(), {name: one.grad for name, one in model.named_parameters()}


def packed(folder: Path, attention: str | None, **options: Any) -> tuple[float, float, dict[str, torch.Tensor]]:
    """The loss of TRL's evaluation, and that of a training batch with its gradients, where documents are packed."""
    found = trainer(folder, attention, packing=True, **options)
    (batch,) = found.get_train_dataloader()
    assert len(LONG) > len(found.train_dataset)
    held_out = found.evaluate()["eval_loss"]
    loss = found.compute_loss(found.model.train(), batch)
    loss.backward()
    return held_out, loss.item(), {name: one.grad for name, one in found.model.named_parameters()}


@pytest.mark.parametrize(("attention", "checkpointing"), [("eager", False), ("sdpa", True), (None, False)])
def test_packed_documents_learn_as_alone(folder: Path, attention: str | None, checkpointing: bool) -> None:
    """Loss, held-out loss and every gradient are those of the documents by themselves."""
    expected, gradients = alone(folder, attention)
    held_out, loss, found = packed(folder, attention, gradient_checkpointing=checkpointing)

    assert (held_out, loss) == pytest.approx((expected, expected), abs=1e-5)
    torch.testing.assert_close(found, gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder", ["llama", "qwen2"], indirect=True)
def test_documents_that_are_split_keep_apart(folder: Path) -> None:
    """bfd_split cuts only what is longer than a row."""
    expected, _ = alone(folder, "sdpa")
    held_out, loss, _ = packed(folder, "sdpa", packing_strategy="bfd_split")

    assert (held_out, loss) == pytest.approx((expected, expected), abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch compiles flex_attention for a CPU with c++")
@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_flex_attention_keeps_documents_apart(folder: Path) -> None:
    """By the held-out loss; on a CPU torch has no backward pass of it."""
    expected, _ = alone(folder, "sdpa")

    assert expected == pytest.approx(trainer(folder, "flex_attention", packing=True).evaluate()["eval_loss"], abs=1e-5)


@pytest.mark.parametrize("folder", ["llama", "qwen2"], indirect=True)
@pytest.mark.parametrize("leaking", [{"packing": True, "packing_strategy": "wrapped"}, {"eval_packing": True}])
def test_a_leak_would_show(folder: Path, leaking: dict) -> None:
    """What params.yaml may not ask for: the loss is another one."""
    expected, _ = alone(folder, "sdpa")

    assert abs(expected - trainer(folder, "sdpa", **leaking).evaluate()["eval_loss"]) > 0.01


def one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    _: torch.Tensor,
    longest: int,
    __: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    **_grouped: bool,
) -> torch.Tensor:
    """What torch's kernel computes, of (T, heads, size) by (T, key heads, size): one document, one score at a time."""
    found, shared = [], query.shape[1] // key.shape[1]
    assert longest == starts.diff().max()
    for start, end in pairwise(starts.tolist()):
        q, k, v = (one[start:end].transpose(0, 1) for one in (query, key, value))  # (heads, tokens, size)
        k, v = (one.repeat_interleave(shared, 0) for one in (k, v))
        back = torch.arange(end - start)[:, None] - torch.arange(end - start)
        seen = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(~seen.to(q.device), -torch.inf)
        found.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_varlen_is_told_of_each_document(folder: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: bool) -> None:
    """Which tokens are a document's, and how far back its layers look; torch's kernel itself needs CUDA."""
    expected, gradients = alone(folder, "sdpa")
    monkeypatch.setattr(attention.varlen, "varlen_attn", one_by_one)
    held_out, loss, found = packed(folder, "varlen", gradient_checkpointing=checkpointing)

    assert (held_out, loss) == pytest.approx((expected, expected), abs=1e-5)
    torch.testing.assert_close(found, gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder", ["llama", "qwen2"], indirect=True)
def test_varlen_without_packed_documents_is_sdpa(folder: Path) -> None:
    """Padded rows, and answers, which have a cache."""
    texts, losses = [], []
    for way in ("sdpa", "varlen"):
        found = trainer(folder, way)
        losses.append(found.evaluate()["eval_loss"])
        rows = torch.tensor([[0, 0, 5, 6, 7], [3, 4, 5, 6, 7]])
        mask = (rows > 0).long()
        texts.append(found.model.generate(rows, attention_mask=mask, max_new_tokens=8, do_sample=False).tolist())

    assert losses[0] == losses[1]
    assert texts[0] == texts[1]


def qkv(device: str) -> tuple[Any, dict[str, Any]]:
    """Queries, keys and values of three documents in half precision, and what says where these begin."""
    torch.manual_seed(1)
    made = [torch.randn(1, heads, 200, 64, device=device, dtype=torch.bfloat16) for heads in (6, 2, 2)]
    starts = torch.tensor([0, 70, 71, 200], dtype=torch.int32, device=device)
    return [one.requires_grad_() for one in made], {"cu_seq_lens_q": starts, "max_length_q": 129}


def test_torch_s_kernel_takes_what_it_is_given() -> None:
    """By shapes and types alone, forward and backward: in the precision of the training, whatever the layers gave."""
    with FakeTensorMode():
        made, told = qkv("cpu")
        made = [one.detach().float().requires_grad_() for one in made]
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = attention.attend(torch.nn.Module(), *made, None, scaling=0.125, sliding_window=16, **told)
        found.sum().backward()

    assert ((1, 200, 6, 64), torch.bfloat16) == (found.shape, found.dtype)
    assert [one.shape for one in made] == [one.grad.shape for one in made]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("window", [None, 16])
def test_torch_s_kernel_keeps_documents_apart(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs and gradients are those that are computed score by score, up to the precision."""
    both = []
    for exact in (False, True):
        if exact:
            monkeypatch.setattr(attention.varlen, "varlen_attn", one_by_one)
        made, told = qkv("cuda")
        found, _ = attention.attend(torch.nn.Module(), *made, None, scaling=0.125, sliding_window=window, **told)
        found.float().square().sum().backward()
        both.append([found.detach(), *(one.grad for one in made)])

    torch.testing.assert_close(*both, atol=5e-2, rtol=5e-2)


def test_every_admitted_attention_is_tested() -> None:
    """No other can be asked for, packed or not."""
    assert {*TRAINED, "flex_attention", "varlen"} == {None, *fields_of(TrainSettings)["attn_implementation"].choices}
