"""docs/settings.md: every setting of ours, generated from where it is declared."""

from __future__ import annotations

from typing import Any

from llmrl.base.settings import Model
from llmrl.data.settings import DATA_SETS, Data, Part, Preference, Source
from llmrl.fields import ENGLISH, Field, as_yaml, fields_of
from llmrl.measuring.settings import Answers
from llmrl.session.settings import RunSettings
from llmrl.training.options import DECIDED
from llmrl.training.settings import GrpoSettings, Lora, SftSettings, StageSettings, TrainSettings

HEAD = """\
# Settings

Everything of ours that `params.yaml` may hold. Generated: `python -m docs.settings > docs/settings.md`.
`python -m llmrl.params` checks the file and prints what each trainer gets.

Beside these, `train` takes every argument of transformers' `TrainingArguments`, and `sft`, `reward`, `dpo` and `grpo`
every argument of
[`SFTConfig`](https://huggingface.co/docs/trl/sft_trainer#trl.SFTConfig),
[`RewardConfig`](https://huggingface.co/docs/trl/reward_trainer#trl.RewardConfig),
[`DPOConfig`](https://huggingface.co/docs/trl/dpo_trainer#trl.DPOConfig) and
[`GRPOConfig`](https://huggingface.co/docs/trl/grpo_trainer#trl.GRPOConfig), under TRL's own name and with TRL's
default, but for those that are decided elsewhere (the last table).
"""
SHARED, STAGE, SFT, GRPO = (fields_of(one) for one in (TrainSettings, StageSettings, SftSettings, GrpoSettings))
PAIRS = {name: one for name, one in fields_of(Preference).items() if name not in fields_of(Source)}
SECTIONS: tuple[tuple[str, str, Any], ...] = (
    ("launch", "What starts a stage: `python`, or `torchrun --standalone --nproc_per_node=2`.", {}),
    ("model", "Where the base model comes from.", fields_of(Model)),
    ("data", "What the three data sets share.", {k: v for k, v in fields_of(Data).items() if k not in DATA_SETS}),
    ("data.sft, data.preference, data.prompts", "Where each data set comes from.", fields_of(Source)),
    ("data.preference", "What the pairs have besides.", PAIRS),
    ("a source in a list", "What each of several sources has.", fields_of(Part)),
    ("train", "What all four stages share; a stage's section overrides all but `lr`.", SHARED),
    ("train.lora", "Adapters; also in a stage's section.", fields_of(Lora)),
    ("sft, reward, dpo, grpo", "What each stage has besides.", STAGE.keys() - SHARED.keys()),
    ("sft", "What SFT has besides.", {name: one for name, one in SFT.items() if name not in STAGE}),
    ("grpo", "What GRPO has besides.", GRPO.keys() - STAGE.keys()),
    ("answers", "How every policy is measured.", fields_of(Answers)),
    ("run", "What changes no result: no stage depends on it.", fields_of(RunSettings)),
)


def values(field: Field) -> str:
    """What a setting may be, in words."""
    kinds = field.kinds or ()
    words = [f"`{choice}`" for choice in field.choices]
    besides = (bool, int, float) if words else ENGLISH
    words += [ENGLISH[kind] for kind in kinds if kind in besides and not (kind is int and float in kinds)]
    words += ["`null`"] * (type(None) in kinds)
    bounds = "".join(f", {bound.right}" for bound in field.bounds)
    return " or ".join(words) + bounds


def page() -> str:
    parts = [HEAD]
    for title, text, names in SECTIONS:
        parts.append(f"\n## {title}\n\n{text}\n")
        known = names if isinstance(names, dict) else {k: v for k, v in GRPO.items() if k in names}
        rows = [
            f"| `{name}` | {values(one)} | {'' if one.default is ... else f'`{as_yaml(one.default)}`'} | {one.note} |\n"
            for name, one in known.items()
        ]
        if rows:
            parts.append("\n| setting | value | default | |\n|---|---|---|---|\n" + "".join(rows))
    parts.append("\n## Decided elsewhere\n\n| TRL's name | decided by |\n|---|---|\n")
    parts += [f"| `{name}` | {where} |\n" for name, where in DECIDED.items()]
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
