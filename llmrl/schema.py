"""What a section of params.yaml may hold: names, types and choices, read from source and never imported.

Our own are the fields of the dataclasses in sections.py, TRL's and transformers' those of their configs, the rewards'
names the functions of rewards.py.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

from llmrl.errors import InputError

Names = dict[str, tuple[type, ...] | None]  # a name and the YAML types of its value; None admits any

CONFIG = {"sft": "SFTConfig", "reward": "RewardConfig", "dpo": "DPOConfig", "grpo": "GRPOConfig"}

# What the rows of each data set consist of: `columns` maps these names to a source's own.
COLUMNS = {
    "sft": ("messages", "prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "prompts": ("prompt", "solution"),
}

# TRL's and transformers' names that are decided elsewhere, and where.
DECIDED = {
    "learning_rate": "train.lr (times the stage's lr_scale)",
    "per_device_train_batch_size": "micro_batch (sequences a device holds at once)",
    "gradient_accumulation_steps": "batch (sequences an optimizer step); accumulation follows from micro_batch",
    "bf16": "precision",
    "fp16": "precision",
    "bf16_full_eval": "nothing: weights stay in float32",
    "fp16_full_eval": "nothing: weights stay in float32",
    "use_liger_kernel": "kernels",
    "liger_kernel_config": "kernels",
    "auto_find_batch_size": "micro_batch",
    "use_cpu": "CUDA_VISIBLE_DEVICES= in the environment",
    "output_dir": "the stage's output in dvc.yaml",
    "report_to": "run.report_to",
    "save_strategy": "run.save_steps",
    "save_steps": "run.save_steps",
    "save_total_limit": "run.save_total_limit",
    "save_only_model": "nothing: a run resumes from its checkpoints exactly",
    "save_on_each_node": "nothing: one process writes",
    "resume_from_checkpoint": "nothing: a run continues from its own last checkpoint",
    "ignore_data_skip": "nothing: a run resumes exactly",
    "restore_callback_states_from_checkpoint": "nothing: a run resumes exactly",
    "enable_jit_checkpoint": "run.grace",
    "eval_on_start": "nothing: every stage is measured before it trains",
    "logging_nan_inf_filter": "nothing: a loss that is not finite stops the stage",
    "load_best_model_at_end": "nothing: a stage keeps its last step",
    "push_to_hub": "dvc push",
    "disable_tqdm": "run.verbosity",
    "log_level": "run.verbosity",
    "log_completions": "nothing: every completion is kept in the run's folder",
    "num_completions_to_print": "nothing: every completion is kept in the run's folder",
    "assistant_only_loss": "nothing: the loss covers the assistant's tokens alone",
    "completion_only_loss": "nothing: the loss covers the assistant's tokens alone",
    "padding_free": "sft.packing, which needs no padding",
    "use_transformers_paged": "nothing: TRL 1.16 cannot evaluate with it",
    "reward_weights": "grpo.rewards, a map from the reward's name to its weight",
    "model_init_kwargs": "model and train",
    "data_seed": "train.seed",
}

# Numbers that make sense, by name, in whichever section. TRL and transformers would reject others only after a model
# has been loaded, or never.
AT_LEAST = {
    **dict.fromkeys(("seed", "warmup_steps", "grace"), 0),
    **dict.fromkeys(("save_steps", "save_total_limit", "patience"), 1),
    **dict.fromkeys(("rows", "eval_rows", "samples", "max_new_tokens", "threads"), 1),
    **dict.fromkeys(("batch", "micro_batch", "per_device_eval_batch_size", "num_generations_eval"), 1),
    **dict.fromkeys(("max_length", "max_prompt_length", "max_completion_length"), 1),
    **dict.fromkeys(("generation_batch_size", "steps_per_generation"), 1),
    "num_generations": 2,
    "pass_samples": 2,
    "rank": 1,
}
ABOVE_ZERO = ("lr", "lr_scale", "alpha", "temperature", "num_train_epochs", "eval_steps", "logging_steps", "memory_gib")

# Names whose value is one of a few texts: ours, and where transformers lists its own.
CHOICES = {
    "precision": ("auto", "fp32", "bf16", "fp16"),  # of the arithmetic, in training and in `answers`
    "kernels": ("auto", "torch", "liger"),
    "verbosity": ("normal", "quiet"),
    "merge": ("float32", "bfloat16", "float16"),
    # Each tested with packed documents. FlashAttention's own packages were never run; on CUDA sdpa is torch's own.
    "attn_implementation": ("eager", "sdpa", "flex_attention"),
    # `wrapped` would let a document attend to the one before it.
    "packing_strategy": ("bfd", "bfd_split"),
    # `group_by_length` draws its order before the random state of a resumed run is restored.
    "train_sampling_strategy": ("random", "sequential", "batch_rebalance"),
}
ENUMERATED = {
    "optim": ("training_args.py", "OptimizerNames"),
    "lr_scheduler_type": ("trainer_utils.py", "SchedulerType"),
    "eval_strategy": ("trainer_utils.py", "IntervalStrategy"),
    "logging_strategy": ("trainer_utils.py", "IntervalStrategy"),
}

# Types where the annotations name classes that are not read here, or admit a null that ends in an error (of groups) or
# sets no bound (of tokens). Where null is TRL's default, to leave the name out says the same.
TYPES: Names = {
    **dict.fromkeys(ENUMERATED, (str,)),
    **dict.fromkeys(("num_generations", "num_generations_eval", "max_completion_length"), (int,)),
    **dict.fromkeys(("generation_batch_size", "steps_per_generation"), (int,)),
    "gradient_checkpointing_kwargs": (dict, type(None)),
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
    **dict.fromkeys(("bnb", "8bit", "paged", "ademamix", "lion"), "bitsandbytes"),
}

SIMPLE = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "dict": (dict,), "list": (list,)}


def accepted(annotation: ast.expr | None) -> tuple[type, ...] | None:
    """The YAML types an annotation admits; None where it names a type we do not know, which admits anything."""
    match annotation:
        case ast.Name(id=name):
            return SIMPLE.get(name)
        case ast.Constant(value=None):
            return (type(None),)
        case ast.Constant(value=str(text)):
            return accepted(ast.parse(text, mode="eval").body)
        case ast.Subscript(value=ast.Name(id="list" | "dict" as name)):
            return SIMPLE[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            one, other = accepted(left), accepted(right)
            return None if one is None or other is None else one + other
        case _:
            return None


def declared(tree: ast.Module, cls: str) -> Iterator[tuple[str, tuple[type, ...] | None]]:
    """Name and accepted types of each field of the dataclass `cls` in a source file."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    name = statement.target.id
                    yield name, TYPES.get(name, accepted(statement.annotation))


@cache
def source_of(package: str, path: str) -> ast.Module:
    """The syntax tree of a file of an installed package, which is found and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"{package} is not installed in {sys.prefix}. `make setup` installs what is locked.")
    return ast.parse((Path(spec.origin).parent / path).read_text(encoding="utf-8"))


@cache
def shared_names() -> Names:
    """What every TRL config takes: the fields of TrainingArguments and of TRL's own base class."""
    names = dict(declared(source_of("transformers", "training_args.py"), "TrainingArguments"))
    return names | dict(declared(source_of("trl", "trainer/base_config.py"), "_BaseConfig"))


@cache
def trl_names(stage: str) -> Names:
    """What the stage's TRL config takes."""
    return shared_names() | dict(declared(source_of("trl", f"trainer/{stage}_config.py"), CONFIG[stage]))


@cache
def names_of(cls: type) -> Names:
    """What one of our own dataclasses takes; its module must postpone the evaluation of annotations."""
    return {f.name: accepted(ast.parse(str(f.type), mode="eval").body) for f in fields(cls)}


def nonsense(name: str, value: float) -> str | None:
    """What is wrong with a number under this name, or None."""
    if not math.isfinite(value):
        return "is not finite"
    if name in AT_LEAST and value < AT_LEAST[name]:
        return f"is less than {AT_LEAST[name]}"
    if name in ABOVE_ZERO and value <= 0:
        return "is not greater than 0"
    if name == "max_steps" and value != -1 and value < 1:  # -1: num_train_epochs decides
        return "is less than 1"
    if name == "eval_share" and not 0 < value < 1:
        return "is not between 0 and 1: there must be rows to train on and rows held out"
    if name == "dropout" and not 0 <= value < 1:
        return "is not at least 0 and less than 1"
    if name in ("max_defective", "min_signal") and not 0 <= value <= 1:
        return "is not between 0 and 1"
    return None


@cache
def choices(name: str, stage: str | None) -> tuple[str, ...]:
    """The texts among which a value under this name is chosen; empty where there is no such choice."""
    if name == "loss_type" and stage:
        return loss_types(stage)
    return enumerated(*ENUMERATED[name]) if name in ENUMERATED else CHOICES.get(name, ())


def optimizer_packages(name: object) -> list[str]:
    """The package that an optimizer of transformers takes beside torch, if any.

    >>> optimizer_packages("paged_adamw_8bit"), optimizer_packages("adamw_torch")
    (['bitsandbytes'], [])
    """
    return [package for part, package in OPTIMIZERS.items() if part in str(name)][:1]


def enumerated(path: str, name: str) -> tuple[str, ...]:
    """The values of the enumeration `name` in a source file of transformers."""
    classes = (node for node in source_of("transformers", path).body if isinstance(node, ast.ClassDef))
    body = next(node.body for node in classes if node.name == name)
    return tuple(ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign))


def loss_types(stage: str) -> tuple[str, ...]:
    """What the stage's trainer compares its `loss_type` with: TRL lists them nowhere else. Empty for the reward's."""
    found: dict[str, None] = {}
    for node in ast.walk(source_of("trl", f"trainer/{stage}_trainer.py")):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith("loss_type"):
            constants = (part for part in ast.walk(node.comparators[0]) if isinstance(part, ast.Constant))
            found |= dict.fromkeys(part.value for part in constants if isinstance(part.value, str))
    return tuple(found)


@cache
def trackers() -> tuple[str, ...]:
    """The trackers that transformers reports to."""
    for node in source_of("transformers", "integrations/integration_utils.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INTEGRATION_TO_CALLBACK":
            return tuple(ast.literal_eval(key) for key in node.value.keys)  # type: ignore[attr-defined]
    raise AssertionError("transformers no longer keeps its trackers in INTEGRATION_TO_CALLBACK")


@cache
def reward_names() -> tuple[str, ...]:
    """The public functions of rewards.py, and the trained reward model. Raises InputError where it is not Python."""
    path = Path(__file__).parent / "rewards.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"llmrl/{path.name}:{error.lineno}: {error.msg}.") from None
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return (*(node.name for node in functions if not node.name.startswith("_")), "reward_model")
