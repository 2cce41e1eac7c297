"""params.yaml: what a valid one becomes. What is refused is in test_mistakes.py."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import trl
from small import experiment
from transformers.training_args import OptimizerNames

from llmrl import params
from llmrl.fields import many
from llmrl.graph import STAGES
from llmrl.params import PATH, checks
from llmrl.training import options


@pytest.mark.parametrize("spelling", ["1e-5", "1e-05", "1.0e-5", "1E-5", "0.00001"])
def test_one_dial_reaches_every_stage(setting, spelling):
    """A stage trains at train.lr, as DVC, Python or a human writes it, times its lr_scale."""
    setting("train.lr", spelling)
    tree = checks.check(PATH)
    stages = params.experiment().stages

    assert ["sft", "reward", "dpo", "grpo"] == [settings.stage for settings in stages.values()]
    assert [1e-5 * tree[name]["lr_scale"] for name in STAGES] == [settings.lr for settings in stages.values()]


def test_a_stage_overrides_train(setting):
    """A name in a stage's section wins over the same name in train."""
    setting("dpo.init", "models/sft\n  seed: 7\n  weight_decay: 0.25")
    setting("train.seed", "1\n  weight_decay: 0.5")
    dpo, sft = (params.experiment().stages[name] for name in ("dpo", "sft"))

    assert (7, 0.25, 1, 0.5) == (dpo.own.seed, dpo.trl["weight_decay"], sft.own.seed, sft.trl["weight_decay"])


def test_own_names_stay_away_from_trl():
    """What goes to TRL's config holds only names that TRL knows."""
    for stage, settings in experiment().stages.items():
        assert set() == settings.trl.keys() - options.of_stage(stage).keys()


def test_what_decides_a_model_can_be_written():
    """The settings that decide a model are plain values, with the resolved learning rate and without the dial."""
    settings = experiment().stages["grpo"]
    deciding = settings.deciding

    assert deciding == json.loads(json.dumps(deciding))
    assert deciding["learning_rate"] == settings.lr
    assert set() == {"lr", "lr_scale", "report_to"} & deciding.keys()


def test_merged_keys_are_read(setting):
    """YAML's anchors and merges may be used."""
    setting("reward.init", "models/sft\n  <<: {weight_decay: 0.25, logging_steps: 3}")
    deciding = params.experiment().stages["reward"].deciding

    assert (0.25, 3) == (deciding["weight_decay"], deciding["logging_steps"])


def test_what_is_not_given_has_its_default(setting):
    """Ours from our classes, TRL's from its source: all of it is resolved."""
    setting("train.lora", "{rank: 8, alpha: 16}")
    setting("sft.max_length", "128\n  optim: adafactor")
    sft, dpo = (params.experiment().stages[name] for name in ("sft", "dpo"))

    assert {"dropout": 0.0, "targets": "all-linear", "merge": "float32"}.items() <= sft.deciding["lora"].items()
    assert ("adafactor", "adamw_torch_fused") == (sft.option("optim"), dpo.option("optim"))
    assert trl.DPOConfig.label_smoothing == dpo.deciding["label_smoothing"]


@pytest.mark.parametrize("stage", STAGES)
def test_names_are_those_of_the_installed_libraries(stage):
    """Names, defaults and losses read from source are those of TRL's own classes."""
    made = getattr(trl, STAGES[stage].config)
    config = {field.name: field for field in dataclasses.fields(made) if field.init}
    defaults = {
        name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for name, field in config.items()
    }
    known = options.of_stage(stage)

    assert config.keys() - options.DECIDED.keys() == known.keys()
    # These are no plain values in the source, and are kept as they stand there.
    plain = known.keys() - {"include_for_metrics", "loss_type", "optim"}
    assert {name: getattr(defaults[name], "value", defaults[name]) for name in plain} == {
        name: known[name].default for name in plain
    }
    if "loss_type" in known:
        assert set() == {*many(defaults["loss_type"])} - {*options.choices("loss_type", stage)}


def test_choices_are_those_of_transformers():
    """As read from its source."""
    assert tuple(name.value for name in OptimizerNames) == options.choices("optim")


def test_names_decided_elsewhere_exist():
    """A name that is explained as decided elsewhere is one that TRL still has."""
    known = set().union(*(getattr(trl, stage.config).__dataclass_fields__ for stage in STAGES.values()))

    assert set() == options.DECIDED.keys() - known


def test_rewards_are_the_functions_of_the_file():
    """A public function of rewards.py is a reward, and so is the trained reward model."""
    assert ("accuracy", "ends_marked", "soft_overlong_punishment", "reward_model") == checks.reward_names()


def test_it_prints_what_each_trainer_gets_and_is_light(python):
    """`python -m llmrl.params` shows every stage's resolved settings, and imports none of the heavy libraries."""
    heavy = "{'torch', 'transformers', 'trl', 'datasets', 'pyarrow', 'numpy'}"
    code = f"import sys; from llmrl.params.__main__ import main; main(); print({heavy} & {{*sys.modules}})"
    done = python("-c", code)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.endswith("set()\n")
    for name in ("learning_rate", "per_device_eval_batch_size", "grpo.max_completion_length"):
        assert re.search(rf"^  {name} +\S", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("section", "asked", "expected"),
    [
        ({"train.precision": "bf16"}, "auto", "bf16"),
        ({"train.precision": "bf16"}, "fp32", "fp32"),
        ({"train.precision": "bf16", "dpo.max_steps": "50\n  precision: fp32"}, "auto", "bf16"),
        ({}, "auto", "auto"),
    ],
)
def test_all_policies_answer_in_one_precision(setting, section, asked, expected):
    """The one that is asked, or else that of `train`, whatever a stage's own."""
    setting("answers.precision", asked)
    for name, value in section.items():
        setting(name, value)
    stages = params.experiment().stages

    assert {expected} == {settings.answers.precision for settings in stages.values()}
    assert expected == stages["grpo"].deciding["answers.precision"]
    assert "answers.precision" not in stages["dpo"].deciding
