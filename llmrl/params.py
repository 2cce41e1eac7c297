"""The settings of an experiment: params.yaml, checked, and what each trainer makes of it.

    params.yaml -> Settings of a stage        python -m llmrl.params prints them all

Every section is checked whichever stage asks, so that a night of training never ends in a typo of the last
section. The names a section may hold are read from the sources of TRL and transformers and from `rewards.py`,
without importing any of them: the check costs a fraction of a second, on any machine.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from llmrl.errors import InputError, reported

PATH = Path("params.yaml")
STAGES = ("sft", "reward", "dpo", "grpo")
DATA_SETS = ("sft", "preference", "prompts")
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


@dataclass(frozen=True)
class Model:
    """Where the base model comes from."""

    source: str
    revision: str | None = None


@dataclass(frozen=True)
class Source:
    """Where one data set comes from. `columns` maps our column names to the source's own."""

    source: str
    revision: str | None = None
    rows: int | None = None
    eval_rows: int | None = None
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """What the three data sets share: the split, and the share of defective rows that stops a run."""

    seed: int
    salt: str
    eval_share: float
    max_defective: float
    sft: dict
    preference: dict
    prompts: dict


@dataclass(frozen=True)
class Answers:
    """The protocol by which every policy is measured on the held-out prompts."""

    samples: int
    temperature: float
    max_new_tokens: int
    batch: int
    seed: int


@dataclass(frozen=True)
class Run:
    """What does not change the bytes of any product: no stage depends on it."""

    report_to: list[str] | str = "none"
    verbosity: str = "normal"


@dataclass(frozen=True)
class Train:
    """Our own names in `train`; a stage's section overrides all but `lr`."""

    seed: int
    batch: int
    micro_batch: int
    lr: float
    precision: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Stage(Train):
    """Our own names in a stage's section."""

    init: str = ""
    lr_scale: float = 1.0


@dataclass(frozen=True)
class Grpo(Stage):
    """What GRPO has besides: prompts no longer than `max_prompt_length` tokens, and its rewards by weight."""

    max_prompt_length: int | None = None
    reward_model: str = ""
    rewards: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Top:
    """The sections of params.yaml, and what starts a stage."""

    launch: str
    model: dict
    data: dict
    train: dict
    sft: dict
    reward: dict
    dpo: dict
    grpo: dict
    answers: dict
    run: dict


@dataclass(frozen=True)
class Settings:
    """One stage's settings, resolved: `own` holds our names, `trl` what goes to TRL's config as it stands."""

    stage: str
    lr: float
    own: Grpo
    trl: dict[str, Any]
    answers: Answers
    run: Run

    @property
    def tracked(self) -> dict[str, Any]:
        """Everything here that decides the bytes of the stage's model, for its provenance."""
        own = {f.name: getattr(self.own, f.name) for f in fields(OWN[self.stage]) if f.name not in ("lr", "lr_scale")}
        return {"learning_rate": self.lr, **own, **self.trl}


OWN = {"sft": Stage, "reward": Stage, "dpo": Stage, "grpo": Grpo}


# --- what a section may hold -----------------------------------------------------------------------------------------

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
def shared_names() -> dict[str, tuple[type, ...] | None]:
    """What every TRL config takes: the fields of TrainingArguments and of TRL's own base class."""
    names = dict(declared(source_of("transformers", "training_args.py"), "TrainingArguments"))
    return names | dict(declared(source_of("trl", "trainer/base_config.py"), "_BaseConfig"))


@cache
def trl_names(stage: str) -> dict[str, tuple[type, ...] | None]:
    """What the stage's TRL config takes."""
    return shared_names() | dict(declared(source_of("trl", f"trainer/{stage}_config.py"), CONFIG[stage]))


@cache
def own_names(cls: type) -> dict[str, tuple[type, ...] | None]:
    """What one of the dataclasses above takes."""
    return {f.name: accepted(ast.parse(str(f.type), mode="eval").body) for f in fields(cls)}


@cache
def reward_names() -> tuple[str, ...]:
    """The public functions of rewards.py, and the trained reward model."""
    tree = ast.parse((Path(__file__).parent / "rewards.py").read_text())
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return (*functions, "reward_model")


# --- reading and checking --------------------------------------------------------------------------------------------


def read(path: Path = PATH) -> CommentedMap:
    """params.yaml as YAML 1.2, so that the 1e-05 which DVC writes is a number; keys remember their lines."""
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. `git checkout {path}` or a profile of profiles/ restores it.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, CommentedMap):
        raise InputError(f"{path} holds no sections; profiles/ has whole examples.")
    return tree


def plain(value: Any) -> Any:
    """ruamel's containers and numbers, which remember their formatting, as Python's own."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


class Checker:
    """Collects what is wrong with one params.yaml, a line each: file, line, key, value, what would be right."""

    def __init__(self, path: Path, tree: CommentedMap) -> None:
        self.path, self.tree = path, tree
        self.mistakes: list[str] = []

    def say(self, keys: tuple[str, ...], text: str) -> None:
        section: Any = self.tree
        line = 0
        for key in keys:
            if not isinstance(section, CommentedMap) or key not in section:
                break
            line, section = section.lc.key(key)[0] + 1, section[key]
        self.mistakes.append(f"{self.path}:{line or 1}: {'.'.join(keys)}{text}")

    def names(self, keys: tuple[str, ...], section: dict, valid: dict[str, tuple[type, ...] | None]) -> None:
        """Each name is known, and its value of a type it can have."""
        for name, value in section.items():
            if name not in valid:
                self.unknown((*keys, name), valid)
            elif (kinds := valid[name]) is not None and not fits(value, kinds):
                self.say((*keys, name), f": {value!r} is {kind(value)}, not {' or '.join(map(english, kinds))}.")

    def unknown(self, keys: tuple[str, ...], valid: dict[str, Any]) -> None:
        name = keys[-1]
        if name in DECIDED:
            return self.say(keys, f" is not set here: {DECIDED[name]} decides it.")
        if name == "lr":
            return self.say(keys, ": train.lr is one dial for all stages; lr_scale sets this one's share of it.")
        near = difflib.get_close_matches(name, valid, n=1)
        if near:
            return self.say(keys, f" is not a setting. Did you mean {'.'.join((*keys[:-1], near[0]))}?")
        homes = [home for home, names in homes_of(name) if home != ".".join(keys[:-1])]
        self.say(keys, f" is not a setting{'; it belongs in ' + ' or '.join(homes) if homes else ''}.")

    def required(self, keys: tuple[str, ...], section: dict, cls: type) -> None:
        for f in fields(cls):
            if f.default is MISSING and f.default_factory is MISSING and f.name not in section:
                self.say((*keys, f.name), " is missing.")

    def own(self, keys: tuple[str, ...], section: dict, cls: type) -> None:
        """A section that holds our own names alone."""
        self.names(keys, section, own_names(cls))
        self.required(keys, section, cls)

    def between(self, keys: tuple[str, ...], value: Any, low: float, high: float) -> None:
        if isinstance(value, int | float) and not low <= value <= high:
            self.say(keys, f": {value!r} is not between {low:g} and {high:g}.")


def fits(value: Any, kinds: tuple[type, ...]) -> bool:
    # YAML's true is an int to Python, and no number to a user.
    return isinstance(value, bool) and bool in kinds or not isinstance(value, bool) and isinstance(value, kinds)


def english(kind: type) -> str:
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a map", list: "a list"}
    return names.get(kind, "null")


def kind(value: Any) -> str:
    return english(type(value))


def homes_of(name: str) -> Iterator[tuple[str, Any]]:
    """The sections in which a name would be valid."""
    places: dict[str, dict] = {f"data.{data}": own_names(Source) for data in DATA_SETS}
    places |= {"model": own_names(Model), "data": own_names(Data), "answers": own_names(Answers), "run": own_names(Run)}
    places |= {"train": shared_names() | own_names(Train)}
    places |= {stage: stage_names(stage) for stage in STAGES}
    yield from ((home, names) for home, names in places.items() if name in names)


def stage_names(stage: str) -> dict[str, tuple[type, ...] | None]:
    """What the section of a stage may hold: our names but the one dial, and TRL's but those decided elsewhere."""
    own = {name: kinds for name, kinds in own_names(OWN[stage]).items() if name != "lr"}
    return {name: kinds for name, kinds in trl_names(stage).items() if name not in DECIDED} | own


def check(path: Path = PATH) -> dict[str, Any]:
    """The whole of params.yaml as plain values.

    Raises InputError naming every mistake with its file, line, key, value and what would be right.
    """
    raw = read(path)
    tree = plain(raw)
    checker = Checker(path, raw)
    checker.own((), tree, Top)
    sections = {name: value for name, value in tree.items() if isinstance(value, dict)}
    for name, cls in {"model": Model, "data": Data, "answers": Answers, "run": Run}.items():
        if name in sections:
            checker.own((name,), sections[name], cls)
    check_data(checker, sections.get("data", {}))
    train = sections.get("train", {})
    if "train" in sections:
        valid = {name: kinds for name, kinds in shared_names().items() if name not in DECIDED} | own_names(Train)
        checker.names(("train",), train, valid)
        checker.required(("train",), train, Train)
    for stage in STAGES:
        if stage in sections:
            check_stage(checker, stage, train, sections[stage])
    if checker.mistakes:
        raise InputError("\n".join(checker.mistakes))
    return tree


def check_data(checker: Checker, data: dict) -> None:
    """The split, and each data set's source."""
    for share in ("eval_share", "max_defective"):
        checker.between(("data", share), data.get(share), 0, 1)
    for name in DATA_SETS:
        if not isinstance(source := data.get(name), dict):
            continue
        checker.own(("data", name), source, Source)
        checker.between(("data", name, "rows"), source.get("rows"), 1, float("inf"))
        if str(source.get("source")).startswith("builtin:"):
            for limit in ("rows", "eval_rows"):
                if source.get(limit) is None:
                    checker.say(("data", name, limit), " is missing: a built-in task has no end.")


def check_stage(checker: Checker, stage: str, train: dict, section: dict) -> None:
    """A stage's names and types, and what TRL would reject only after minutes of loading."""
    before = len(checker.mistakes)
    checker.names((stage,), section, stage_names(stage))
    if not section.get("init"):
        checker.say((stage, "init"), " is missing: the folder of the model this stage starts from.")
    if len(checker.mistakes) > before:
        return
    merged = {**train, **section}
    batch, micro_batch = merged.get("batch"), merged.get("micro_batch")
    if isinstance(batch, int) and isinstance(micro_batch, int) and (micro_batch < 1 or batch % micro_batch):
        checker.say((stage, "batch"), f": {batch} sequences a step are no multiple of micro_batch, {micro_batch}.")
    if merged.get("precision", "auto") not in ("auto", "fp32", "bf16", "fp16"):
        checker.say((stage, "precision"), f": {merged['precision']!r} is none of auto, fp32, bf16, fp16.")
    if stage == "grpo":
        check_rewards(checker, section)
        generations = section.get("num_generations", 8)
        if isinstance(batch, int) and isinstance(generations, int) and (generations < 2 or batch % generations):
            checker.say(
                (stage, "num_generations"),
                f": groups of {generations} do not fill a batch of {batch}; it needs at least 2, and to divide batch.",
            )


def check_rewards(checker: Checker, section: dict) -> None:
    rewards = section.get("rewards", {})
    if not rewards:
        return checker.say(("grpo", "rewards"), " is missing: a map from the name of a reward to its weight.")
    for name, weight in rewards.items():
        if name not in reward_names():
            near = difflib.get_close_matches(name, reward_names(), n=1) or [", ".join(reward_names())]
            checker.say(("grpo", "rewards", name), f" is no reward of llmrl/rewards.py. Did you mean {near[0]}?")
        elif not fits(weight, (int, float)):
            checker.say(("grpo", "rewards", name), f": the weight {weight!r} is {kind(weight)}, not a number.")
    if "reward_model" in rewards and not section.get("reward_model"):
        checker.say(("grpo", "reward_model"), " is missing: grpo.rewards gives it a weight.")


# --- what a stage gets -----------------------------------------------------------------------------------------------


def stage(name: str, path: Path = PATH) -> Settings:
    """The resolved settings of a stage. Raises InputError like `check`."""
    tree = check(path)
    merged = {"lr_scale": 1.0, **tree["train"], **tree[name]}
    own = own_names(OWN[name])
    return Settings(
        stage=name,
        lr=merged["lr"] * merged["lr_scale"],
        own=Grpo(**{key: value for key, value in merged.items() if key in own}),
        trl={key: value for key, value in merged.items() if key not in own},
        answers=Answers(**tree["answers"]),
        run=Run(**tree["run"]),
    )


def source(name: str, path: Path = PATH) -> tuple[Data, Source]:
    """The settings of the data as a whole and of one data set. Raises InputError like `check`."""
    data = check(path)["data"]
    return Data(**data), Source(**data[name])


def model(path: Path = PATH) -> Model:
    """Where the base model comes from. Raises InputError like `check`."""
    return Model(**check(path)["model"])


def main() -> None:
    """Print what each trainer will get, or every mistake."""
    from rich.console import Console
    from rich.table import Table

    with reported():
        stages = [stage(name) for name in STAGES]
    columns = [settings.tracked for settings in stages]
    table = Table("setting", *STAGES, title=str(PATH), title_justify="left")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(str(column.get(name, "")) for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
