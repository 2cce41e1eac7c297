"""What is refused for want of memory, and what is proposed instead."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from bench.inputs import MODELS
from llmrl import params
from llmrl.graph import STAGES
from llmrl.memory.formula import Planned, needed
from llmrl.memory.shape import Shape
from llmrl.params import combinations
from llmrl.plan import fit

ROOT = Path(__file__).parents[2]
PROFILES = {name: params.experiment(ROOT / f"profiles/{name}.yaml").stages for name in MODELS}


def planned(name: str, profile: str = "qwen2.5-0.5b", **own: object) -> Planned:
    """A stage of a profile, in bf16 on a GPU."""
    settings = PROFILES[profile][name]
    chosen = replace(settings, own=replace(settings.own, **own))
    return Planned(Shape.of(MODELS[profile]), chosen, "bf16", "cuda", liger=True)


def grpo(**options: int) -> Planned:
    """GRPO of the SmolLM2 profile with 48 completions at once and as a step, in float32 on a CPU."""
    settings = PROFILES["smollm2-135m"]["grpo"]
    own = replace(settings.own, batch=48, micro_batch=48)
    settings = replace(settings, own=own, trl=settings.trl | {"num_generations": 8} | options)
    return Planned(Shape.of(MODELS["smollm2-135m"]), settings, "fp32")


def test_what_fits_is_not_refused() -> None:
    """Exactly the expected bytes are enough."""
    one = planned("sft")

    assert fit.shortage(one, needed(one), "run.memory_gib") is None
    assert fit.shortage(one, needed(one) - 1, "run.memory_gib") is not None


def test_what_is_resident_beside_the_tensors() -> None:
    """On a CPU a process holds Python and its libraries too; of a GPU's memory that is nothing."""
    assert fit.breakdown(grpo()).endswith("; beside them the process, 0.90 GiB)")
    assert "beside" not in fit.breakdown(planned("grpo"))


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("profile", MODELS)
def test_the_profiles_are_for_a_card_of_6_gb(profile: str, name: str) -> None:
    """Which has 5.0 GiB left beside its display and CUDA itself. By arithmetic."""
    assert needed(planned(name, profile)) <= 5.0 * fit.GIB


@pytest.mark.parametrize("recipe", ["sums", "gsm8k"])
def test_so_are_the_recipes(recipe: str) -> None:
    """Recorded graphs of generating and all."""
    if recipe == "sums":
        pytest.importorskip("reasoning_gym")
    how = {"precision": "bf16", "kind": "cuda", "liger": True, "engine": "cuda_graphs"}
    for settings in params.experiment(ROOT / f"profiles/{recipe}-smollm2-135m.yaml").stages.values():
        assert needed(Planned(Shape.of(MODELS["smollm2-135m"]), settings, **how)) <= 5.0 * fit.GIB


def test_the_cheapest_change_comes_first() -> None:
    """A smaller micro-batch where that is enough, and the largest that is; adapters where nothing else is."""
    one = planned("sft", micro_batch=16)

    assert {"sft.micro_batch": 8} == fit.changes(one, needed(planned("sft", micro_batch=8)))
    assert ["sft.lora"] == list(fit.changes(planned("sft", micro_batch=1), 4 * fit.GIB))


def test_what_a_later_change_makes_needless_is_dropped() -> None:
    """With adapters, sft need not have its smallest micro-batch."""
    made = fit.changes(planned("sft", micro_batch=2), 4 * fit.GIB)

    assert ["sft.lora"] == list(made)


@pytest.mark.parametrize("gib", [3.5, 4.5, 6, 8, 12])
@pytest.mark.parametrize("name", STAGES)
def test_what_is_proposed_fits_and_is_taken(name: str, gib: float, tmp_path: Path) -> None:
    """DVC takes the printed options, the settings that come of them are valid, and take what was said."""
    one = planned(name)
    said = fit.shortage(one, gib * fit.GIB, "run.memory_gib")
    if said is None or "No setting is enough" in said:
        assert said is None or (name in ("dpo", "grpo") and gib == 3.5)  # dpo is measured beside its reference
        return
    options = re.findall(r"-S '(\S+)'", said)
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "profiles/qwen2.5-0.5b.yaml").read_bytes())
    apply_overrides(path, options)
    reached = needed(replace(one, settings=params.experiment(path).stages[name]))

    assert options
    for left_out in (made := fit.changes(one, gib * fit.GIB)):  # none is needless
        rest = {key: value for key, value in made.items() if key != left_out}
        assert gib * fit.GIB < needed(fit.changed(one, rest))
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
    proposed = fit.changed(one, made)

    assert gib * fit.GIB >= needed(proposed)
    assert [] == list(combinations.batches("grpo", vars(proposed.settings.own) | proposed.settings.trl, 1))


def test_nothing_dearer_than_is_needed() -> None:
    """Smaller batches, of rows and of answers, where each alone is not enough: not another optimizer."""
    one = planned("sft", "smollm2-135m")

    assert ["sft.micro_batch", "answers.batch"] == list(fit.changes(one, 0.95 * needed(one)))


def by_vllm(gib: float, **options: object) -> Planned:
    """GRPO of the Qwen profile with vLLM, on a card of so many GiB."""
    one = planned("grpo")
    settings = replace(one.settings, trl=one.settings.trl | {"use_vllm": True} | options)
    shape = Shape.of(MODELS["qwen2.5-0.5b"] | {"max_position_embeddings": 32768})
    return replace(one, shape=shape, settings=settings, card=int(gib * fit.GIB))


def test_a_smaller_share_for_vllm_comes_first() -> None:
    """It changes no sum. The largest that fits, in twentieths of the card."""
    said = fit.shortage(one := by_vllm(80), 16 * fit.GIB, "it")

    assert {"grpo.vllm_gpu_memory_utilization": 0.15} == fit.changes(one, 16 * fit.GIB)
    assert "-S '++grpo.vllm_gpu_memory_utilization=0.15'" in said
    assert [0.25, 0.2, 0.15, 0.1, 0.05] == fit.smaller_shares(one)
    assert [0.25] == fit.smaller_shares(by_vllm(6))
    assert [] == fit.smaller_shares(planned("grpo"))


def test_a_share_with_which_vllm_does_not_start() -> None:
    """Its cache must hold the longest sequence that the model may have, unless that is limited."""
    said = fit.shortage(by_vllm(4), 4 * fit.GIB, "it")

    assert "grpo.vllm_gpu_memory_utilization: 0.3 of 4.00 GiB is too little: vLLM's weights take 0.92 GiB, and" in said
    assert "for one sequence of 32,768 tokens 0.38 GiB. Write more, or vllm_max_model_length: 1280." in said
    assert fit.too_small(by_vllm(4, vllm_max_model_length=1280)) is None


def test_where_nothing_is_enough_that_is_said() -> None:
    """With the least that can be had."""
    said = fit.shortage(planned("dpo", lora=None), fit.GIB, "run.memory_gib")

    assert "No setting is enough" in said
    assert "++dpo.lora={rank:16,alpha:32}" in said


def test_room_for_more() -> None:
    """What could be generated at once on a larger card, as much as is of use and fits; on one that is full nothing."""
    profile = params.experiment(ROOT / "profiles/qwen2.5-0.5b.yaml")
    stages, prompts = [planned(name) for name in STAGES], profile.data.prompts
    answers = prompts.eval_rows * profile.stages["grpo"].answers.samples
    found = fit.larger(stages, 70 * fit.GIB, prompts)

    assert {"answers.batch", "grpo.generation_batch_size"} == found.keys()
    assert answers <= found["answers.batch"] < 2 * answers
    assert profile.stages["grpo"].own.batch == found["grpo.generation_batch_size"]
    limit = 10 * fit.GIB
    found = fit.larger(stages, limit, prompts)
    for key, most in found.items():
        each = [one for one in stages if key.startswith(("answers", one.settings.stage)) and one.stage.answers]
        assert limit >= max(needed(fit.changed(one, {key: most})) for one in each)
    assert limit < needed(fit.changed(stages[3], {"answers.batch": 2 * found["answers.batch"]}))
    assert {} == fit.larger(stages, 3 * fit.GIB, prompts)
    assert {"grpo.generation_batch_size"} == fit.larger(stages, limit, replace(prompts, eval_rows=None)).keys()
