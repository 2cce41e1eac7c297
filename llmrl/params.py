"""The settings of an experiment: params.yaml, checked, and what each trainer makes of it.

    params.yaml -> Settings of a stage        python -m llmrl.params prints them all

Every section is checked whichever stage asks, so that a night of training never ends in a typo of the last
section. Nothing heavy is imported: the check costs a fraction of a second, on any machine.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from llmrl.errors import InputError, reported
from llmrl.schema import DECIDED, Names, names_of, reward_names, shared_names, trl_names

PATH = Path("params.yaml")
STAGES = ("sft", "reward", "dpo", "grpo")
DATA_SETS = ("sft", "preference", "prompts")


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
    """Ruamel's containers and numbers, which remember their formatting, as Python's own."""
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

    def names(self, keys: tuple[str, ...], section: dict, valid: Names) -> None:
        """Each name is known, and its value of a type it can have."""
        for name, value in section.items():
            if name not in valid:
                self.unknown((*keys, name), valid)
            elif (kinds := valid[name]) is not None and not fits(value, kinds):
                self.say((*keys, name), f": {value!r} is {kind(value)}, not {' or '.join(map(english, kinds))}.")

    def unknown(self, keys: tuple[str, ...], valid: Names) -> None:
        name = keys[-1]
        homes = [home for home, names in sections().items() if name in names]
        near = difflib.get_close_matches(name, valid, n=1)
        if name in DECIDED:
            self.say(keys, f" is not set here: {DECIDED[name]} decides it.")
        elif name == "lr":
            self.say(keys, ": train.lr is one dial for all stages; lr_scale sets this one's share of it.")
        elif homes:
            self.say(keys, f" is not set here; it belongs in {' or '.join(homes)}.")
        elif near:
            self.say(keys, f" is not a setting. Did you mean {'.'.join((*keys[:-1], near[0]))}?")
        else:
            self.say(keys, " is not a setting.")

    def required(self, keys: tuple[str, ...], section: dict, cls: type) -> None:
        for f in fields(cls):
            if f.default is MISSING and f.default_factory is MISSING and f.name not in section:
                self.say((*keys, f.name), " is missing.")

    def own(self, keys: tuple[str, ...], section: dict, cls: type) -> None:
        """A section that holds our own names alone."""
        self.names(keys, section, names_of(cls))
        self.required(keys, section, cls)

    def between(self, keys: tuple[str, ...], value: Any, low: float, high: float) -> None:
        if isinstance(value, int | float) and not low <= value <= high:
            self.say(keys, f": {value!r} is not between {low:g} and {high:g}.")


def fits(value: Any, kinds: tuple[type, ...]) -> bool:
    # YAML's true is an int to Python, and no number to a user.
    return (isinstance(value, bool) and bool in kinds) or (not isinstance(value, bool) and isinstance(value, kinds))


def english(kind: type) -> str:
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a map", list: "a list"}
    return names.get(kind, "null")


def kind(value: Any) -> str:
    return english(type(value))


def sections() -> dict[str, Names]:
    """Every section, and what it may hold."""
    data = {f"data.{name}": names_of(Source) for name in DATA_SETS}
    rest = {"model": names_of(Model), "data": names_of(Data), "answers": names_of(Answers), "run": names_of(Run)}
    return data | rest | {"train": train_names()} | {stage: stage_names(stage) for stage in STAGES}


def train_names() -> Names:
    """What `train` may hold: our names, and what all TRL configs take but for what is decided elsewhere."""
    return {name: kinds for name, kinds in shared_names().items() if name not in DECIDED} | names_of(Train)


def stage_names(stage: str) -> Names:
    """What the section of a stage may hold: our names but the one dial, and TRL's but those decided elsewhere."""
    own = {name: kinds for name, kinds in names_of(OWN[stage]).items() if name != "lr"}
    return {name: kinds for name, kinds in trl_names(stage).items() if name not in DECIDED} | own


def check(path: Path = PATH) -> dict[str, Any]:
    """The whole of params.yaml as plain values.

    Raises InputError naming every mistake with its file, line, key, value and what would be right.
    """
    raw = read(path)
    tree = plain(raw)
    checker = Checker(path, raw)
    checker.own((), tree, Top)
    given = {name: value for name, value in tree.items() if isinstance(value, dict)}
    for name, cls in {"model": Model, "data": Data, "answers": Answers, "run": Run}.items():
        if name in given:
            checker.own((name,), given[name], cls)
    check_data(checker, given.get("data", {}))
    check_trackers(checker, given.get("run", {}))
    train = given.get("train", {})
    if "train" in given:
        checker.names(("train",), train, train_names())
        checker.required(("train",), train, Train)
    for stage in STAGES:
        if stage in given:
            check_stage(checker, stage, train, given[stage])
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


def check_trackers(checker: Checker, run: dict) -> None:
    """A tracker is a package, which must be there before a model is loaded for nothing."""
    named = run.get("report_to", "none")
    for tracker in [named] if isinstance(named, str) else named:
        if tracker != "none" and importlib.util.find_spec(str(tracker)) is None:
            checker.say(
                ("run", "report_to"), f": {tracker!r} is not installed in this environment; none needs nothing."
            )


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
        checker.say(("grpo", "rewards"), " is missing: a map from the name of a reward to its weight.")
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
    own = names_of(OWN[name])
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
