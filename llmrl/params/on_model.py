"""Settings that do not go with the model that a stage starts from, or with the device: known when the stage starts, by
the model's config and without its weights. docs/memory.md has what goes together.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import folders
from llmrl.errors import InputError
from llmrl.fields import as_yaml, fields_of, meant
from llmrl.graph import STAGES
from llmrl.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from llmrl.training.settings import Lora, Settings


def check_model_and_device(settings: Settings, config: dict[str, Any], known: bool, kind: str) -> None:
    """Raise InputError where a setting does not go with the model, by its config and whether its architecture is a
    known one, or with the kind of device.
    """
    stage, own, trl = settings.stage, settings.own, settings.trl
    attention = own.attn_implementation or config.get("_attn_implementation")
    known_ways = fields_of(TrainSettings)["attn_implementation"].choices
    if attention not in (None, *known_ways):
        raise InputError(
            f"{own.init}/config.json asks for attention by {attention}: set train.attn_implementation in params.yaml "
            f"to one of {', '.join(known_ways)}."
        )
    if trl.get("packing") and not known:
        raise InputError(
            f"params.yaml: {stage}.packing: whether documents keep apart is not tested with models of type "
            f"{config.get('model_type')}; tests/training/test_packing.py tells with which. Write false."
        )
    asked = [name for name in ("activation_offloading", "tf32", "use_vllm") if trl.get(name)]
    # On a CPU torch has no backward pass of the first, and no such kernel as the other is of packed documents.
    if attention == "flex_attention" or (attention == "varlen" and trl.get("packing")):
        asked.insert(0, "attn_implementation")
    if asked and kind != "cuda":
        raise InputError(f"params.yaml: {asked[0]} as {stage} has it needs CUDA; this stage would run on {kind}.")
    if attention == "varlen" and trl.get("packing") and own.precision == "fp32":
        raise InputError(
            f"params.yaml: attn_implementation as {stage} has it: torch's kernels of varlen take half precision alone, "
            "and precision is fp32. Write sdpa, or another precision."
        )
    if trl.get("use_vllm") and settings.option("vllm_mode") == "colocate":
        check_vllm(settings, config.get("text_config", config))
    top_p = {**trl, **(trl.get("generation_kwargs") or {})}.get("top_p") or 1.0
    if kind == "cuda" and STAGES[stage].generates and trl.get("full_determinism") and top_p < 1:
        raise InputError(
            f"params.yaml: grpo.top_p: {top_p:g} with full_determinism: CUDA adds up probabilities in no fixed order. "
            "Write 1.0, which leaves none out, or use min_p or top_k."
        )


def check_vllm(settings: Settings, config: dict[str, Any]) -> None:
    """Raise InputError where vLLM's engine would not start with a model, by its config."""
    heads, shared = config.get("num_attention_heads", 0), settings.option("vllm_tensor_parallel_size")
    if heads % shared:
        raise InputError(
            f"params.yaml: grpo.vllm_tensor_parallel_size: {shared} processes cannot share the {heads} heads of "
            f"{settings.own.init}'s attention."
        )
    longest, most = settings.option("vllm_max_model_length"), config.get("max_position_embeddings")
    if longest and most and longest > most:
        raise InputError(
            f"params.yaml: grpo.vllm_max_model_length: {longest} is more than {settings.own.init} has, {most}."
        )


def check_reward_model(stages: dict[str, Settings]) -> None:
    """Raise InputError where the reward model that GRPO has is made, by these stages, of a model of which none can be
    made: none of them shall train for it in vain.
    """
    made = {Path("models", stage): settings for stage, settings in stages.items()}
    for judged in [settings for stage, settings in stages.items() if STAGES[stage].generates]:
        first = folder = Path(judged.own.reward_model)
        while folder in made:
            folder = Path(made.pop(folder).own.init)
        if folder != first and (folder / "config.json").exists():
            require_score(str(folder), f"{judged.stage}.reward_model")


def require_score(init: str, setting: str) -> None:
    """Raise InputError where no reward model can be made of the model in the folder `init`, as `setting` has it."""
    if not folders.gives_score(init):
        raise InputError(
            f"params.yaml: {setting}: no reward model can be made of {init}: transformers has no class that gives a "
            f"{folders.architecture(init)} a score. Take another base model, or have grpo.reward_model name the folder "
            "of another reward model; sft and dpo do without."
        )


def check_architecture(settings: Settings) -> None:
    """Raise InputError where no reward model can be made of the model that one shall be made of; where the model has no
    routers; or adapters are asked for modules that it does not have, that can have none, or whose weights are its
    head's as well. It is built for that, but without its weights.
    """
    lora, router = settings.own.lora, settings.trl.get("router_aux_loss_coef")
    if not STAGES[settings.stage].answers:
        require_score(settings.own.init, f"{settings.stage}.init")
    if not lora and not router:
        return
    import transformers

    config = transformers.AutoConfig.from_pretrained(settings.own.init, local_files_only=True, trust_remote_code=False)
    if router and not hasattr(config.get_text_config(), "output_router_logits"):
        raise InputError(
            f"params.yaml: {settings.stage}.router_aux_loss_coef: {settings.own.init} has no mixture of experts."
        )
    if lora:
        check_adapters(settings.stage, lora, config)


def check_adapters(stage: str, lora: Lora, config: PreTrainedConfig) -> None:
    """Raise InputError where a model of such a config can have no such adapters: as peft finds, which gives them to one
    without weights; where one of several targets is nothing, as it would pass over; and for what it does not know.
    """
    import peft
    import torch
    import transformers

    named, answers = f"params.yaml: {stage}.lora.targets (or train's)", STAGES[stage].answers
    kind = transformers.AutoModelForCausalLM if answers else transformers.AutoModelForSequenceClassification
    asked = lora.config("CAUSAL_LM" if answers else "SEQ_CLS")
    with torch.device("meta"):
        model = kind.from_config(config, attn_implementation="eager")
    modules, head, embeddings = dict(model.named_modules()), model.get_output_embeddings(), model.get_input_embeddings()
    try:
        with warnings.catch_warnings(action="ignore"), torch.device("meta"):
            made: Any = peft.get_peft_model(model, asked).base_model
        reached, parameters = made.targeted_module_names, made.targeted_parameter_names
    except peft.NoMatchingPeftModuleError:
        reached, parameters = [], []
    except ValueError as error:
        # Of a module that it cannot adapt it says all that is in it.
        reason = re.sub(r"\(.*\)(?= is not supported)", "", str(error), flags=re.DOTALL)
        raise InputError(f"params.yaml: {stage}.lora (or train's): {reason}") from None
    nothing = [] if reached or parameters else [lora.targets]
    if isinstance(lora.targets, list):
        # Experts are parameters of one module: in place of the names that they had as modules it now asks for these.
        kept: Any = asked.target_modules
        for name in sorted(asked.target_parameters or ()):
            if not ending(name, parameters):
                text = f"peft adapts {name} for these, a parameter of experts, which there are not here."
                raise InputError(f"{named}: {text}")
        modular = [name for name in lora.targets if any(ending(one, [name]) for one in kept)]
        nothing = [name for name in modular if not ending(name, reached)]
    if nothing:
        takes = (torch.nn.Linear, torch.nn.Embedding, transformers.pytorch_utils.Conv1D)
        parts = [name for name, one in modules.items() if isinstance(one, takes) and one is not head]
        names = dict.fromkeys(name.rpartition(".")[2] for name in parts)
        known = [name for name in names if name not in (asked.modules_to_save or ())]  # trained whole, a new head
        raise InputError(f"{named}: {as_yaml(nothing[0])} is none of {', '.join(known)}.{meant(nothing[0], known)}")
    for name in reached:
        if modules[name] is head:
            raise InputError(f"{named}: TRL's losses pass by an adapter of {name}; leave it out.")
        if modules[name] is embeddings and head is not None and head.weight is embeddings.weight:
            raise InputError(
                f"{named}: {name} has the weights of the head, too (tie_word_embeddings): its adapter would be trained "
                "as one of them, and merged into both. Leave it out."
            )


def ending(name: str, among: Iterable[str]) -> bool:
    """Whether a module or parameter among these is called so, by the last parts of its whole name."""
    return any(f".{one}".endswith(f".{name}") for one in among)
