"""Settings without any effect, as another one wins: whoever writes them means them to have one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from llmrl.fields import as_yaml, fields_of, fits, many
from llmrl.training import options
from llmrl.training.settings import TrainSettings

Section = dict[str, Any]  # of a stage, or train

OFF = (False, "no", "epoch")  # of a switch; of evaluations and logs by steps
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")  # losses
# A setting and values of it, and those that have an effect with one of these alone. Where vLLM is off, so has all of
# its own with use_vllm.
BELONGS: Mapping[tuple[str, tuple[Any, ...]], tuple[str, ...]] = MappingProxyType(
    {
        ("eval_strategy", ("steps",)): ("eval_steps",),
        ("eval_strategy", ("steps", "epoch")): ("eval_delay",),
        ("logging_strategy", ("steps",)): ("logging_steps",),
        ("lr_scheduler_type", ("reduce_lr_on_plateau", "greedy")): ("metric_for_best_model", "greater_is_better"),
        ("packing", (True,)): ("packing_strategy",),
        ("precompute_ref_log_probs", (True,)): ("precompute_ref_batch_size",),
        ("sync_ref_model", (True,)): ("ref_model_mixup_alpha", "ref_model_sync_steps"),
        ("f_divergence_type", ("alpha_divergence",)): ("f_alpha_divergence_coef",),
        ("loss_type", ("discopop",)): ("discopop_tau",),
        ("loss_type", ("robust", "exo_pair", "aot", "aot_unpaired")): ("label_smoothing",),
        ("loss_type", CLIPPED): ("epsilon", "delta"),
        ("loss_type", (*CLIPPED, "cispo")): ("epsilon_high",),
        ("loss_type", ("sapo",)): ("sapo_temperature_pos", "sapo_temperature_neg"),
        ("loss_type", ("vespo",)): ("vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg"),
        ("use_adaptive_entropy", (True,)): (
            "entropy_coef_min",
            "entropy_coef_max",
            "entropy_coef_delta",
            "entropy_target",
        ),
        ("use_transformers_continuous_batching", (True,)): ("transformers_continuous_batching_config",),
        ("use_vllm", (False,)): ("cache_implementation",),
        ("vllm_mode", ("server",)): (
            "vllm_server_base_url",
            "vllm_server_host",
            "vllm_server_port",
            "vllm_server_timeout",
            "vllm_group_port",
        ),
        ("vllm_mode", ("colocate",)): (  # of a server its own command line decides
            "vllm_tensor_parallel_size",
            "vllm_gpu_memory_utilization",
            "vllm_max_model_length",
            "vllm_enable_sleep_mode",
            "vllm_model_impl",
        ),
    }
)


def void(stage: str, train: Section, section: Section) -> Iterator[tuple[str, str]]:
    """The settings that a stage is given and that another, which wins, leaves without any effect.

    But a switch that is written and off leaves alone what belongs to it, for when it is on; and to write what TRL has
    anyway is no mistake.
    """
    given, known = train | section, options.of_stage(stage)
    steps: Any = given.get("max_steps")
    if "num_train_epochs" in given and fits(steps, (int,)) and steps > 0:
        yield "num_train_epochs", f": has no effect beside max_steps: {steps}, which wins; for epochs it must be -1."
    schedule = given.get("lr_scheduler_type")
    if given.get("warmup_steps") and schedule in ("constant", "reduce_lr_on_plateau", "greedy"):
        right = ", or take constant_with_warmup, which has a warm-up" if schedule == "constant" else ""
        text = f": has no effect with lr_scheduler_type: {schedule}, which wins; write warmup_steps: 0{right}."
        yield "warmup_steps", text
    optimizer = given.get("optim", options.OURS["optim"])
    if given.get("optim_args") and optimizer in ("adamw_torch", "adamw_torch_fused", "adafactor"):
        yield "optim_args", f": has no effect with optim: {optimizer}, which takes none."
    if given.get("optim_target_modules") and not re.search("galore|apollo", str(optimizer)):
        yield "optim_target_modules", f": has no effect with optim: {optimizer}; galore's and apollo's would use it."
    if given.get("attn_implementation") == "varlen" and not given.get("packing"):
        yield "attn_implementation", ": varlen has no effect without sft.packing: true; without packed rows it is sdpa."
    if given.get("label_smoothing_factor") and (stage != "sft" or given.get("loss_type", "nll") != "nll"):
        yield "label_smoothing_factor", ": has no effect but with sft.loss_type: nll."
    for name in ("vllm_server_host", "vllm_server_port") if given.get("vllm_server_base_url") else ():
        if name in given:
            yield name, ": has no effect beside vllm_server_base_url, which wins."
    belonging = {name: needed for needed, names in BELONGS.items() for name in names}
    if not given.get("use_vllm"):
        belonging |= {name: ("use_vllm", (True,)) for name in known if name.startswith("vllm_")}
    for name, (other, values) in belonging.items():
        value = given.get(name)
        if value is None or name not in known or value == known[name].default:
            continue
        if any(one in values for one in many(given.get(other, known[other].default))):
            continue
        right = " or ".join(map(as_yaml, values)).replace('"', "")
        if other not in given:
            yield name, f": has no effect without {other}: {right}."
        elif given[other] not in OFF:
            yield name, f": has no effect with {other}: {as_yaml(given[other])}, which wins; {right} would use it."


def without_effect(train: Section, sections: dict[str, Section]) -> Iterator[tuple[str, str, str]]:
    """Each such setting with its section: of a stage's own, and of those in train that are void in every stage that
    takes them, as a stage may well override what the others go by.
    """
    found = {stage: dict(void(stage, train, section)) for stage, section in sections.items()}
    for stage, texts in found.items():
        yield from ((stage, name, text) for name, text in texts.items() if name in sections[stage])
    for name in train:
        taken = [stage for stage in sections if name in options.of_stage(stage) | fields_of(TrainSettings)]
        said = [found[stage].get(name) for stage in taken]
        if said and (text := said[0]) and all(said):
            yield "train", name, text
