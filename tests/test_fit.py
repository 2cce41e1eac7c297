"""What is refused for want of memory, and what is proposed instead."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from test_memory import QWEN, SMOLLM2

from llmrl import combinations, fit, memory, params

ROOT = Path(__file__).parents[1]
SHAPE = memory.Shape.of(QWEN)
STAGES = ("sft", "reward", "dpo", "grpo")


def stage(name: str, **own: object) -> memory.Stage:
    """A stage of the Qwen profile, in bf16 on a GPU."""
    settings = params.stage(name, ROOT / "profiles/qwen2.5-0.5b.yaml")
    return memory.Stage(SHAPE, replace(settings, own=replace(settings.own, **own)), "bf16", "cuda", liger=True)


def grpo(**options: int) -> memory.Stage:
    """GRPO of the SmolLM2 profile with 48 completions at once and as a step, in float32 on a CPU."""
    settings = params.stage("grpo", ROOT / "profiles/smollm2-135m.yaml")
    own = replace(settings.own, batch=48, micro_batch=48)
    settings = replace(settings, own=own, trl=settings.trl | {"num_generations": 8} | options)
    return memory.Stage(memory.Shape.of(SMOLLM2), settings, "fp32")


def test_what_fits_is_not_refused() -> None:
    """Exactly the expected bytes are enough."""
    one = stage("sft")

    assert fit.refusal(one, fit.total(one), "run.memory_gib") is None
    assert fit.refusal(one, fit.total(one) - 1, "run.memory_gib") is not None


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(("profile", "config"), [("qwen2.5-0.5b", QWEN), ("smollm2-135m", SMOLLM2)])
def test_the_profiles_are_for_a_card_of_6_gb(profile: str, config: dict, name: str) -> None:
    """Which has 5.0 GiB left beside its display and CUDA itself. By arithmetic."""
    settings = params.stage(name, ROOT / f"profiles/{profile}.yaml")

    assert fit.total(memory.Stage(memory.Shape.of(config), settings, "bf16", "cuda", liger=True)) <= 5.0 * fit.GIB


def test_the_cheapest_change_comes_first() -> None:
    """A smaller micro-batch where that is enough, and the largest that is; adapters where nothing else is."""
    one = stage("sft", micro_batch=16)

    assert {"sft.micro_batch": 8} == fit.changes(one, fit.total(stage("sft", micro_batch=8)))
    assert ["sft.lora"] == list(fit.changes(stage("sft", micro_batch=1), 4 * fit.GIB))


def test_what_a_later_change_makes_needless_is_dropped() -> None:
    """With adapters, sft need not have its smallest micro-batch."""
    made = fit.changes(stage("sft", micro_batch=2), 4 * fit.GIB)

    assert ["sft.lora"] == list(made)


@pytest.mark.parametrize("gib", [3.5, 4.5, 6, 8, 12])
@pytest.mark.parametrize("name", STAGES)
def test_what_is_proposed_fits_and_is_taken(name: str, gib: float, tmp_path: Path) -> None:
    """DVC takes the printed options, the settings that come of them are valid, and take what was said."""
    one = stage(name)
    said = fit.refusal(one, gib * fit.GIB, "run.memory_gib")
    if said is None or "No setting is enough" in said:
        assert said is None or (name in ("dpo", "grpo") and gib == 3.5)  # dpo is measured beside its reference
        return
    options = re.findall(r"-S '(\S+)'", said)
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "profiles/qwen2.5-0.5b.yaml").read_bytes())
    apply_overrides(path, options)
    reached = fit.total(replace(one, settings=params.stage(name, path)))

    assert options
    assert gib * fit.GIB >= reached
    assert f"at {fit.size(reached)}" in said


@pytest.mark.parametrize(
    ("gib", "options"),
    [(2.67, {}), (2.67, {"generation_batch_size": 96}), (4, {"steps_per_generation": 4})],
)
def test_batches_of_what_is_proposed_go_together(gib: float, options: dict[str, int]) -> None:
    """Fewer completions at once and smaller micro-batches bear upon each other; what fits is what was tested."""
    one = grpo(**options)
    made = fit.changes(one, gib * fit.GIB)
    proposed = fit.changed(one, made).settings

    assert gib * fit.GIB >= fit.total(fit.changed(one, made))
    assert [] == list(combinations.batches("grpo", vars(proposed.own) | proposed.trl, 1))


def test_where_nothing_is_enough_that_is_said() -> None:
    """With the least that can be had."""
    said = fit.refusal(stage("dpo", lora=None), fit.GIB, "run.memory_gib")

    assert "No setting is enough" in said
    assert "++dpo.lora={rank:16,alpha:32}" in said
