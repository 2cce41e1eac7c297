"""Adapters in every stage: trained in place of the weights, merged when saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
from clone import STAGES, Clone, micro_clone
from small import TINY, made

from llmrl import graph
from llmrl.models.loading import load_classifier, load_policy
from llmrl.models.saving import left_by_rounding, save
from llmrl.training.settings import Lora
from llmrl.work import Work

LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}
INIT = {"sft": "base", "reward": "sft", "dpo": "sft", "grpo": "dpo"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment with adapters, run."""
    clone = micro_clone(tmp_path_factory.mktemp("lora") / "clone")
    clone.params(train={"lora": LORA, "lr": 0.01})
    clone.run("dvc", "repro")
    return clone


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_policy(str(folder)).state_dict()


@pytest.mark.parametrize("stage", STAGES)
def test_merged_it_answers_as_unmerged(clone: Clone, stage: str) -> None:
    """The saved model, and the model it came from with the adapter that lies beside, give the same logits."""
    folder, init = clone.folder / "models" / stage, str(clone.folder / "models" / INIT[stage])
    load = load_policy if stage != "reward" else lambda path: load_classifier(path, seed=1)
    tokens = torch.tensor([[5, 9, 17, 4, 30, 12]])
    with torch.inference_mode():
        merged = load(str(folder)).eval()(tokens).logits
        without = load(init).eval()(tokens).logits
        unmerged = peft.PeftModel.from_pretrained(load(init), folder / "adapter").eval()(tokens).logits

    assert not torch.allclose(without, merged, atol=1e-3)
    torch.testing.assert_close(unmerged, merged, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_adapter_is_kept(clone: Clone, stage: str) -> None:
    """Beside the weights, with nothing that differs between two equal runs."""
    folder = clone.folder / "models" / stage / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text())

    assert {"adapter_config.json", "adapter_model.safetensors"} == {file.name for file in folder.iterdir()}
    assert (4, 8, 0.1) == (config["r"], config["lora_alpha"], config["lora_dropout"])
    assert sorted(config["target_modules"]) == config["target_modules"]
    assert f"models/{INIT[stage]}" == config["base_model_name_or_path"]


def test_the_reward_model_s_head_is_trained(clone: Clone) -> None:
    """It is new, and too small for an adapter."""
    new = load_classifier(str(clone.folder / "models/sft"), seed=1).score.weight
    trained = load_classifier(str(clone.folder / "models/reward"), seed=1).score.weight

    assert not torch.equal(new, trained)


def test_dpo_starts_at_its_reference(clone: Clone) -> None:
    """The reference is the model with the adapter off, from which the untrained policy does not differ."""
    before = clone.figures("dpo")

    assert 0.0 == before["margin_before"]
    assert 0.0 != before["margin"]
    assert 0.0 == before["accuracy_before"]  # no chosen answer is preferred yet


def test_only_the_adapter_is_trained(clone: Clone) -> None:
    """What has no adapter is as it was: embeddings, norms."""
    base, sft = weights(clone.folder / "models/base"), weights(clone.folder / "models/sft")

    assert all(torch.equal(base[name], sft[name]) for name in base if "proj" not in name)
    assert any(not torch.equal(base[name], sft[name]) for name in base if "proj" in name)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_it_ends_in_the_same_bytes(clone: Clone, stage: str) -> None:
    """Adapter, optimizer and dropout's random state go on from the checkpoint."""
    clone.params(run={"save_steps": 1})
    folder = clone.folder / "models" / stage
    undisturbed = {file.name: file.read_bytes() for file in folder.rglob("*.safetensors")}
    clone.kill(stage, step=2)
    shutil.rmtree(folder, ignore_errors=True)

    assert "from step 2" in clone.run("python", "-m", f"stages.{stage}")
    assert undisturbed == {file.name: file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_a_small_update_survives_the_merge(tmp_path: Path) -> None:
    """In float32, in which adapters are merged; what is saved in bfloat16 is wrong by about as much as they change."""
    init, tokens = TINY, torch.tensor([[5, 9, 17, 4, 30, 12]])
    share = {}
    for merge in ("float32", "bfloat16"):
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False)
        torch.manual_seed(1)
        model = peft.get_peft_model(load_policy(init), config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.mul_(1e-4)
        save(model, init, tmp_path / merge, {}, Lora(rank=2, alpha=8, merge=merge))
        with torch.inference_mode():
            without = load_policy(init).eval()(tokens).logits
            unmerged = peft.PeftModel.from_pretrained(load_policy(init), tmp_path / merge / "adapter").eval()
            merged = load_policy(str(tmp_path / merge)).eval()(tokens).logits
            change = unmerged(tokens).logits - without
        share[merge] = ((without + change - merged).norm() / change.norm()).item()

    assert share["float32"] < 0.05
    assert share["bfloat16"] > 0.5


@pytest.mark.parametrize(
    ("scale", "precision", "low", "high"),
    [
        (1e-6, "fp32", 0.98, 1.02),
        (1e-6, "bf16", 0.0, 0.1),
        (1.0, "bf16", 0.9, 1.1),
        (1e-6, "fp16", 0.0, 0.2),
    ],
)
def test_what_rounding_leaves_of_adapters(
    tmp_path: Path, scale: float, precision: str, low: float, high: float
) -> None:
    """Of weights that were published in half precision little adds nothing, where the sum is rounded to it."""
    policy = made(tmp_path, "sft", {"lora": Lora(rank=4, alpha=8)})[0].model
    assert left_by_rounding(policy, precision) is None
    adapted(policy, scale)

    assert low <= left_by_rounding(policy, precision) <= high


def adapted(policy: torch.nn.Module, scale: float) -> None:
    """Have adapters add something of this scale to weights that half precision holds."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, values in policy.named_parameters():
            if "lora_B" in name:
                values.normal_(0, scale)
            elif "lora_A" not in name:
                values.copy_(values.to(torch.float16).bfloat16())


def test_each_setting_that_rounds_adapters_away_is_told(tmp_path: Path) -> None:
    """Both, where they ask for one precision: to change the one alone would not help."""
    lora, said = Lora(rank=4, alpha=8, merge="bfloat16"), []
    trainer, run = made(tmp_path, "sft", {"lora": lora}, answers="bf16")
    adapted(trainer.model, 1e-6)
    folder = SimpleNamespace(terminal=SimpleNamespace(show=lambda text: said.append(str(text))))
    work = SimpleNamespace(settings=run.settings, run=run, stage=graph.STAGES["sft"], folder=folder)
    Work.tell_rounding(work, trainer.model)

    settings = [setting for text in said for setting in ("lora.merge", "answers.precision") if setting in text]
    assert ["lora.merge", "answers.precision"] == settings


@pytest.mark.slow
def test_what_it_loses_is_said(tmp_path: Path) -> None:
    """Where a stage ends whose adapters move its weights by less than the precision of the saved model tells."""
    clone = micro_clone(tmp_path / "clone")
    clone.params(train={"lora": LORA | {"merge": "bfloat16"}, "lr": 1e-6})
    for stage in ("sft", "reward"):
        clone.run("dvc", "repro", stage)
    said = (clone.runs()[-1]["folder"] / "console.log").read_text()

    assert "of what the adapters add to the weights is left (lora.merge, in which the model is saved)" in said
