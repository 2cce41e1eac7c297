"""`auto` becomes the largest micro-batch that fits, as arithmetic has it, and one number wherever it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from small import ROOT
from tensors import QWEN, SMOLLM2

from llmrl import params
from llmrl.devices import Machine
from llmrl.errors import InputError
from llmrl.memory import auto, formula
from llmrl.memory.shape import Shape
from llmrl.training.settings import Settings

GIB = 2**30
CONFIGS = {"qwen2.5-0.5b": QWEN, "smollm2-135m": SMOLLM2}


def card(gib: float, **told: Any) -> Machine:
    """A GPU of so many GiB."""
    return Machine("cuda", "a card", "bf16", generation=9, **{"total": int(gib * GIB)} | told)


def asking(
    stage: str,
    profile: str = "smollm2-135m",
    micro_batch: int | str = "auto",
    checkpointing: bool | str = "auto",
    memory_gib: float | None = None,
    processes: int = 1,
    **trl: object,
) -> Settings:
    """A profile's stage, with these of its settings."""
    found = params.experiment(ROOT / f"profiles/{profile}.yaml").stages[stage]
    own, run = replace(found.own, micro_batch=micro_batch), replace(found.run, memory_gib=memory_gib)
    trl = found.trl | {"gradient_checkpointing": checkpointing} | trl
    return replace(found, own=own, run=run, trl=trl, processes=processes)


def both(settings: Settings, device: Machine, profile: str = "smollm2-135m") -> tuple[int, bool]:
    """The micro-batch, and whether activations are computed twice."""
    found = auto.resolved(settings, CONFIGS[profile], device)
    assert [] == auto.left_open(found)
    return found.own.micro_batch, found.option("gradient_checkpointing")


@pytest.mark.parametrize(
    ("stage", "profile", "gib", "expected"),
    [
        ("sft", "smollm2-135m", 6, (16, True)),
        ("sft", "smollm2-135m", 24, (16, False)),  # 32 computed twice would fit, too
        ("sft", "smollm2-135m", 80, (32, False)),
        ("reward", "qwen2.5-0.5b", 24, (32, True)),
        ("dpo", "qwen2.5-0.5b", 80, (16, False)),
        ("grpo", "smollm2-135m", 80, (64, False)),
        ("grpo", "qwen2.5-0.5b", 80, (16, False)),  # all that are generated at once
    ],
)
def test_on_cards_of_these_sizes(stage: str, profile: str, gib: float, expected: tuple[int, bool]) -> None:
    """As many sequences as fit, of the whole batch; what is computed twice pays where it holds more than twice as many,
    and more would not fit.
    """
    settings, device = asking(stage, profile), card(gib)
    found = auto.resolved(settings, CONFIGS[profile], device)
    shape, most = Shape.of(CONFIGS[profile]), auto.room(settings, device)
    steps = formula.step(formula.on_machine(device, found, shape))
    larger = [size for size in auto.fractions(settings) if size > found.own.micro_batch]

    assert expected == both(settings, device, profile)
    assert max(map(formula.total, steps.values())) <= most < (gib - 1) * GIB
    for size in larger:
        assert most < auto.training(auto.with_both(found, size, expected[1]), shape, device)


def test_one_of_the_two() -> None:
    """A number stays as it is written, and so does a way."""
    assert (4, False) == both(asking("sft", micro_batch=4), card(24))
    assert (32, True) == both(asking("sft", micro_batch=32), card(8))
    assert (4, False) == both(asking("sft", checkpointing=False), card(8))
    assert (32, True) == both(asking("sft", checkpointing=True), card(80))
    written = asking("sft", micro_batch=4, checkpointing=True)
    assert written is auto.resolved(written, {"model_type": "mamba"})


def test_what_it_goes_by() -> None:
    """All that the device has, and not what is free just then; `run.memory_gib` before that; of several processes'
    batch each one's share; and of a machine without a GPU half.
    """
    assert both(asking("sft"), card(24)) == both(asking("sft"), card(24, memory=3 * GIB))
    assert (32, True) == both(asking("sft", memory_gib=5.5), card(80))
    assert (8, False) == both(asking("sft", processes=4), card(80))
    assert (4, False) == both(asking("grpo", processes=4, generation_batch_size=48), card(80))
    cpu = Machine("cpu", "CPU")
    half = psutil.virtual_memory().total / 2
    assert half == auto.room(asking("sft"), cpu) == 2 * auto.room(asking("sft", processes=2), cpu)
    assert both(asking("sft"), cpu) == both(asking("sft", memory_gib=half / GIB), cpu)


def test_where_nothing_fits() -> None:
    """It is the largest of what takes least, and the stage says of it what a written number would be told."""
    assert (1, True) == both(asking("sft", memory_gib=1), card(24))
    for memory_gib, gib in ((1, 24), (None, 6)):  # the update takes the most, with two sequences as with one
        assert (2, True) == both(asking("sft", "qwen2.5-0.5b", memory_gib=memory_gib), card(gib), "qwen2.5-0.5b")


@pytest.mark.parametrize(
    ("asked", "config", "device", "said"),
    [
        (
            {},
            {"model_type": "mamba"},
            card(24),
            "params.yaml: micro_batch and gradient_checkpointing: auto goes by the memory a model takes, which is not "
            "known of one of type mamba. Write a number, and true or false.",
        ),
        (
            {"checkpointing": True},
            SMOLLM2,
            card(24, total=None),
            "params.yaml: micro_batch: auto goes by the memory of the device, of which nvidia-smi tells nothing (a "
            "card). Set run.memory_gib, or write a number.",
        ),
    ],
)
def test_nothing_to_go_by(asked: dict[str, Any], config: dict[str, Any], device: Machine, said: str) -> None:
    """Then it is refused, with what to write."""
    with pytest.raises(InputError) as refused:
        auto.resolved(asking("sft", **asked), config, device)

    assert said == str(refused.value)


def test_another_device_than_it_went_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nvidia-smi tells of no GPU and torch finds one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = asking("sft", checkpointing=True)
    found = auto.resolved(settings, SMOLLM2, Machine("cpu", "CPU"))
    with pytest.raises(InputError, match=r"micro_batch: auto went by cpu, .* on cuda\. Write a number\."):
        auto.require_alike(settings, found, "cuda")

    auto.require_alike(found, found, "cuda")  # which asks for nothing


def test_the_same_rule_in_the_file(tmp_path: Path) -> None:
    """What params.yaml says in `train` is what all stages ask for; whose micro-batches cannot be counted is refused."""
    text = (ROOT / "profiles/smollm2-135m.yaml").read_text()
    text = text.replace("  micro_batch: 4\n", "").replace("  micro_batch: 4 ", "  micro_batch: auto ")
    (tmp_path / "params.yaml").write_text(text.replace("gradient_checkpointing: true", "gradient_checkpointing: auto"))
    stages = params.experiment(tmp_path / "params.yaml").stages

    assert {name: [*auto.WRITTEN] for name in stages} == {name: auto.left_open(one) for name, one in stages.items()}
    text = text.replace("  num_generations:", "  steps_per_generation: 4\n  num_generations:")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"grpo\.steps_per_generation counts micro-batches: auto would decide"):
        params.experiment(tmp_path / "params.yaml")


def test_what_decodes() -> None:
    """As a stage would choose it: cuda_graphs on a GPU for decoders that attend to all, unless it is told otherwise."""
    settings, windowed = asking("sft", micro_batch=4, checkpointing=True), QWEN | {"model_type": "mistral"}
    told = replace(settings, answers=replace(settings.answers, engine="transformers"))
    engines = [
        formula.on_machine(device, one, Shape.of(config)).engine
        for device, one, config in (
            (card(24), settings, SMOLLM2),
            (card(24), told, SMOLLM2),
            (card(24), settings, windowed | {"sliding_window": 4096, "use_sliding_window": True}),
            (Machine("cpu", "CPU"), settings, SMOLLM2),
        )
    ]

    assert ["cuda_graphs", "transformers", "transformers", "transformers"] == engines
