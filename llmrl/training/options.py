"""What TRL's and transformers' configs take: names, types, defaults and choices, read from source and never imported.

An import of TRL costs seconds, and the check of params.yaml is to cost none.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from llmrl import environment
from llmrl.errors import InputError
from llmrl.fields import BELOW_ONE, SHARE, Bound, Field, Kinds, above, at_least
from llmrl.graph import STAGES
from llmrl.training import processes

# Names that are decided elsewhere, and where; or by nothing, and why.
DECIDED = {
    "learning_rate": "train.lr (times the stage's lr_scale)",
    "per_device_train_batch_size": "micro_batch (sequences a device holds at once)",
    "gradient_accumulation_steps": "batch (sequences an optimizer step); accumulation follows from micro_batch",
    **dict.fromkeys(("bf16", "fp16"), "precision"),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), "nothing: weights stay in float32"),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), "kernels"),
    "auto_find_batch_size": "micro_batch",
    "use_cpu": "CUDA_VISIBLE_DEVICES= in the environment",
    "output_dir": "the stage's output in dvc.yaml",
    "report_to": "run.report_to",
    **dict.fromkeys(("save_strategy", "save_steps"), "run.save_steps"),
    "save_total_limit": "run.save_total_limit",
    "save_only_model": "nothing: a run resumes from its checkpoints exactly",
    "save_on_each_node": "nothing: one process writes",
    "resume_from_checkpoint": "nothing: a run continues from its own last checkpoint",
    **dict.fromkeys(("ignore_data_skip", "restore_callback_states_from_checkpoint"), "nothing: a run resumes exactly"),
    "enable_jit_checkpoint": "run.grace",
    "eval_on_start": "nothing: every stage is measured before it trains",
    "logging_nan_inf_filter": "nothing: a loss that is not finite stops the stage",
    "load_best_model_at_end": "nothing: a stage keeps its last step",
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"), "dvc push"),
    "log_completions_hub_repo": "dvc push",
    "hub_token": "HF_TOKEN in .env (which is not in git)",
    **dict.fromkeys(("disable_tqdm", "log_level", "log_level_replica"), "run.verbosity"),
    "log_completions": "nothing: every completion is kept in the run's folder",
    "num_completions_to_print": "nothing: every completion is kept in the run's folder",
    "assistant_only_loss": "nothing: the loss covers the assistant's tokens alone",
    "completion_only_loss": "nothing: the loss covers the assistant's tokens alone",
    "padding_free": "sft.packing, which needs no padding",
    "use_transformers_paged": "nothing: TRL 1.16 cannot evaluate with it",
    "reward_weights": "grpo.rewards, a map from the reward's name to its weight",
    "model_init_kwargs": "model and train",
    "chat_template_kwargs": "model.chat_template_kwargs (for training and answers alike)",
    "data_seed": "train.seed",
    # The tokenizer that is trained with is the one that is saved.
    **dict.fromkeys(("chat_template_path", "eos_token", "pad_token"), "the tokenizer of models/base (docs/models.md)"),
    "trust_remote_code": "nothing: a model's own code is never run",
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed", "ds3_gather_for_generation", "parallelism_config"),
        f"nothing: {processes.COPIES.rstrip('.')}",
    ),
    "accelerator_config": "batch (with micro_batch and launch)",
    **dict.fromkeys(("local_rank", "ddp_backend", "ddp_timeout"), "launch"),
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "nothing: a stage trains and is measured"),
    # What the trainers are given of the rows, and find in them.
    **dict.fromkeys(("dataset_text_field", "dataset_kwargs"), "nothing: rows are conversations"),
    **dict.fromkeys(("label_names", "length_column_name"), "nothing: TRL makes the rows that a model is given"),
    "truncation_mode": "nothing: a row that is longer than max_length is left out",
    **dict.fromkeys(
        (
            "include_for_metrics",
            "batch_eval_metrics",
            "prediction_loss_only",
            "eval_do_concat_batches",
            "eval_accumulation_steps",
            "eval_use_gather_object",
        ),
        "nothing: of TRL's evaluations the figures are kept, no predictions",
    ),
    "dataloader_in_order": "nothing: batches come in one order, so that a run can be repeated",
}

# Whole numbers from 1 on. Annotations also admit a null that ends in an error (of groups) or sets no bound (of tokens);
# where null is TRL's default, to leave the name out says the same.
WHOLE = ("num_generations_eval", "max_completion_length", "generation_batch_size", "steps_per_generation")
# transformers takes other fractions for whole numbers, or refuses them when a model is loaded.
STEPS = Bound(
    lambda value: value < 1 or value == int(value),
    "whole, or a share of all steps",
    "is neither a whole number nor a share of all steps, below 1",
)
PART = Bound(lambda value: 0 < value <= 1, "greater than 0 and at most 1", "is not greater than 0 and at most 1")
PORT = Bound(lambda value: 0 < value < 2**16, "between 1 and 65535", "is no port, which is between 1 and 65535")
# Numbers that make sense, by name; one stage's own has its name before. TRL, transformers and torch would reject others
# only after a model was loaded, or never.
BOUNDED: tuple[tuple[tuple[Bound, ...], str], ...] = (
    (
        (Bound(lambda value: value == -1 or value >= 1, "at least 1, or -1: epochs decide", "is less than 1"),),
        "max_steps",
    ),
    ((at_least(2),), "num_generations"),
    ((at_least(0), STEPS), "warmup_steps"),
    ((above(0), STEPS), "eval_steps logging_steps"),
    (
        (at_least(1),),
        """
        num_generations_eval max_completion_length generation_batch_size steps_per_generation num_iterations
        per_device_eval_batch_size max_length torch_empty_cache_steps dataloader_prefetch_factor ddp_bucket_cap_mb
        dataset_num_proc pad_to_multiple_of precompute_ref_batch_size ref_model_sync_steps vllm_tensor_parallel_size
        vllm_max_model_length
        """,
    ),
    (
        (at_least(0),),
        """
        eval_delay weight_decay max_grad_norm neftune_noise_alpha dataloader_num_workers router_aux_loss_coef
        center_rewards_coefficient grpo.beta epsilon epsilon_high top_k entropy_coef_delta entropy_target vespo_k_pos
        vespo_k_neg vespo_lambda_pos vespo_lambda_neg vllm_server_timeout vllm_importance_sampling_clip_min
        max_tool_calling_iterations
        """,
    ),
    # With an epsilon of 0 Adam divides 0 by 0 where a weight has no gradient, as of tokens that no row has. Of DPO beta
    # is a factor of every loss but `sft`, and two divide by it.
    (
        (above(0),),
        """
        temperature num_train_epochs adam_epsilon repetition_penalty discopop_tau delta dpo.beta sapo_temperature_pos
        sapo_temperature_neg off_policy_mask_threshold vllm_importance_sampling_clip_max vllm_importance_sampling_cap
        """,
    ),
    ((BELOW_ONE,), "adam_beta1 adam_beta2"),
    ((SHARE,), "label_smoothing_factor label_smoothing ld_alpha ref_model_mixup_alpha min_p top_entropy_quantile"),
    ((PART,), "top_p vllm_gpu_memory_utilization"),
    ((PORT,), "vllm_server_port vllm_group_port"),
)
BOUNDS = {name: bounds for bounds, names in BOUNDED for name in names.split()}
# Values that are one of a few texts: as we allow, or where libraries list or compare them.
CHOICES = {
    # `wrapped` would let a document attend to the one before it.
    "packing_strategy": ("bfd", "bfd_split"),
    # `group_by_length` draws its order before the random state of a resumed run is restored.
    "train_sampling_strategy": ("random", "sequential", "batch_rebalance"),
    "pad_to_multiple_of": ("auto",),  # or a number; other texts are a command line's
    "gradient_checkpointing": ("auto",),  # or true or false
    # transformers compares with the last two, and takes whatever else for the first.
    "include_num_input_tokens_seen": ("all", "non_padding", "no"),
}
# The members of an enumeration: the package, its file, the class.
ENUMERATED = {
    "optim": ("transformers", "training_args.py", "OptimizerNames"),
    "lr_scheduler_type": ("transformers", "trainer_utils.py", "SchedulerType"),
    "eval_strategy": ("transformers", "trainer_utils.py", "IntervalStrategy"),
    "logging_strategy": ("transformers", "trainer_utils.py", "IntervalStrategy"),
    "debug": ("transformers", "debug_utils.py", "DebugOption"),
    "torch_compile_backend": ("accelerate", "utils/dataclasses.py", "DynamoBackend"),
}
# Texts within what a pattern finds in code that goes by them: the package, its file, the pattern. What a help text
# lists is no such thing: it may well be fewer than are taken.
LISTED = {
    "report_to": ("transformers", "integrations/integration_utils.py", r"\nINTEGRATION_TO_CALLBACK = \{(.+?)\n\}"),
    "cache_implementation": (
        "transformers",
        "generation/configuration_utils.py",
        r"\n\w*CACHE_IMPLEMENTATIONS = \(([^)]+)\)",
    ),
    "torch_compile_mode": ("torch", "_inductor/__init__.py", r'\n {8}("[\w-]+"): '),
}
# Texts with which a value is compared: TRL's file, and its name there.
COMPARED = {
    **{
        name: ("trainer/{}_trainer.py", name)
        for name in (
            "loss_type",
            "f_divergence_type",
            "importance_sampling_level",
            "multi_objective_aggregation",
            "scale_rewards",
            "vllm_importance_sampling_mode",
        )
    },
    "vllm_mode": ("generation/vllm_generation.py", "mode"),
}
# Types where the annotations admit a null that ends in an error, or sets no interval, or name classes that are not read
# here; of scale_rewards TRL takes true and false, too, and of DPO's losses one as a text. One stage's own has its name
# before.
TYPES: dict[str, Kinds] = {
    **dict.fromkeys(ENUMERATED, (str,)),
    **dict.fromkeys((*WHOLE, "num_generations"), (int,)),
    "eval_steps": (int, float),
    "debug": (str, list),
    "torch_compile_backend": (str, type(None)),
    "dpo.loss_type": (str, list),
    "scale_rewards": (str, bool),
    "trackio_static_space_id": (str, bool, type(None)),
    "gradient_checkpointing_kwargs": (dict, type(None)),
    "gradient_checkpointing": (bool, str),  # `auto` is ours, and no longer there when TRL is told
}
# What transformers' optimizers take beside torch, by a part of their names; the first that is found counts.
OPTIMIZERS = {
    "galore": "galore-torch",
    "apollo": "apollo-torch",
    "lomo": "lomo-optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "stable_adamw": "torch-optimi",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "torch_xla": "torch_xla",
    "torch_npu": "torch_npu",
    "anyprecision": "torchdistx",
    **dict.fromkeys(("bnb", "8bit", "paged", "ademamix", "lion"), "bitsandbytes"),
}
# What transformers' sampling takes as a float alone: 2 would end a training at its first completions.
FLOATS = ("temperature", "repetition_penalty")
# What every learning rate's schedule is told by the trainer.
TOLD = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
# What we choose where params.yaml says nothing.
OURS = {
    "optim": "adamw_torch_fused",  # on all three kinds of device one kernel updates all weights
    # Rows are tokenised beforehand and in memory: to put a batch together takes less than to send it, and pinned memory
    # helps only who does something else meanwhile.
    "dataloader_pin_memory": False,
    "dataloader_num_workers": 0,
    "ddp_find_unused_parameters": False,  # there are none; to look costs time in each step
    # On the card that trains vLLM needs its weights and cache only while it generates: in between it lets go of them.
    "vllm_enable_sleep_mode": True,
}
# What decides no byte of a model.
REPORTING = re.compile(r"(hub|trackio|log|vllm_server)_.*|run_name|project|skip_memory_metrics")
# The YAML types of what annotations name.
SIMPLE: dict[str, tuple[type, ...]] = {kind.__name__: (kind,) for kind in (int, str, bool, dict, list)}
SIMPLE |= {"float": (int, float), "None": (type(None),)}


@cache
def text_of(package: str, path: str) -> str:
    """The text of a file of an installed package, which is found and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(environment.lacking(package))
    return (Path(spec.origin).parent / path).read_text(encoding="utf-8")


@cache
def source_of(package: str, path: str) -> ast.Module:
    """The syntax tree of such a file."""
    return ast.parse(text_of(package, path))


def body_of(package: str, path: str, cls: str) -> list[ast.stmt]:
    """The statements of a class in such a file."""
    nodes = source_of(package, path).body
    return next(node.body for node in nodes if isinstance(node, ast.ClassDef) and node.name == cls)


def accepted(annotation: ast.expr) -> Kinds:
    """The YAML types an annotation admits; None where it names a type we do not know, which admits anything."""
    names = re.sub(r"\[.*?\]|'", "", ast.unparse(annotation)).split(" | ")
    if "dict" in names:  # a text in its place is JSON from a command line
        names = [name for name in names if name != "str"]
    kinds = [SIMPLE.get(name, ()) for name in names]
    return tuple(chain(*kinds)) if all(kinds) else None


def held_kinds(annotation: ast.expr) -> Kinds:
    """The YAML types of what a list or a map of an annotation holds; None where that is anything, or there is none."""
    inner = re.search(r"(?:list|dict)\[(?:\w+, )?(\w+)\]", ast.unparse(annotation))
    return SIMPLE.get(inner[1]) if inner else None


def told_of_field(value: ast.expr | None) -> dict[str | None, ast.expr]:
    """What `dataclasses.field` is told."""
    return {one.arg: one.value for one in value.keywords} if isinstance(value, ast.Call) else {}


def default(value: ast.expr | None) -> Any:
    """The default that it is told; as its source has it, where that is no plain value."""
    given = told_of_field(value)
    plain = given.get("default") or given["default_factory"]
    plain = plain.body if isinstance(plain, ast.Lambda) else plain
    try:
        return ast.literal_eval(plain)
    except ValueError:
        return ast.unparse(plain)


def choices_told(value: ast.expr | None) -> tuple[str, ...]:
    """The choices that its metadata lists for a command line."""
    metadata = told_of_field(value).get("metadata")
    for key, item in zip(metadata.keys, metadata.values, strict=True) if isinstance(metadata, ast.Dict) else ():
        if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(item, ast.List):
            return tuple(ast.literal_eval(item))
    return ()


def declared(package: str, path: str, cls: str, stage: str | None = None) -> dict[str, Field]:
    """The fields of such a dataclass, but for those that are decided elsewhere."""
    found = {}
    for one in body_of(package, path, cls):
        if isinstance(one, ast.AnnAssign) and (name := ast.unparse(one.target)) not in DECIDED:
            found[name] = Field(
                TYPES.get(f"{stage}.{name}") or TYPES.get(name) or accepted(one.annotation),
                BOUNDS.get(f"{stage}.{name}", BOUNDS.get(name, ())),
                choices(name, stage) or choices_told(one.value),
                default(one.value),
                items=held_kinds(one.annotation),
            )
    return found


@cache
def shared() -> dict[str, Field]:
    """What every TRL config takes: the fields of TrainingArguments and of TRL's own base class."""
    names = declared("transformers", "training_args.py", "TrainingArguments")
    return names | declared("trl", "trainer/base_config.py", "_BaseConfig")


@cache
def of_stage(stage: str) -> dict[str, Field]:
    return shared() | declared("trl", f"trainer/{stage}_config.py", STAGES[stage].config, stage)


@cache
def choices(name: str, stage: str | None = None) -> tuple[str, ...]:
    """The texts among which a value under this name is chosen; empty where there is no such choice."""
    if name in COMPARED and stage:
        path, called = COMPARED[name]
        values = rf"\b{called} (?:==|!=|in|not in) ([\[({{].+?[\])}}]|\S+)"
        compared = re.findall(values, text_of("trl", path.format(stage)))
        return tuple(dict.fromkeys(re.findall(r'"(\w+)"', " ".join(compared))))
    if name in ENUMERATED:
        members = [node.value for node in body_of(*ENUMERATED[name]) if isinstance(node, ast.Assign)]
        return tuple(ast.literal_eval(member).lower() for member in members)  # accelerate raises what it is given
    if name in LISTED:
        package, path, pattern = LISTED[name]
        lists = re.findall(pattern, text_of(package, path), re.DOTALL)
        return tuple(dict.fromkeys(re.findall(r"[\"']([\w-]+)[\"']", " ".join(lists))))
    return CHOICES.get(name, ())


def ours(stage: str) -> dict[str, Any]:
    """What we choose for a stage: of OURS what its config takes."""
    return {name: value for name, value in OURS.items() if name in of_stage(stage)}


def packages(optimizer: object) -> list[str]:
    """The package that an optimizer of transformers takes beside torch, if any.

    >>> packages("paged_adamw_8bit"), packages("adamw_torch")
    (['bitsandbytes'], [])
    """
    return [package for part, package in OPTIMIZERS.items() if part in str(optimizer)][:1]


def schedule_arguments(name: str) -> tuple[list[str], list[str]] | None:
    """What `lr_scheduler_kwargs` may name for a schedule, and what it must; None where it may name anything.

    >>> schedule_arguments("warmup_stable_decay")[1]
    ['num_decay_steps']
    """
    members = [node for node in body_of(*ENUMERATED["lr_scheduler_type"]) if isinstance(node, ast.Assign)]
    named = {ast.unparse(member.targets[0]): ast.literal_eval(member.value) for member in members}
    made = {}
    for node in source_of("transformers", "optimization.py").body:
        if isinstance(node, ast.FunctionDef):
            made[node.name] = node.args
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_TO_SCHEDULER_FUNCTION":
            table = ast.literal_eval(re.sub(r"SchedulerType\.(\w+): (\w+)", r"'\1': '\2'", ast.unparse(node.value)))
    function = made[next(table[member] for member, text in named.items() if text == name)]
    if function.kwarg:
        return None
    names = [one.arg for one in function.args]
    needed = names[: len(names) - len(function.defaults)]
    return [one for one in names if one not in TOLD], [one for one in needed if one not in TOLD]


def sampling_arguments() -> list[str]:
    """What transformers' `GenerationConfig` takes."""
    text = text_of("transformers", "generation/configuration_utils.py")
    return list(dict.fromkeys(re.findall(r'self\.([a-z]\w*) = kwargs\.pop\(\s*"\1"', text)))


def vllm_arguments() -> list[str]:
    """What the installed vLLM's `SamplingParams` takes."""
    body = body_of("vllm", "sampling_params.py", "SamplingParams")
    names = [ast.unparse(one.target) for one in body if isinstance(one, ast.AnnAssign)]
    return [name for name in names if not name.startswith("_")]


def vllm_versions() -> tuple[str, str]:
    """The oldest and the newest vLLM that TRL takes; with any other it warns, and goes on."""
    text = text_of("trl", "import_utils.py")
    found = re.search(r'Version\("([\d.]+)"\) <= _vllm_base_version <= Version\("([\d.]+)"\)', text)
    assert found, "TRL tells its versions of vLLM in another way"
    return found[1], found[2]


def comparable() -> list[str]:
    """The losses of DPO that go with another `f_divergence_type` than the usual."""
    lists = re.findall(r"f_divergence_loss_types = \{(.+?)\}", text_of("trl", "trainer/dpo_trainer.py"), re.DOTALL)
    return re.findall(r'"(\w+)"', " ".join(lists))
