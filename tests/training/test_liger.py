"""Liger's kernels of the layers, computed by Triton's interpreter, against torch's own layers: both on the CPU.

Norms, rotation and feed-forward part, as llmrl.models.loading applies them. Not in bfloat16: numpy has none, so
Triton's interpreter multiplies its bits as whole numbers. float16 has the same changes of precision between a layer's
parts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch
import transformers

from bench import inputs
from llmrl.models import loading

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="Liger is a dependency on Linux alone"),
]

ROOT = Path(__file__).parents[2]
CASES = [
    *product(inputs.MODELS, ("policy", "classifier"), ("full", "lora"), ("float32",)),
    *product(inputs.MODELS, ("policy",), ("full", "lora"), ("float16",)),
]
# The largest differences seen are 4e-6 and 6e-3.
TOLERANCE = {"float32": 2e-5, "float16": 2e-2}
LAYERS = 2
SMALL = {
    "num_hidden_layers": LAYERS,
    "intermediate_size": 100,  # as most sizes here no power of two, to which a kernel's blocks are rounded up
    "vocab_size": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
    "initializer_range": 0.1,  # at such a width, gradients of all weights that count
    "rms_norm_eps": 0.01,  # enough to be missed
}
ROWS = torch.tensor([[9, 22, 0], [5, 61, 17]])  # the last ends in no padding, whose gradients are zero


# --- in a process of its own: whether Triton compiles or interprets is decided when it is imported -------------------


def complete_interpreter() -> None:
    """Have the interpreter do two things that Triton's compiler does and it does not; no kernel is changed."""
    import numpy as np
    import triton.language as tl
    from triton.language.extra import libdevice
    from triton.runtime import interpreter

    # A function without a body, which a compiler replaces by the device's own.
    libdevice.rsqrt = lambda x: tl.math.rsqrt(x)  # looked up when called, as the interpreter replaces it meanwhile

    # A number that a kernel is called with: a float stays Python's, which has no `.to(tl.float32)`.
    convert = interpreter._implicit_cvt

    def converted(value: object) -> object:
        if isinstance(value, float):
            return tl.tensor(interpreter.TensorHandle(np.array([value], np.float32), tl.float32), tl.float32)
        return convert(value)

    interpreter._implicit_cvt = converted


def count_launches() -> Counter[str]:
    """How often each kernel of the layers is interpreted from now on."""
    from liger_kernel.ops import rms_norm, rope, swiglu
    from triton.runtime.interpreter import InterpretedFunction

    launches: Counter[str] = Counter()
    for name, kernel in {**vars(rms_norm), **vars(rope), **vars(swiglu)}.items():
        if isinstance(kernel, InterpretedFunction):
            kernel.add_pre_run_hook(lambda *_, name=name, **__: launches.update([name]))
    return launches


def make(profile: str, folder: Path) -> None:
    """A profile's model with its heads, but narrow."""
    shape = inputs.MODELS[profile] | SMALL
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**shape | {"hidden_size": 8 * shape["num_attention_heads"]})
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # all alike at first
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def step(
    folder: Path, kind: str, trained: str, precision: str, how: loading.Loading
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a model on two rows, and its gradients."""
    import peft

    policy = kind == "policy"
    model = loading.load_policy(str(folder), how) if policy else loading.load_classifier(str(folder), 1, how)
    if trained == "lora":
        torch.manual_seed(2)
        # Random, as on adapters of zeros most gradients are zero.
        config = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
        task = "CAUSAL_LM" if policy else "SEQ_CLS"
        model = peft.get_peft_model(model, peft.LoraConfig(task_type=task, **config))
    rows = {"input_ids": ROWS, "attention_mask": (ROWS != SMALL["pad_token_id"]).long()}
    with torch.autocast("cpu", torch.float16, enabled=precision == "float16"):
        if policy:
            loss = model(**rows, labels=ROWS.masked_fill(rows["attention_mask"] == 0, -100)).loss
        else:
            chosen, rejected = model(**rows).logits.squeeze()
            loss = -torch.nn.functional.logsigmoid(chosen - rejected)
    loss.backward()
    return loss.item(), {name: one.grad for name, one in model.named_parameters() if one.requires_grad}


def main(folder: Path) -> None:
    """Write what each case gives, with torch's layers and with Liger's, into the folder's found.json."""
    complete_interpreter()
    launches = count_launches()
    for profile in inputs.MODELS:
        make(profile, folder / profile)

    def steps(how: loading.Loading) -> list[tuple[float, dict[str, torch.Tensor], Counter[str]]]:
        found = []
        for profile, *case in CASES:
            launches.clear()
            found.append((*step(folder / profile, *case, how), launches.copy()))
        return found

    # In this order: Liger's rotation takes the place of that of all models.
    expected, actual = steps(loading.PLAIN), steps(loading.Loading(liger=True))
    found = [
        {
            "losses": (loss, liger_loss),
            "gradients": {
                name: float((liger_gradients[name] - one).abs().max() / one.abs().max())
                for name, one in gradients.items()
            },
            "launches": (counts, liger_counts),
        }
        for (loss, gradients, counts), (liger_loss, liger_gradients, liger_counts) in zip(expected, actual, strict=True)
    ]
    (folder / "found.json").write_text(json.dumps(found))


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], dict]:
    """What each case gave."""
    folder = tmp_path_factory.mktemp("liger")
    own = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run((sys.executable, __file__, str(folder)), env={**os.environ, **own}, check=True)
    return dict(zip(CASES, json.loads((folder / "found.json").read_text()), strict=True))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_liger_s_kernels_compute_what_torch_s_layers_do(found: dict, case: tuple[str, ...]) -> None:
    """The loss is the same, and so is each gradient, in proportion to its largest number."""
    tolerance = TOLERANCE[case[-1]]
    loss, liger_loss = found[case]["losses"]
    # Neither is a difference that is no number below any.
    apart = {name: one for name, one in found[case]["gradients"].items() if not one < tolerance}

    assert loss == pytest.approx(liger_loss, rel=tolerance)
    assert {} == apart


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_all_layers_are_computed_by_kernels(found: dict, case: tuple[str, ...]) -> None:
    """Every norm, rotation and feed-forward part is one launch forwards and one back, and with torch's layers none."""
    norms = 2 * LAYERS + 1
    expected = {
        "_rms_norm_forward_kernel": norms,
        # Before the first norm, adapters leave nothing to train.
        "_rms_norm_backward_kernel": norms - (case[2] == "lora"),
        "_triton_rope": 2 * LAYERS,
        "_swiglu_forward_kernel": LAYERS,
        "_swiglu_backward_kernel": LAYERS,
    }

    assert [{}, expected] == found[case]["launches"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
