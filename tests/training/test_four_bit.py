"""Adapters on weights in 4 bit, and optimizers in 8 bit: with bitsandbytes, on its CPU's kernels.

It is no dependency of the project: the tests install it for themselves, unless it is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from clone import ROOT, STAGES, Clone, micro_clone
from safetensors.torch import load_file
from tensors import size, weights
from test_lora import INIT

from llmrl import params
from llmrl.memory import formula
from llmrl.memory.shape import Shape
from llmrl.models import loading
from llmrl.training import hardware, loop, options, rows
from llmrl.training.run import Run

LORA = {"rank": 4, "alpha": 8, "dropout": 0.1, "load_in_4bit": True}


# --- in a process of its own: transformers looks once whether bitsandbytes is there ----------------------------------


def matrices(model: torch.nn.Module) -> dict[str, int]:
    """The modules of a decoder's layers that multiply, by their class, and how many: adapters are within others."""
    found = (module for name, module in model.named_modules() if name.removesuffix(".base_layer").endswith("_proj"))
    return Counter(type(one).__name__ for one in found if not hasattr(one, "base_layer"))


class Look(transformers.TrainerCallback):
    """Notes the bytes of the gradients."""

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.gradients = size(one.grad for one in model.parameters())


def main(name: str) -> None:
    """Train a stage of the clone in which this runs, but for its figures and its product; print what it holds."""
    settings, look = params.experiment().stages[name], Look()
    tokenizer = loading.load_tokenizer(settings.own.init)
    train_rows, _ = rows.trained_on(settings, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "completions").mkdir()
        run = Run(
            settings=settings,
            hardware=hardware.detect(settings),
            tokenizer=tokenizer,
            train_rows=train_rows,
            eval_rows=train_rows,
            left_out=rows.LeftOut(),
            output_dir=Path(folder),
            name="run",
            callbacks=[look],
        )
        trainer = loop.constructed(importlib.import_module(f"stages.{name}").trainer, run, settings.own.init)
        trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    shape = Shape.of(json.loads((Path(settings.own.init) / "config.json").read_text()))
    found = {
        "matrices": matrices(trainer.model),
        "reward model": [matrices(judge) for judge in getattr(trainer, "reward_funcs", []) if hasattr(judge, "config")],
        "trained": sorted({str(one.dtype) for one in trainer.model.parameters() if one.requires_grad}),
        "held": {
            "weights": size(weights(trainer.model)),
            "gradients": look.gradients,
            "optimizer states": size(states),
        },
        "expected": formula.step(formula.Planned(shape, settings, run.hardware.precision))["update"],
    }
    print(json.dumps(found))


# --- the tests -------------------------------------------------------------------------------------------------------


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
    clone.environment["PYTHONPATH"] = f"{bitsandbytes}:{clone.folder}:{clone.folder / 'tests'}"
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


def said(bitsandbytes: str, code: str) -> str:
    """What a program prints that has bitsandbytes."""
    environment = os.environ | {"PYTHONPATH": f"{bitsandbytes}:{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)


def held(clone: Clone, stage: str) -> dict:
    """What the stage holds while it trains."""
    return json.loads(clone.run(sys.executable, "tests/training/test_four_bit.py", stage).splitlines()[-1])


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
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_a_whole_training(bitsandbytes: str, tmp_path: Path, stage: str) -> None:
    """At the worst moment of TRL's trainer as many bytes of tensors live as the formula says, within a tenth."""
    code = f"""
from pathlib import Path
import tensors
for precision, checkpointing in (("fp32", True), ("bf16", False), ("bf16", True)):
    folder = Path({str(tmp_path)!r}, precision, str(checkpointing))
    print("bytes", *tensors.whole_training(folder, {stage!r}, {LORA}, precision, checkpointing))
"""
    found = [line.split()[1:] for line in said(bitsandbytes, code).splitlines() if line.startswith("bytes ")]

    assert 3 == len(found)
    for expected, live in found:
        assert int(expected) == pytest.approx(int(live), rel=0.1)


ARITHMETIC = """
import torch
from llmrl.answers import generation
from llmrl.models import loading
from small import TINY

def asked(module, inputs, out):
    print(module.compute_dtype, end=" ")

model = loading.load_policy(TINY, loading.Loading(four_bit="fp32"))
model.model.layers[0].mlp.up_proj.register_forward_hook(asked)
tokens = torch.ones(1, 4, dtype=torch.long)
for precision in ("bf16", "fp32"):
    with generation.answering(model, precision):
        model(tokens)
    model(tokens)
"""


@pytest.mark.slow
def test_answers_in_another_precision(bitsandbytes: str) -> None:
    """Weights in 4 bit are decoded into that of the answers while it answers, and into that of the training after."""
    assert ["torch.bfloat16", *["torch.float32"] * 3] == said(bitsandbytes, ARITHMETIC).split()[-4:]


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
    unchanged.kill(stage, step=2)
    (checkpoint,) = unchanged.folder.glob(f".llmrl/checkpoints/{stage}/*/*/step-2")
    weights = [file.name for file in checkpoint.glob("*.safetensors")]
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
        known = options.choices("optim")
        assert {name.value for name in names} == {one for one in known if options.packages(one) == [package]}


if __name__ == "__main__":
    main(sys.argv[1])
