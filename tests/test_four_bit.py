"""Adapters on weights in 4 bit, and optimizers in 8 bit: with bitsandbytes, on its CPU's kernels.

It is no dependency of the project: the tests install it for themselves, unless it is there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from clone import ROOT, STAGES, Clone, micro_clone
from safetensors.torch import load_file
from test_lora import INIT

from llmrl import schema

LORA = {"rank": 4, "alpha": 8, "dropout": 0.1, "load_in_4bit": True}


@pytest.fixture(scope="module")
def bitsandbytes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder in which it is."""
    if found := importlib.util.find_spec("bitsandbytes"):
        return str(Path(found.origin).parents[1])
    folder = tmp_path_factory.mktemp("bitsandbytes")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = (str(folder / "venv/bin/pip"), "install", "-q", "--no-deps", "--require-hashes")  # torch is there
    required = Path(__file__).parent / "bitsandbytes-requirements.txt"
    subprocess.run([*pip, "--target", str(folder / "packages"), "-r", str(required)], check=True)
    return str(folder / "packages")


@pytest.fixture(scope="module")
def clone(bitsandbytes: str, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment with adapters on weights in 4 bit, run."""
    clone = micro_clone(tmp_path_factory.mktemp("four-bit") / "clone")
    clone.environment["PYTHONPATH"] = bitsandbytes
    clone.params(train={"lora": LORA, "lr": 0.01})
    clone.run("dvc", "repro")
    return clone


@pytest.fixture
def unchanged(clone: Clone) -> Iterator[Clone]:
    """The clone, with its settings brought back afterwards."""
    settings = (clone.folder / "params.yaml").read_bytes()
    yield clone
    (clone.folder / "params.yaml").write_bytes(settings)


def load(stage: str, folder: Path, **options: object) -> transformers.PreTrainedModel:
    """A model's folder by plain transformers."""
    if stage == "reward":
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **options)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_product_is_the_base_and_its_adapter(clone: Clone, stage: str) -> None:
    """It is whole and in float32, and its weights are the base's as they were before they were in 4 bit, plus the
    adapter's: exactly.
    """
    folder, init = clone.folder / "models" / stage, clone.folder / "models" / INIT[stage]
    saved, expected = load(stage, folder), load(stage, init, dtype="float32").state_dict()
    adapter = load_file(folder / "adapter/adapter_model.safetensors")
    for name, down in adapter.items():
        module = name.removeprefix("base_model.model.")
        if module.endswith("lora_A.weight"):
            up = adapter[name.replace("lora_A", "lora_B")]
            expected[module.replace("lora_A.", "")] += up @ down * 2
        elif "lora_B" not in module:
            expected[module] = down  # the reward model's head

    assert not hasattr(saved.config, "quantization_config")
    assert {torch.float32} == {one.dtype for one in saved.parameters()}
    assert sorted(expected) == sorted(saved.state_dict())
    assert [] == [name for name, value in saved.state_dict().items() if not torch.equal(expected[name], value)]


@pytest.mark.slow
def test_its_version_is_recorded(clone: Clone, bitsandbytes: str) -> None:
    """It decides the bytes of a model, and so what a run may resume from."""
    versions = json.loads((clone.folder / "models/sft/provenance.json").read_text())["versions"]
    (installed,) = Path(bitsandbytes).glob("bitsandbytes-*.dist-info")

    assert installed.name == f"bitsandbytes-{versions['bitsandbytes']}.dist-info"


def held(clone: Clone, stage: str) -> dict:
    """What the stage holds while it trains."""
    return json.loads(clone.run(sys.executable, "-m", "tests.four_bit", stage).splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_all_matrices_of_the_layers_are_in_4_bit(clone: Clone, stage: str) -> None:
    """Of the model that is trained alone; what is trained is in float32. Their bytes are those of the formula."""
    found = held(clone, stage)

    assert {"Linear4bit": 3 * 7} == found["matrices"]
    assert ([{"Linear": 3 * 7}] if stage == "grpo" else []) == found["reward model"]
    assert ["torch.float32"] == found["trained"]
    assert found["held"] == {name: found["expected"][name] for name in found["held"]}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "checkpointing"), [("fp32", True), ("bf16", False), ("bf16", True)])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_a_whole_training(bitsandbytes: str, tmp_path: Path, stage: str, precision: str, checkpointing: bool) -> None:
    """At the worst moment of TRL's trainer as many bytes of tensors live as the formula says, within a tenth."""
    given = f"Path({str(tmp_path)!r}), {stage!r}, {LORA}, {precision!r}, {checkpointing}"
    code = f"from pathlib import Path; import test_memory; print(*test_memory.whole_training({given}))"
    environment = os.environ | {"PYTHONPATH": f"{bitsandbytes}:{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    expected, live = map(int, done.stdout.splitlines()[-1].split())

    assert expected == pytest.approx(live, rel=0.1)


ARITHMETIC = """
import torch
from llmrl import answers, models
from test_arithmetic_of_answers import TINY

def asked(module, inputs, out):
    print(module.compute_dtype, end=" ")

model = models.load_policy(TINY, models.Loading(four_bit="float32"))
model.model.layers[0].mlp.up_proj.register_forward_hook(asked)
tokens = torch.ones(1, 4, dtype=torch.long)
for precision in ("bf16", "fp32"):
    with answers.answering(model, precision):
        model(tokens)
    model(tokens)
"""


@pytest.mark.slow
def test_answers_in_another_precision(bitsandbytes: str) -> None:
    """Weights in 4 bit are decoded into that of the answers while it answers, and into that of the training after."""
    environment = os.environ | {"PYTHONPATH": f"{bitsandbytes}:{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ARITHMETIC], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )

    assert ["torch.bfloat16", *["torch.float32"] * 3] == done.stdout.split()[-4:]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 64, "alpha": 64}, {"rank": 64, "alpha": 64, "load_in_4bit": True}])
@pytest.mark.parametrize("optim", ["adamw_bnb_8bit", "paged_adamw_8bit"])
def test_states_in_8_bit(unchanged: Clone, optim: str, lora: dict | None) -> None:
    """Weights, gradients and AdamW's states in 8 bit have the bytes of the formula, full and LoRA."""
    unchanged.params(train={"lora": lora, "optim": optim})
    found = held(unchanged, "sft")

    assert found["held"] == {name: found["expected"][name] for name in found["held"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "changes"), [("reward", {}), ("grpo", {}), ("sft", {"optim": "adamw_8bit", "lora": None})]
)
def test_killed_it_ends_in_the_same_bytes(unchanged: Clone, stage: str, changes: dict) -> None:
    """The weights are put in 4 bit anew, the adapters go on from the checkpoint; so does an optimizer in 8 bit."""
    unchanged.params(train=changes, run={"save_steps": 1})
    command, folder = (sys.executable, "-m", f"stages.{stage}"), unchanged.folder / "models" / stage
    if changes:
        unchanged.run(*command)
        shutil.rmtree(unchanged.folder / ".llmrl")
    undisturbed = {file.name: file.read_bytes() for file in folder.rglob("*.safetensors")}
    process = subprocess.Popen(command, cwd=unchanged.folder, env=unchanged.environment, stdout=subprocess.DEVNULL)
    checkpoint, end = f".llmrl/checkpoints/{stage}/*/*/step-2", time.monotonic() + 120
    while not (found := list(unchanged.folder.glob(checkpoint))) and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    weights = [file.name for file in found[0].glob("*.safetensors")]
    shutil.rmtree(folder)

    assert ["model.safetensors" if changes else "adapter_model.safetensors"] == weights
    assert "from step 2" in unchanged.run(*command)
    assert undisturbed == {file.name: file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_optimizers_that_take_a_package_are_known() -> None:
    """Those that transformers has from bitsandbytes, and no other, take it; so for what is in their names."""
    from transformers import trainer_optimizer as theirs

    lists = {
        "bitsandbytes": theirs._BITSANDBYTES_OPTIMIZERS,
        "galore-torch": theirs._GALORE_OPTIMIZERS,
        "apollo-torch": theirs._APOLLO_OPTIMIZERS,
        "torchao": theirs._TORCHAO_OPTIMIZERS,
        "schedulefree": theirs._SCHEDULE_FREE_OPTIMIZERS,
    }
    for package, names in lists.items():
        known = schema.enumerated("training_args.py", "OptimizerNames")
        assert {name.value for name in names} == {one for one in known if schema.optimizer_packages(one) == [package]}
