"""The sections of params.yaml: what each holds, as dataclasses, and what a stage makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

from llmrl.schema import DECIDED, Names, names_of, optimizer_packages, shared_names, trl_names

STAGES = ("sft", "reward", "dpo", "grpo")
DATA_SETS = ("sft", "preference", "prompts")
SOURCES = {"model": ("builtin:tiny", "raw"), "data": ("builtin:arithmetic", "raw")}
TESTS = ("test", "validation", "valid", "val", "dev", "eval")  # splits that are never trained on
# A repository of the Hugging Face Hub: owner/name, or a bare name as the oldest ones have it.
REPOSITORY = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Model:
    """Where the base model comes from."""

    source: str
    revision: str | None = None


@dataclass(frozen=True)
class Part:
    """One source of rows. `columns` maps our column names to the source's own; `weight` is its share of a mixture."""

    source: str
    revision: str | None = None
    subset: str | None = None
    split: str = "train"
    columns: dict[str, str] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class Source:
    """Where one data set comes from, and how many of its rows are used: one source, or a list of them."""

    source: str | list
    revision: str | None = None
    subset: str | None = None
    split: str = "train"
    rows: int | None = None
    eval_rows: int | None = None
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """The sources it is mixed from: one, where there is no list of them."""
        if isinstance(self.source, list):
            return [Part(**part) for part in self.source]
        return [Part(self.source, self.revision, self.subset, self.split, self.columns)]


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
    """The protocol by which every policy is measured on the held-out prompts.

    `precision` is that of the arithmetic in which every policy answers, also while GRPO trains it and where its prompts
    are judged; `auto` that of train.precision, whatever a stage's own.
    """

    samples: int
    temperature: float
    max_new_tokens: int
    batch: int
    seed: int
    precision: str = "auto"


@dataclass(frozen=True)
class Run:
    """What does not change the bytes of any product: no stage depends on it."""

    report_to: list[str] | str = "none"
    verbosity: str = "normal"
    save_steps: int | str = "5 min"
    save_total_limit: int = 2
    grace: float = 20.0
    min_signal: float = 0.1
    patience: int = 50
    memory_gib: float | None = None

    @property
    def save_interval(self) -> tuple[int, float]:
        """The least steps, and the least seconds, between two checkpoints."""
        if isinstance(self.save_steps, int):
            return self.save_steps, 0.0
        return 1, 60 * float(self.save_steps.removesuffix("min"))


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters, which are trained in place of the weights: https://arxiv.org/abs/2106.09685

    `alpha` over `rank` scales them; `targets` are the modules that get one, "all-linear" all but the head; `merge` is
    the precision in which the sum of weights and adapters is saved. `load_in_4bit` has the layers' matrices in 4 bit
    while the adapters are trained (https://arxiv.org/abs/2305.14314); as these are then added to the weights as they
    were, the model that is saved answers a little unlike the one that was trained.
    """

    rank: int
    alpha: int
    dropout: float = 0.0
    targets: list[str] | str = "all-linear"
    merge: str = "float32"
    load_in_4bit: bool = False


@dataclass(frozen=True)
class Train:
    """Our own names in `train`; a stage's section overrides all but `lr`."""

    seed: int
    batch: int
    micro_batch: int
    lr: float
    precision: str = "auto"
    kernels: str = "auto"
    threads: int | None = None
    attn_implementation: str | None = None
    lora: dict[str, Any] | None = None


@dataclass(frozen=True)
class Stage(Train):
    """Our own names in a stage's section; `eval_rows` bounds the held-out rows of TRL's own evaluations."""

    init: str = ""
    lr_scale: float = 1.0
    eval_rows: int | None = None


@dataclass(frozen=True)
class Grpo(Stage):
    """What GRPO has besides: prompts no longer than `max_prompt_length` tokens, of which the policy it starts from
    answers a share within `pass_rate` rightly, by `pass_samples` answers each; and its rewards by weight.
    """

    max_prompt_length: int | None = None
    pass_rate: list[float] | None = None
    pass_samples: int = 8
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
    processes: int = 1  # that run it, by `launch`

    @property
    def lora(self) -> Lora | None:
        """The adapters to train, if any."""
        return Lora(**self.own.lora) if self.own.lora else None

    @property
    def packages(self) -> list[str]:
        """The packages it takes beside those that every stage does."""
        quantiser = ["bitsandbytes"] if self.lora and self.lora.load_in_4bit else []
        return sorted({*quantiser, *optimizer_packages(self.trl.get("optim"))})

    @property
    def tracked(self) -> dict[str, Any]:
        """Everything here that decides the bytes of the stage's model, for its provenance."""
        own = {f.name: getattr(self.own, f.name) for f in fields(OWN[self.stage]) if f.name not in ("lr", "lr_scale")}
        if self.stage == "grpo":
            own["answers.precision"] = self.answers.precision  # of its completions
        if self.own.pass_rate:
            own["answers.batch"] = self.answers.batch  # which decides the random numbers that prompts are judged by
        return {"learning_rate": self.lr, "processes": self.processes, **own, **self.trl}


def of_hub(source: str) -> bool:
    """Whether a source is a repository of the Hugging Face Hub."""
    known = {name for names in SOURCES.values() for name in names}
    return source not in known and bool(REPOSITORY.fullmatch(source)) and not re.search(r"--|\.\.|[.-]$", source)


OWN = {"sft": Stage, "reward": Stage, "dpo": Stage, "grpo": Grpo}


def sections() -> dict[str, Names]:
    """Every section, and what it may hold."""
    data = {f"data.{name}": names_of(Source) for name in DATA_SETS}
    rest = {
        "model": names_of(Model),
        "train.lora": names_of(Lora),
        "data": names_of(Data),
        "answers": names_of(Answers),
        "run": names_of(Run),
    }
    return {"train": train_names()} | {stage: stage_names(stage) for stage in STAGES} | rest | data


def train_names() -> Names:
    """What `train` may hold: our names, and what all TRL configs take but for what is decided elsewhere."""
    return {name: kinds for name, kinds in shared_names().items() if name not in DECIDED} | names_of(Train)


def stage_names(stage: str) -> Names:
    """What the section of a stage may hold: our names but the one dial, and TRL's but those decided elsewhere."""
    own = {name: kinds for name, kinds in names_of(OWN[stage]).items() if name != "lr"}
    return {name: kinds for name, kinds in trl_names(stage).items() if name not in DECIDED} | own
