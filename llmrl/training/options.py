"""What TRL's and transformers' configs take: names, types, defaults and choices, read from source and never imported.

An import of TRL costs seconds, and the check of params.yaml is to cost none.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from llmrl.errors import InputError
from llmrl.fields import Bound, Field, Kinds, above, at_least
from llmrl.graph import STAGES

# Names that are decided elsewhere, and where.
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
    "push_to_hub": "dvc push",
    **dict.fromkeys(("disable_tqdm", "log_level"), "run.verbosity"),
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

# Whole numbers from 1 on. Annotations also admit a null that ends in an error (of groups) or sets no bound (of tokens);
# where null is TRL's default, to leave the name out says the same.
WHOLE = ("num_generations_eval", "max_completion_length", "generation_batch_size", "steps_per_generation")
# Numbers that make sense, by name: TRL and transformers would reject others only after a model was loaded, or never.
BOUNDS = {
    "warmup_steps": at_least(0),
    "max_steps": Bound(lambda value: value == -1 or value >= 1, "at least 1, or -1: epochs decide", "is less than 1"),
    "num_generations": at_least(2),
    **dict.fromkeys((*WHOLE, "per_device_eval_batch_size", "max_length"), at_least(1)),
    **dict.fromkeys(("temperature", "num_train_epochs", "eval_steps", "logging_steps"), above(0)),
}
# Values that are one of a few texts: as we allow, or where transformers lists its own.
CHOICES = {
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
# Types where the annotations admit such a null, or name classes that are not read here.
TYPES: dict[str, Kinds] = {
    **dict.fromkeys(ENUMERATED, (str,)),
    **dict.fromkeys((*WHOLE, "num_generations"), (int,)),
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
# What we choose where params.yaml says nothing.
OURS = {
    "optim": "adamw_torch_fused",  # on all three kinds of device one kernel updates all weights
    # Rows are tokenised beforehand and in memory: to put a batch together takes less than to send it, and pinned memory
    # helps only who does something else meanwhile.
    "dataloader_pin_memory": False,
    "dataloader_num_workers": 0,
    "ddp_find_unused_parameters": False,  # there are none; to look costs time in each step
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
        raise InputError(f"{package} is not installed in {sys.prefix}. `make setup` installs what is locked.")
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
    kinds = [SIMPLE.get(name, ()) for name in names]
    return tuple(chain(*kinds)) if all(kinds) else None


def default(value: ast.expr | None) -> Any:
    """What `dataclasses.field` is told of its default; as its source has it, where that is no plain value."""
    told = {one.arg: one.value for one in value.keywords} if isinstance(value, ast.Call) else {}
    plain = told.get("default") or told["default_factory"]
    plain = plain.body if isinstance(plain, ast.Lambda) else plain
    try:
        return ast.literal_eval(plain)
    except ValueError:
        return ast.unparse(plain)


def declared(package: str, path: str, cls: str, stage: str | None = None) -> dict[str, Field]:
    """The fields of such a dataclass, but for those that are decided elsewhere."""
    found = {}
    for one in body_of(package, path, cls):
        if isinstance(one, ast.AnnAssign) and (name := ast.unparse(one.target)) not in DECIDED:
            kinds, bounds = TYPES.get(name) or accepted(one.annotation), [BOUNDS[name]] if name in BOUNDS else []
            found[name] = Field(kinds, tuple(bounds), choices(name, stage), default(one.value))
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
    if name == "loss_type" and stage:  # with what the stage's trainer compares it: TRL lists its texts nowhere else
        text = text_of("trl", f"trainer/{stage}_trainer.py")
        compared = re.findall(r"if (?:\w+\.)?loss_type (?:==|in|not in) ([\[({].+?[\])}]|\S+)", text)
        return tuple(dict.fromkeys(re.findall(r'"(\w+)"', " ".join(compared))))
    if name in ENUMERATED:
        body = body_of("transformers", *ENUMERATED[name])
        return tuple(ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign))
    if name == "report_to":
        text = text_of("transformers", "integrations/integration_utils.py")
        return tuple(re.findall(r'"(\w+)":', text.split("\nINTEGRATION_TO_CALLBACK = {")[1].split("\n}")[0]))
    return CHOICES.get(name, ())


def packages(optimizer: object) -> list[str]:
    """The package that an optimizer of transformers takes beside torch, if any.

    >>> packages("paged_adamw_8bit"), packages("adamw_torch")
    (['bitsandbytes'], [])
    """
    return [package for part, package in OPTIMIZERS.items() if part in str(optimizer)][:1]
