"""The sections `train`, `sft`, `reward`, `dpo` and `grpo` of params.yaml, and what a stage makes of them.

Every value is resolved here, TRL's defaults too, so that what is recorded is what decided the bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from llmrl.fields import BELOW_ONE, SEED, above, at_least, at_most, fields_of, from_section, many
from llmrl.graph import STAGES
from llmrl.training import options

if TYPE_CHECKING:
    from peft import LoraConfig

    from llmrl.measuring.settings import Answers
    from llmrl.session.settings import RunSettings

Section = dict[str, Any]  # of params.yaml, checked
Precision = Literal["auto", "fp32", "bf16", "fp16"]
THREADS = at_most(4096)  # torch takes more, and ends where the machine cannot start them


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters, which are trained in place of the weights and then merged: https://arxiv.org/abs/2106.09685"""

    rank: Annotated[int, at_least(1), "of the adapters' matrices"]
    alpha: Annotated[int, above(0), "over rank, it scales them"]
    dropout: Annotated[float, BELOW_ONE, "of what goes into them"] = 0.0
    targets: Annotated[list[str] | str, "the modules that get one; all-linear: all but the head"] = "all-linear"
    merge: Annotated[Literal["float32", "bfloat16", "float16"], "in which the sum of weights and adapters is saved"] = (
        "float32"
    )
    load_in_4bit: Annotated[
        bool,
        "the layers' matrices in 4 bit while the adapters are trained (https://arxiv.org/abs/2305.14314); as these are "
        "then added to the weights as they were, the saved model answers a little unlike the trained one",
    ] = False

    def config(self, task: str) -> LoraConfig:
        """As peft takes it; of a classifier (SEQ_CLS) the head is trained too."""
        from peft import LoraConfig

        return LoraConfig(
            task_type=task,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets,
        )


@dataclass(frozen=True)
class TrainSettings:
    """What all four stages share; a stage's section overrides all but `lr`."""

    seed: Annotated[int, at_least(0), SEED, "of everything that is drawn"]
    batch: Annotated[int, at_least(1), "sequences an optimizer step; of grpo completions"]
    micro_batch: Annotated[
        int | Literal["auto"], at_least(1), "sequences a device holds at once; accumulation follows; auto: all that fit"
    ]
    lr: Annotated[float, above(0), "the one dial: a stage trains at lr times its lr_scale"]
    precision: Annotated[Precision, "of the arithmetic (autocast); auto: bf16 or fp16 on CUDA, else fp32"] = "auto"
    kernels: Annotated[Literal["auto", "torch", "liger"], "of the layers; auto: Liger's on CUDA"] = "auto"
    threads: Annotated[
        int | None, at_least(1), THREADS, "of torch on a CPU, which decide the last bits; null: its own"
    ] = None
    # Each tested with packed documents, of varlen on a CPU all but torch's kernel itself. FlashAttention's own packages
    # were never run; on CUDA sdpa is torch's own.
    attn_implementation: Annotated[
        Literal["eager", "sdpa", "flex_attention", "varlen"] | None,
        "of attention; null: the model's own; varlen: sdpa, but of packed documents each alone, on CUDA",
    ] = None
    lora: Annotated[Lora | None, "adapters in place of the weights; null: all weights are trained"] = None


@dataclass(frozen=True)
class StageSettings(TrainSettings):
    """What every stage has besides."""

    init: Annotated[str, "the folder of the model it starts from"] = ""
    lr_scale: Annotated[float, above(0), "its share of train.lr"] = 1.0
    eval_rows: Annotated[int | None, at_least(1), "the most held-out rows of TRL's own evaluations; null: all"] = None


@dataclass(frozen=True)
class SftSettings(StageSettings):
    """What SFT has besides."""

    loss_on: Annotated[Literal["all", "last"], "of the assistant's turns the loss covers"] = "all"


@dataclass(frozen=True)
class GrpoSettings(StageSettings):
    """What GRPO has besides."""

    max_prompt_length: Annotated[int | None, at_least(1), "tokens; a longer prompt is left out"] = None
    pass_rate: Annotated[
        list[float] | None, "only prompts of which the policy it starts from answers such a share rightly, [0.1, 0.9]"
    ] = None
    pass_samples: Annotated[int, at_least(2), "answers by which each prompt is judged so"] = 8
    reward_model: Annotated[str, "the folder of the trained reward model"] = ""
    rewards: Annotated[dict[str, float], "functions of llmrl/rewards.py, and reward_model, by weight"] = field(
        default_factory=dict
    )


OWN = {"sft": SftSettings, "reward": StageSettings, "dpo": StageSettings, "grpo": GrpoSettings}


@dataclass(frozen=True)
class Settings:
    """One stage's settings, resolved: `own` holds our names, `trl` what is given of TRL's and goes to its config as it
    stands, `defaults` what TRL has for the rest, but for those in `ours`, which go to its config too.
    """

    stage: str
    lr: float
    own: Any  # as OWN has it
    trl: dict[str, Any]
    defaults: dict[str, Any]
    answers: Answers
    run: RunSettings
    max_refused: float  # data.max_defective: the share of a side's rows that may be left out as refused
    processes: int = 1  # that run it, by `launch`

    @classmethod
    def of(
        cls,
        stage: str,
        train: Section,
        section: Section,
        answers: Answers,
        run: RunSettings,
        max_refused: float,
        processes: int,
    ) -> Settings:
        given, known = train | section, fields_of(OWN[stage])
        own: Any = from_section(OWN[stage], {name: value for name, value in given.items() if name in known})
        trl = {name: value for name, value in given.items() if name not in known}
        trl |= {name: float(trl[name]) for name in options.FLOATS if name in trl}
        if stage == "dpo" and "loss_type" in trl:  # one or several; TRL's config makes a list of either
            trl["loss_type"] = many(trl["loss_type"])
        if answers.precision == "auto":
            answers = replace(answers, precision=train.get("precision", TrainSettings.precision))
        defaults = {name: one.default for name, one in options.of_stage(stage).items()} | options.ours(stage)
        return cls(stage, own.lr * own.lr_scale, own, trl, defaults, answers, run, max_refused, processes)

    @property
    def ours(self) -> Section:
        """What this project chooses where params.yaml says nothing."""
        return options.ours(self.stage)

    @property
    def chosen(self) -> Section:
        """Every setting of TRL's, given or not."""
        return self.defaults | self.trl

    def option(self, name: str) -> Any:
        return self.chosen[name]

    @property
    def packages(self) -> list[str]:
        """The packages it takes beside those that every stage does."""
        quantiser = ["bitsandbytes"] if self.own.lora and self.own.lora.load_in_4bit else []
        engine = ["vllm"] if self.trl.get("use_vllm") else []
        scorers = ["reasoning-gym"] if "reasoning_gym" in getattr(self.own, "rewards", ()) else []
        return sorted({*quantiser, *engine, *scorers, *options.packages(self.trl.get("optim"))})

    def needs_solutions(self, scored: bool) -> list[str]:
        """The settings by which completions are judged by the solutions of data/prompts, which has none; where prompts
        are `scored` by tasks of reasoning-gym, another reward and pass_rate have these.
        """
        if not STAGES[self.stage].generates:
            return []
        by_scorer = "reasoning_gym" in self.own.rewards
        needs = {
            "rewards.accuracy": "accuracy" in self.own.rewards and not (scored and by_scorer),
            "pass_rate": self.own.pass_rate and not scored,
        }
        return [f"{self.stage}.{name}" for name in needs if needs[name]]

    @property
    def deciding(self) -> dict[str, Any]:
        """Everything here that decides the bytes of the stage's model: for its provenance, and its key."""
        own, stage = asdict(self.own), STAGES[self.stage]
        own |= {"learning_rate": self.lr, "processes": self.processes, "data": stage.data, "generates": stage.generates}
        if stage.generates:
            own |= {f"answers.{name}": getattr(self.answers, name) for name in ("engine", "precision")}  # completions'
            if own["pass_rate"] or {*own["rewards"]} - {"reward_model"}:
                own["answers.marks"] = self.answers.marks  # which judge them
        if own.get("pass_rate"):
            own["answers.batch"] = self.answers.batch  # which decides the random numbers that prompts are judged by
        every = self.chosen | own
        undecided = ("lr", "lr_scale")  # but their product
        return {k: v for k, v in every.items() if k not in undecided and not options.REPORTING.fullmatch(k)}
