"""params.yaml: what a valid one becomes. What is refused is in test_mistakes.py."""

import json
import re

import pytest

from llmrl import checks, params, schema


@pytest.mark.usefixtures("project")
def test_the_committed_file_is_valid():
    """Every stage gets settings from params.yaml as it is committed."""
    assert ["sft", "reward", "dpo", "grpo"] == [params.stage(name).stage for name in params.STAGES]


def test_one_dial_reaches_every_stage(change):
    """A stage trains at train.lr times its lr_scale."""
    change("train.lr", "0.5")
    tree = checks.check()
    expected = [0.5 * tree[name]["lr_scale"] for name in params.STAGES]
    assert expected == [params.stage(name).lr for name in params.STAGES]


@pytest.mark.parametrize("spelling", ["1e-5", "1e-05", "1.0e-5", "1E-5", "0.00001"])
def test_every_spelling_of_a_number_is_a_number(change, spelling):
    """A learning rate may be written as DVC, Python or a human writes it."""
    change("train.lr", spelling)
    assert 1e-5 == checks.check()["train"]["lr"]


def test_a_stage_overrides_train(change):
    """A name in a stage's section wins over the same name in train."""
    change("dpo.init", "models/sft\n  seed: 7\n  weight_decay: 0.25")
    change("train.seed", "1\n  weight_decay: 0.5")
    dpo, sft = params.stage("dpo"), params.stage("sft")
    assert (7, 0.25, 1, 0.5) == (dpo.own.seed, dpo.trl["weight_decay"], sft.own.seed, sft.trl["weight_decay"])


@pytest.mark.usefixtures("project")
def test_own_names_stay_away_from_trl():
    """What goes to TRL's config holds only names that TRL knows."""
    for stage in params.STAGES:
        assert set() == params.stage(stage).trl.keys() - schema.trl_names(stage).keys()


@pytest.mark.usefixtures("project")
def test_what_is_tracked_can_be_written():
    """The settings that decide a model are plain values, with the resolved learning rate and without the dial."""
    tracked = params.stage("grpo").tracked
    assert tracked == json.loads(json.dumps(tracked))
    assert tracked["learning_rate"] == params.stage("grpo").lr
    assert set() == {"lr", "lr_scale", "report_to"} & tracked.keys()


def test_merged_keys_are_read(change):
    """YAML's anchors and merges may be used."""
    change("reward.init", "models/sft\n  <<: {weight_decay: 0.25, logging_steps: 3}")
    tracked = params.stage("reward").tracked
    assert (0.25, 3) == (tracked["weight_decay"], tracked["logging_steps"])


def test_names_are_those_of_the_installed_libraries():
    """Names, types and choices read from source are those of TRL's and transformers' own classes."""
    import dataclasses

    import trl
    from transformers.training_args import OptimizerNames

    configs = {"sft": trl.SFTConfig, "reward": trl.RewardConfig, "dpo": trl.DPOConfig, "grpo": trl.GRPOConfig}
    for stage, config in configs.items():
        declared = {field.name for field in dataclasses.fields(config) if field.init}
        assert declared == schema.trl_names(stage).keys() & declared
    assert tuple(name.value for name in OptimizerNames) == schema.choices("optim", None)


def test_names_decided_elsewhere_exist():
    """A name that is explained as decided elsewhere is one that TRL still has."""
    known = set().union(*(schema.trl_names(stage) for stage in params.STAGES))
    assert set() == schema.DECIDED.keys() - known


def test_each_trainer_knows_its_losses():
    """The losses found in TRL's source hold the one that each config starts from."""
    import trl

    defaults = {"sft": trl.SFTConfig, "dpo": trl.DPOConfig, "grpo": trl.GRPOConfig}
    for stage, config in defaults.items():
        default = config.__dataclass_fields__["loss_type"]
        value = default.default_factory() if callable(default.default_factory) else default.default
        values = value if isinstance(value, list) else [value]
        assert set() == set(values) - set(schema.choices("loss_type", stage))


def test_rewards_are_the_functions_of_the_file():
    """A public function of rewards.py is a reward, and so is the trained reward model."""
    assert ("accuracy", "ends_boxed", "reward_model") == schema.reward_names()


def test_the_check_is_light(python):
    """Checking the settings imports none of the heavy libraries."""
    heavy = "{'torch', 'transformers', 'trl', 'datasets', 'pyarrow', 'numpy'}"
    done = python("-c", f"import sys; from llmrl import params; params.main(); assert not {heavy} & set(sys.modules)")
    assert (0, "") == (done.returncode, done.stderr)


def test_it_prints_what_each_trainer_gets(python):
    """`python -m llmrl.params` shows every stage's resolved settings."""
    done = python("-m", "llmrl.params")
    assert 0 == done.returncode
    for name in ("learning_rate", "per_device_eval_batch_size", "max_completion_length"):
        assert re.search(rf"\b{name}\b", done.stdout)


@pytest.mark.parametrize(
    ("section", "asked", "expected"),
    [
        ({"train.precision": "bf16"}, "auto", "bf16"),
        ({"train.precision": "bf16"}, "fp32", "fp32"),
        ({"train.precision": "bf16", "dpo.max_steps": "50\n  precision: fp32"}, "auto", "bf16"),
        ({}, "auto", "auto"),
    ],
)
def test_all_policies_answer_in_one_precision(change, section, asked, expected):
    """The one that is asked, or else that of `train`, whatever a stage's own."""
    change("answers.precision", asked)
    for name, value in section.items():
        change(name, value)
    assert {expected} == {params.stage(name).answers.precision for name in params.STAGES}
    assert expected == params.stage("grpo").tracked["answers.precision"]
    assert "answers.precision" not in params.stage("dpo").tracked
