"""What a section of params.yaml may hold: names and types, read from source and never imported.

Our own are the fields of the dataclasses in params.py, TRL's and transformers' those of their configs, the rewards'
names the functions of rewards.py.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

from llmrl.errors import InputError

Names = dict[str, tuple[type, ...] | None]  # a name and the YAML types of its value; None admits any

CONFIG = {"sft": "SFTConfig", "reward": "RewardConfig", "dpo": "DPOConfig", "grpo": "GRPOConfig"}

# TRL's and transformers' names that are decided elsewhere, and where.
DECIDED = {
    "learning_rate": "train.lr (times the stage's lr_scale)",
    "per_device_train_batch_size": "micro_batch (sequences a device holds at once)",
    "gradient_accumulation_steps": "batch (sequences an optimizer step); accumulation follows from micro_batch",
    "bf16": "precision",
    "fp16": "precision",
    "use_cpu": "CUDA_VISIBLE_DEVICES= in the environment",
    "output_dir": "the stage's output in dvc.yaml",
    "report_to": "run.report_to",
    "save_strategy": "run",
    "save_steps": "run",
    "save_total_limit": "run",
    "resume_from_checkpoint": "nothing: a stage resumes by itself",
    "load_best_model_at_end": "nothing: a stage keeps its last step",
    "push_to_hub": "dvc push",
    "disable_tqdm": "run.verbosity",
    "log_level": "run.verbosity",
    "log_completions": "nothing: every completion is kept in the run's folder",
    "reward_weights": "grpo.rewards, a map from the reward's name to its weight",
    "model_init_kwargs": "model and train",
    "data_seed": "train.seed",
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


def declared(tree: ast.Module, name: str) -> Iterator[tuple[str, tuple[type, ...] | None]]:
    """Name and accepted types of each field of the dataclass `name` in a source file."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.target.id, accepted(statement.annotation)


def source_of(package: str, path: str) -> ast.Module:
    """The syntax tree of a file of an installed package, which is found and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"{package} is not installed in {sys.prefix}. `make setup` installs what is locked.")
    return ast.parse((Path(spec.origin).parent / path).read_text())


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


@cache
def reward_names() -> tuple[str, ...]:
    """The public functions of rewards.py, and the trained reward model."""
    tree = ast.parse((Path(__file__).parent / "rewards.py").read_text())
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return (*functions, "reward_model")
