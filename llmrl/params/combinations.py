"""What does not go together in a stage's section: TRL or transformers would say so only after minutes of loading, or do
something else in silence. docs/memory.md has what each setting saves and costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distributions
from typing import Any

from llmrl.environment import installing
from llmrl.fields import as_yaml, fits, many, meant, refusal
from llmrl.graph import STAGES
from llmrl.training import options

Section = dict[str, Any]  # of a stage, with what it takes from train
Found = Iterator[tuple[str, str]]  # a setting, and what is wrong with it

# Of torch.utils.checkpoint; what the trainers add to it. Those of dpo and grpo switch checkpointing off and on again,
# and lose what transformers has.
CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "early_stop", "debug")
ADDED = {"sft": ("every_n_layers", "offload", "selective"), "reward": ("every_n_layers", "offload")}
ENDS = "is models/base's own (docs/models.md)."
BY_TEXT = "goes by text, where completions are tokens; each ends with its turn or at grpo.max_completion_length."
# What `generation_kwargs` cannot name, though transformers or vLLM takes it, and why: the first completions would end
# the training, or be others than it reckons with.
NOT_SAMPLED = {
    **dict.fromkeys(("max_new_tokens", "max_length", "max_tokens"), "is grpo.max_completion_length."),
    **dict.fromkeys(("num_return_sequences", "n"), "is grpo.num_generations."),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ENDS),
    **dict.fromkeys(("stop_strings", "token_healing"), BY_TEXT),
    **dict.fromkeys(
        ("return_dict_in_generate", "output_attentions", "output_hidden_states", "output_logits", "output_scores"),
        "gives more than tokens, which are all that is taken.",
    ),
    **dict.fromkeys(
        ("prompt_lookup_num_tokens", "assistant_early_exit", "is_assistant", "use_mtp"),
        "has transformers guess ahead, of one completion at a time alone.",
    ),
    **dict.fromkeys(
        ("dola_layers", "constraints", "force_words_ids", "num_beam_groups"),
        "needs code from the Hub, which is never run.",
    ),
    **dict.fromkeys(("compile_config", "disable_compile"), "is set by TRL, which compiles no sampling."),
    "max_time": "would cut completions by the clock: no run could be repeated.",
}
# And what vLLM alone takes.
NOT_BY_VLLM = {
    **dict.fromkeys(("stop_token_ids", "ignore_eos"), ENDS),
    "stop": BY_TEXT,
    **dict.fromkeys(
        ("logprobs", "prompt_logprobs", "logprob_token_ids", "flat_logprobs"),
        "is set by TRL, which weighs each completion by these.",
    ),
    "seed": "would draw the completions of one prompt all alike; vLLM has one of its own.",
}
LEAST = ("min_new_tokens", "min_tokens")  # of transformers, of vLLM


def wrong(stage: str, chosen: Section, processes: int) -> Found:
    """Every setting of a stage that does not go with another, and why. Values may be of any type."""
    of = STAGES[stage]
    yield from batches(stage, chosen, processes)
    if not of.generates and chosen.get("max_length", 1) is None:
        yield "max_length", ": null bounds no row's memory. Write a number of tokens; longer rows are left out."
    if chosen.get("eval_packing") and not chosen.get("packing"):
        # TRL puts held-out documents one after the other, but tells the model where each begins only where training
        # rows are packed too.
        yield "eval_packing", " without packing lets a held-out document attend to those before it. Set packing too."
    yield from checkpointing(stage, chosen)
    yield from loading(chosen)
    yield from schedules(chosen)
    if of.generates:
        yield from sampling(stage, chosen)
    if chosen.get("sync_ref_model") and (of.reference or of.generates):
        if chosen.get("lora"):
            yield "sync_ref_model", ": with lora the reference is the model with the adapter off; it follows nothing."
        if chosen.get("precompute_ref_log_probs"):
            yield "precompute_ref_log_probs", " with sync_ref_model: the reference changes while it trains; keep one."
        if of.generates and not chosen.get("beta", 0.0):
            yield "sync_ref_model", ": where beta is 0 there is no reference."
    if of.generates and chosen.get("use_vllm"):
        yield from with_vllm(stage, chosen, processes)
    if of.generates and chosen.get("use_transformers_continuous_batching"):
        # It puts the model in training mode, in which TRL measures no evaluation; and under bf16 and fp16 the trained
        # weights themselves in half precision, for good.
        yield "use_transformers_continuous_batching", ": TRL 1.16 cannot evaluate with it; leave it out."
    if of.generates and chosen.get("remove_unused_columns"):
        yield "remove_unused_columns", ": rewards would lose the columns that they judge by; leave it out."
    if chosen.get("torch_compile") is False:
        for name in ("torch_compile_backend", "torch_compile_mode"):
            if chosen.get(name) is not None:
                yield name, ": it switches torch_compile on, which is false; leave one of them out."
    if of.reference:
        yield from losses(chosen)


def losses(chosen: Section) -> Found:
    """What does not go with DPO's losses."""
    taken = many(chosen.get("loss_type", ["sigmoid"]))
    if isinstance(weights := chosen.get("loss_weights"), list) and len(weights) != len(taken):
        yield "loss_weights", f": {len(weights)} weights; there must be one for each loss of loss_type."
    smoothing = chosen.get("label_smoothing", 0.0)
    if "robust" in taken and fits(smoothing, (int, float)) and smoothing >= 0.5:
        yield "label_smoothing", f": {smoothing:g} is not less than 0.5: the loss robust divides by 1 minus twice this."
    if "exo_pair" in taken and not smoothing:
        yield "loss_type", ": exo_pair needs a label_smoothing greater than 0; its paper has 0.001."
    others = [one for one in taken if one not in (among := options.comparable())]
    if chosen.get("f_divergence_type", "reverse_kl") != "reverse_kl" and others:
        yield "f_divergence_type", f": does not go with the loss {others[0]}, but with {', '.join(among)}."
    if chosen.get("use_weighting") and (sorting := [one for one in taken if str(one).startswith("aot")]):
        yield "use_weighting", f": does not go with the loss {sorting[0]}, which sorts the rows of a batch."


def loading(chosen: Section) -> Found:
    """What says how processes load rows, of which there are none by default, and what optimizers lack."""
    if not chosen.get("dataloader_num_workers"):
        for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context"):
            if chosen.get(f"dataloader_{name}"):
                yield f"dataloader_{name}", " needs dataloader_num_workers: 1 or more."
    arguments, optimizer = chosen.get("optim_args"), str(chosen.get("optim"))
    if isinstance(arguments, str) and any(part.count("=") != 1 for part in arguments.split(",") if arguments):
        yield "optim_args", f": {as_yaml(arguments)} is no list of arguments, as in rank=64,scale=0.1."
    if re.search("galore|apollo", optimizer) and not chosen.get("optim_target_modules"):
        yield "optim", f": {optimizer} needs optim_target_modules, the modules that it trains in its way."


def schedules(chosen: Section) -> Found:
    """What the schedule of the learning rate does not take, or lacks."""
    kind, given = chosen.get("lr_scheduler_type", "linear"), chosen.get("lr_scheduler_kwargs")
    if kind not in options.choices("lr_scheduler_type"):
        return
    warmup, steps = chosen.get("warmup_steps", 0), chosen.get("max_steps", -1)
    if fits(warmup, (int, float)) and fits(steps, (int,)) and 1 <= steps < warmup:
        yield "warmup_steps", f": {warmup:g} steps of warm-up are more than the {steps} of max_steps."
    if kind in ("reduce_lr_on_plateau", "greedy") and chosen.get("eval_strategy", "no") == "no":
        yield "lr_scheduler_type", f": {kind} goes by evaluations; it needs an eval_strategy: steps or epoch."
    least = [name for name in ("min_lr", "min_lr_rate") if isinstance(given, dict) and given.get(name) is not None]
    if "min_lr" in kind and len(least) != 1:
        yield "lr_scheduler_type", f": {kind} needs either min_lr or min_lr_rate in lr_scheduler_kwargs."
    if (taken := options.schedule_arguments(kind)) is None:
        return
    given, (may, must) = given if isinstance(given, dict) else {}, taken
    for name in given:
        if name not in may:
            some = f"which takes {', '.join(may)}" if may else "which takes none"
            yield "lr_scheduler_kwargs", f": {name} is no argument of {kind}, {some}.{meant(name, may)}"
    for name in must:
        if name not in given:
            yield "lr_scheduler_type", f": {kind} needs {name} in lr_scheduler_kwargs."


def sampling(stage: str, chosen: Section) -> Found:
    """What completions cannot be sampled with, which TRL would find at the first of them, or never."""
    given, known = chosen.get("generation_kwargs"), options.of_stage(stage)
    longest = chosen.get("max_completion_length", known["max_completion_length"].default)
    by_vllm = bool(chosen.get("use_vllm"))
    others = NOT_SAMPLED | NOT_BY_VLLM if by_vllm else NOT_SAMPLED
    whose = "vLLM's SamplingParams" if by_vllm else "transformers' GenerationConfig"
    for name, value in given.items() if isinstance(given, dict) else ():
        if name in others:
            yield "generation_kwargs", f": {name} {others[name]}"
        elif name == "do_sample" and value is not True:
            yield "generation_kwargs", ": do_sample: completions of one prompt would be all alike; leave it out."
        elif name in LEAST and fits(value, (int,)) and fits(longest, (int,)) and value > longest:
            text = f"{value} is more than max_completion_length, {longest}: no completion would end."
            yield "generation_kwargs", f": {name}: {text}"
        elif name in chosen:
            yield "generation_kwargs", f": its {name} wins over {stage}.{name}; leave one of them out."
        elif name in known and (reason := refusal(value, known[name])):
            yield "generation_kwargs", f": {name}: {reason}"
        elif name in options.FLOATS and isinstance(value, int) and value != 1 and not by_vllm:
            yield "generation_kwargs", f": {name}: {value} is whole, which transformers refuses; write {value}.0."
        elif not by_vllm or any(distributions(name="vllm")):  # of what is not installed nothing is known
            names = options.vllm_arguments() if by_vllm else options.sampling_arguments()
            if name not in names:
                yield "generation_kwargs", f": {name} is no argument of {whose}.{meant(name, names)}"
    for least, most, usual in (
        ("vllm_importance_sampling_clip_min", "vllm_importance_sampling_clip_max", (None, 3.0)),
        ("entropy_coef_min", "entropy_coef_max", (0.0, 1.0)),
    ):
        low, high = chosen.get(least, usual[0]), chosen.get(most, usual[1])
        if fits(low, (int, float)) and fits(high, (int, float)) and (low > high or (low == high and "clip" in least)):
            yield least, f": {low:g} leaves nothing up to {most}, {high:g}."


def with_vllm(stage: str, chosen: Section, processes: int) -> Found:
    """What does not go with completions by vLLM, whose engine starts when the models are loaded."""
    oldest, newest = options.vllm_versions()
    right = f"{installing(f'vllm=={newest}')}; where this is false, transformers generates."
    version = next((one.version for one in distributions(name="vllm")), None)
    if version is None:
        yield "use_vllm", f": vllm is not installed: {right}"
    elif not release(oldest) <= release(version) <= release(newest):
        yield "use_vllm", f": TRL takes vllm {oldest} to {newest}, and {version} is installed: {right}"
    if isinstance(chosen.get("lora"), dict) and chosen["lora"].get("load_in_4bit"):
        # It gets the weights with the adapters in them.
        text = "do not go together: weights in 4 bit lose some of it whenever adapters are added."
        yield "use_vllm", f" and lora.load_in_4bit {text}"
    known = {name: one.default for name, one in options.of_stage(stage).items()} | chosen
    numbers = {name: value for name, value in known.items() if fits(value, (int,)) and value > 0}
    if known["vllm_mode"] == "colocate":
        shared = numbers.get("vllm_tensor_parallel_size", 1)
        if processes % shared:
            yield "vllm_tensor_parallel_size", f": {shared} processes share one engine, and launch starts {processes}."
        longest, prompt = numbers.get("vllm_max_model_length"), numbers.get("max_prompt_length")
        both = (prompt or 0) + numbers.get("max_completion_length", 0)
        if longest and not prompt:
            yield "vllm_max_model_length", " needs grpo.max_prompt_length: a longer prompt would end the training."
        elif longest and longest < both:
            text = f"max_prompt_length and max_completion_length are {both} together: completions would be cut"
            yield "vllm_max_model_length", f": {longest} tokens hold too little: {text}."
    weighing = str(known["vllm_importance_sampling_mode"])
    if not known["vllm_importance_sampling_correction"]:
        return
    if known["loss_type"] == "vespo" and not weighing.startswith("token"):
        yield "loss_type", ": vespo with use_vllm needs vllm_importance_sampling_mode: token_truncate or token_mask."
    bounds = [known[f"vllm_importance_sampling_clip_{end}"] for end in ("max", "min")]
    if weighing.endswith("truncate") and bounds == [None, None]:
        yield "vllm_importance_sampling_clip_max", f": null bounds nothing, and {weighing} needs a bound; TRL's is 3.0."


def release(version: str) -> list[int]:
    """The numbers of a release.

    >>> release("0.31.0+cu130") > release("0.9.2")
    True
    """
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


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
        of = f"launch's {processes} processes" if chosen.get("micro_batch") == "auto" else f"micro_batch, {each}"
        yield "batch", f": {batch} sequences a step are no multiple of {of}; {right}."
    if not STAGES[stage].generates:
        return
    numbers = {name: one.default for name, one in options.of_stage(stage).items()} | numbers
    group = numbers["num_generations"]
    both = {name for name in ("generation_batch_size", "steps_per_generation") if numbers[name]}
    if chosen.get("micro_batch") == "auto" and "steps_per_generation" in both:
        text = "auto would decide how many completions are drawn at once; write generation_batch_size instead."
        yield "steps_per_generation", f" counts micro-batches: {text}"
        numbers, both = numbers | {"steps_per_generation": 0}, both - {"steps_per_generation"}
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
    if given.get("selective") and chosen.get("gradient_checkpointing", True) is not True:
        yield name, ": selective needs gradient_checkpointing: true."
    if given.get("selective") and given.get("use_reentrant"):
        yield name, ": selective needs use_reentrant: false."
