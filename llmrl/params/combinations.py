"""What does not go together in a stage's section, or with its model or device: TRL or transformers would say so only
after minutes of loading, or do something else in silence. docs/memory.md has what each setting saves and costs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmrl.errors import InputError
from llmrl.fields import fields_of
from llmrl.graph import STAGES
from llmrl.training import options
from llmrl.training.settings import TrainSettings

if TYPE_CHECKING:
    from llmrl.training.settings import Settings

Section = dict[str, Any]  # of a stage, with what it takes from train
Found = Iterator[tuple[str, str]]  # a setting, and what is wrong with it

# Of torch.utils.checkpoint; what the trainers add to it. Those of dpo and grpo switch checkpointing off and on again,
# and lose what transformers has.
CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "early_stop", "debug")
ADDED = {"sft": ("every_n_layers", "offload", "selective"), "reward": ("every_n_layers", "offload")}


def wrong(stage: str, chosen: Section, processes: int) -> Found:
    """Every setting of a stage that does not go with another, and why. Values may be of any type."""
    of = STAGES[stage]
    yield from batches(stage, chosen, processes)
    if not of.generates and chosen.get("max_length", 1) is None:
        yield "max_length", ": null bounds no row's memory. Write a number of tokens; longer rows are left out."
    for name in ("chat_template_path", "eos_token") if chosen.get("loss_on") == "last" else ():
        if chosen.get(name):  # rows are tokenised here then, by the model's own template
            yield name, ": does not go with loss_on: last. Put chat_template.jinja into models/raw (docs/models.md)."
    if chosen.get("eval_packing") and not chosen.get("packing"):
        # TRL puts held-out documents one after the other, but tells the model where each begins only where training
        # rows are packed too.
        yield "eval_packing", " without packing lets a held-out document attend to those before it. Set packing too."
    yield from checkpointing(stage, chosen)
    if chosen.get("sync_ref_model") and (of.reference or of.generates):
        if chosen.get("lora"):
            yield "sync_ref_model", ": with lora the reference is the model with the adapter off; it follows nothing."
        if chosen.get("precompute_ref_log_probs"):
            yield "precompute_ref_log_probs", " with sync_ref_model: the reference changes while it trains; keep one."
        if of.generates and not chosen.get("beta", 0.0):
            yield "sync_ref_model", ": where beta is 0 there is no reference."
    if of.generates and chosen.get("use_vllm"):
        if importlib.util.find_spec("vllm") is None:
            yield "use_vllm", ": vllm is not installed; where this is false, transformers generates."
        if isinstance(chosen.get("lora"), dict) and chosen["lora"].get("load_in_4bit"):
            # It gets the weights with the adapters in them.
            text = "do not go together: weights in 4 bit lose some of it whenever adapters are added."
            yield "use_vllm", f" and lora.load_in_4bit {text}"
    if of.generates and chosen.get("use_transformers_continuous_batching"):
        # It puts the model in training mode, in which TRL measures no evaluation; and under bf16 and fp16 the trained
        # weights themselves in half precision, for good.
        yield "use_transformers_continuous_batching", ": TRL 1.16 cannot evaluate with it; leave it out."
    weights, losses = chosen.get("loss_weights"), chosen.get("loss_type")
    if of.reference and isinstance(weights, list) and len(weights) != (len(losses) if isinstance(losses, list) else 1):
        yield "loss_weights", f": {len(weights)} weights; there must be one for each loss of loss_type."


def batches(stage: str, chosen: Section, processes: int) -> Found:
    """The batch is a whole number of micro-batches on every process and, where completions of one prompt are generated
    together and compared, of these groups.
    """
    numbers = {name: value for name, value in chosen.items() if isinstance(value, int) and value > 0}
    batch, micro_batch = numbers.get("batch", 0), numbers.get("micro_batch", 1)
    at_a_time = micro_batch * processes
    if batch % at_a_time:
        each = f"{micro_batch}" + (f", on each of the {processes} processes of launch" if processes > 1 else "")
        fit = next((size for size in range(min(batch, micro_batch), 0, -1) if batch % (size * processes) == 0), None)
        right = f"micro_batch: {fit} would do" if fit else f"it must be one of {processes}"
        yield "batch", f": {batch} sequences a step are no multiple of micro_batch, {each}; {right}."
    if not STAGES[stage].generates:
        return
    numbers = {name: one.default for name, one in options.of_stage(stage).items()} | numbers
    group = numbers["num_generations"]
    both = {name for name in ("generation_batch_size", "steps_per_generation") if numbers[name]}
    if len(both) == 2:
        yield "steps_per_generation", " and generation_batch_size say the same; TRL takes one of them."
    rounds = (numbers["steps_per_generation"] or 0) * at_a_time
    at_once = numbers["generation_batch_size"] or rounds or batch
    if both and (at_once % at_a_time or at_once % group):
        text = f": {at_once} completions at once must be whole micro-batches of {at_a_time} and groups of {group}."
        yield min(both), text
    if batch % group and not both:
        yield "num_generations", f": groups of {group} do not fill a batch of {batch}; it must divide grpo's batch."
    group = numbers["num_generations_eval"] or group
    if (held := numbers["per_device_eval_batch_size"]) % group:
        text = f": {held} is no multiple of num_generations_eval (else num_generations), {group}."
        yield "per_device_eval_batch_size", text


def checkpointing(stage: str, chosen: Section) -> Found:
    """What the stage's trainer takes for gradient_checkpointing."""
    name, given = "gradient_checkpointing_kwargs", chosen.get("gradient_checkpointing_kwargs")
    if not isinstance(given, dict):
        return
    known = CHECKPOINTING + ADDED.get(stage, ())
    for key in given:
        if key not in known:
            yield name, f": {key} is none of {', '.join(known)}, which are all that {stage} takes."
    if given.get("selective") and not chosen.get("gradient_checkpointing", True):
        yield name, ": selective needs gradient_checkpointing: true."
    if given.get("selective") and given.get("use_reentrant"):
        yield name, ": selective needs use_reentrant: false."


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
    if attention == "flex_attention":  # on a CPU torch has no backward pass of it
        asked.insert(0, "attn_implementation")
    if asked and kind != "cuda":
        raise InputError(f"params.yaml: {asked[0]} as {stage} has it needs CUDA; this stage would run on {kind}.")
    top_p = {**trl, **(trl.get("generation_kwargs") or {})}.get("top_p") or 1.0
    if kind == "cuda" and STAGES[stage].generates and trl.get("full_determinism") and top_p < 1:
        raise InputError(
            f"params.yaml: grpo.top_p: {top_p:g} with full_determinism: CUDA adds up probabilities in no fixed order. "
            "Write 1.0, which leaves none out, or use min_p or top_k."
        )
