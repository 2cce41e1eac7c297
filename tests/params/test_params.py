"""params.yaml: what a valid one becomes. What is refused is in test_mistakes.py."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil

import pytest
import small
import transformers
import trl
from accelerate.utils import DynamoBackend
from small import experiment
from torch._inductor import list_mode_options
from transformers import SchedulerType
from transformers.debug_utils import DebugOption
from transformers.generation import RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper
from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.training_args import OptimizerNames

from llmrl import fields, params
from llmrl.fields import many
from llmrl.graph import STAGES
from llmrl.params import PATH, checks, combinations, unused
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


def test_choices_are_those_of_the_libraries():
    """As read from their sources."""
    assert tuple(name.value for name in OptimizerNames) == options.choices("optim")
    assert tuple(name.value.lower() for name in DynamoBackend) == options.choices("torch_compile_backend")
    assert tuple(name.value for name in DebugOption) == options.choices("debug")
    assert set(INTEGRATION_TO_CALLBACK) == {*options.choices("report_to")}
    assert set(ALL_CACHE_IMPLEMENTATIONS) == {*options.choices("cache_implementation")}
    assert set(list_mode_options()) == {*options.choices("torch_compile_mode")}
    compared = re.findall(r'include_num_input_tokens_seen [!=]= "(\w+)"', inspect.getsource(transformers.trainer))
    assert {"all", *compared} == {*options.choices("include_num_input_tokens_seen")}
    assert () == options.choices("vllm_model_impl")  # vLLM's own, of which a help text names two
    assert ("fork", "spawn", "forkserver") == options.shared()["dataloader_multiprocessing_context"].choices
    assert {name for name in vars(transformers.GenerationConfig()) if name[0] != "_"} <= {*options.sampling_arguments()}


# What TRL's trainers compare a value with: where it is another, so must be what is read and what goes by it.
COMPARED = {
    ("sft", "loss_type"): "nll dft",
    ("dpo", "loss_type"): "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero "
    "apo_down discopop sft sigmoid_norm",
    ("dpo", "f_divergence_type"): "reverse_kl forward_kl js_divergence alpha_divergence",
    ("grpo", "loss_type"): "grpo dr_grpo dapo bnpo cispo sapo luspo vespo",
    ("grpo", "importance_sampling_level"): "token sequence",
    ("grpo", "multi_objective_aggregation"): "sum_then_normalize normalize_then_sum",
    ("grpo", "scale_rewards"): "group batch none",
    ("grpo", "vllm_importance_sampling_mode"): "token_truncate token_mask sequence_truncate sequence_mask",
    ("grpo", "vllm_mode"): "server colocate",
}


def test_choices_are_what_trl_compares_with():
    """Of every name that is read so, in every stage that has it."""
    read = {(stage, name) for stage in STAGES for name in options.COMPARED if name in options.of_stage(stage)}

    assert COMPARED.keys() == read
    for (stage, name), texts in COMPARED.items():
        assert set(texts.split()) == {*options.choices(name, stage)}
    assert {"sigmoid", "ipo", "sft"} < {*options.comparable()} < {*options.choices("loss_type", "dpo")}


def test_what_settings_belong_to_exists():
    """The settings without which others have no effect, with such values, are there in every stage that has these."""
    for (other, values), names in unused.BELONGS.items():
        having = [known for known in map(options.of_stage, STAGES) if any(name in known for name in names)]
        assert all(any(name in known for known in having) for name in names)
        for known in having:
            listed = list in (known[other].kinds or ())
            assert not any(fields.refusal([value] if listed else value, known[other]) for value in values)


@pytest.mark.parametrize("schedule", SchedulerType)
def test_arguments_of_schedules(schedule):
    """What `lr_scheduler_kwargs` may and must hold is what transformers' function takes beside what it is told."""
    arguments = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[schedule]).parameters.values()
    own = [one for one in arguments if one.name not in options.TOLD]
    may = [one.name for one in own]
    must = [one.name for one in own if one.default is one.empty]

    assert (None if "kwargs" in may else (may, must)) == options.schedule_arguments(schedule.value)


# A setting, and a value at the edge of what the libraries take.
EDGES = [
    ("train.seed", "0"),
    ("train.seed", "4294967295"),
    ("train.threads", "4096"),
    ("train.adam_beta2", "0"),
    ("train.warmup_steps", "0"),
    ("train.warmup_steps", "10"),
    ("train.logging_steps", "1.0"),
    ("train.eval_strategy", "epoch"),  # what belongs to the other way may stay
    ("train.eval_strategy", '"no"'),
    ("train.seed", "1\n  weight_decay: 0\n  max_grad_norm: 0\n  adam_epsilon: 1e-30\n  eval_delay: 0"),
    (
        "train.seed",
        "1\n  logging_strategy: epoch\n  include_num_input_tokens_seen: true\n  torch_empty_cache_steps: null",
    ),
    ("train.seed", "1\n  optim: sgd\n  optim_args: momentum=0.9, nesterov=true"),
    ("train.lr_scheduler_type", "constant_with_warmup\n  lr_scheduler_kwargs: null"),
    ("train.lr_scheduler_type", "cosine\n  lr_scheduler_kwargs: {num_cycles: 0.4}"),
    ("train.lr_scheduler_type", "cosine_with_min_lr\n  lr_scheduler_kwargs: {min_lr_rate: 0.1}"),
    ("train.lr_scheduler_type", "warmup_stable_decay\n  lr_scheduler_kwargs: {num_decay_steps: 5}"),
    (
        "train.seed",
        "1\n  dataloader_num_workers: 1\n  dataloader_prefetch_factor: 1\n  dataloader_multiprocessing_context: fork",
    ),
    ("sft.max_steps", "-1\n  num_train_epochs: 0.5"),
    ("sft.eval_steps", "0.25"),
    ("sft.eval_steps", "1"),
    ("sft.init", "models/base\n  pad_to_multiple_of: 8\n  neftune_noise_alpha: 0\n  label_smoothing_factor: 0.1"),
    ("sft.init", "models/base\n  pad_to_multiple_of: auto\n  neftune_noise_alpha: null\n  dataset_num_proc: null"),
    ("sft.init", "models/base\n  packing: false\n  packing_strategy: bfd_split"),
    ("reward.init", "models/sft\n  center_rewards_coefficient: 0\n  pad_to_multiple_of: null"),
    ("dpo.loss_type", "[robust, sft]\n  label_smoothing: 0"),
    ("dpo.loss_type", "[exo_pair, sft]\n  label_smoothing: 1\n  f_divergence_type: js_divergence"),
    ("dpo.beta", "1e-9\n  ld_alpha: 0\n  use_weighting: true"),
    ("dpo.beta", "0.1\n  ld_alpha: 1.0\n  sync_ref_model: true\n  ref_model_mixup_alpha: 1\n  ref_model_sync_steps: 1"),
    ("dpo.beta", "0.1\n  sync_ref_model: false\n  ref_model_sync_steps: 10"),
    ("grpo.beta", "0\n  top_p: 1\n  top_k: 0\n  min_p: null\n  epsilon_high: null\n  delta: null\n  num_iterations: 1"),
    ("grpo.beta", "0.0\n  min_p: 0\n  epsilon: 0\n  epsilon_high: 0\n  delta: 0.1\n  scale_rewards: false"),
    ("grpo.beta", "0.0\n  min_p: 1\n  epsilon: 2\n  scale_rewards: batch\n  importance_sampling_level: sequence"),
    ("grpo.beta", "0.0\n  top_entropy_quantile: 0\n  entropy_coef: -1\n  cache_implementation: static"),
    ("grpo.beta", "0.0\n  loss_type: sapo\n  sapo_temperature_pos: 2\n  remove_unused_columns: false"),
    ("grpo.beta", "0.0\n  generation_kwargs: {suppress_tokens: [5], no_repeat_ngram_size: 3, do_sample: true}"),
    ("train.seed", "1\n  torch_compile: true\n  torch_compile_mode: max-autotune-no-cudagraphs"),
    ("train.seed", "1\n  include_num_input_tokens_seen: non_padding"),
    (
        "grpo.beta",
        "0.0\n  use_adaptive_entropy: true\n  entropy_coef_min: 1\n  generation_kwargs: {repetition_penalty: 1}",
    ),
    ("run.report_to", "[]"),
    ("run.grace", "86400"),
    ("grpo.pass_rate", "[0, 1]"),
]


@pytest.mark.parametrize(("name", "text"), EDGES)
def test_what_the_libraries_take_is_taken(setting, tmp_path, name, text):
    """At the edges, too; and each config can then be constructed."""
    setting(name, text)
    for stage, settings in params.experiment().stages.items():
        if name.split(".")[0] in (stage, "train", "run"):
            getattr(trl, STAGES[stage].config)(**small.run(tmp_path, settings, [small.ROWS[stage]]).arguments)


def test_epochs_of_train_count_where_a_stage_has_no_steps(setting):
    """A setting of train need not reach every stage."""
    setting("train.seed", "1\n  num_train_epochs: 2")
    setting("sft.max_steps", "-1")

    assert [(2, -1), (2, 75)] == [
        (settings.option("num_train_epochs"), settings.option("max_steps"))
        for settings in (params.experiment().stages[stage] for stage in ("sft", "reward"))
    ]


def test_a_whole_number_is_a_float_where_transformers_needs_one(setting):
    """Its sampling refuses a temperature of 2."""
    setting("grpo.temperature", "2\n  repetition_penalty: 3")
    grpo = params.experiment().stages["grpo"].trl
    temperature, penalty = grpo["temperature"], grpo["repetition_penalty"]
    TemperatureLogitsWarper(temperature)
    RepetitionPenaltyLogitsProcessor(penalty)

    assert (2.0, 3.0) == (temperature, penalty)


@pytest.mark.parametrize("weights", ["null", "[1.0]"])
def test_one_loss_is_a_list_of_one(setting, tmp_path, weights):
    """As TRL's config has it: what is recorded, and would be trained, is the same."""
    found = []
    for text in ("ipo", "[ipo]"):
        shutil.copy(small.ROOT / "params.yaml", tmp_path)
        setting("dpo.loss_type", text)
        setting("dpo.loss_weights", weights)
        found.append(params.experiment().stages["dpo"])

    assert found[0] == found[1]
    assert ["ipo"] == found[0].deciding["loss_type"]
    assert ["ipo"] == trl.DPOConfig(**small.run(tmp_path, found[0], [small.ROWS["dpo"]]).arguments).loss_type


@pytest.mark.parametrize("name", [name for name in combinations.NOT_SAMPLED if name not in ("n", "max_tokens")])
def test_what_cannot_be_sampled_by_is_transformers_own(name):
    """What is refused with a word of its own would otherwise be taken."""
    assert name in options.sampling_arguments()


def test_names_decided_elsewhere_exist():
    """A name that is explained as decided elsewhere is one that TRL still has."""
    known = set().union(*(getattr(trl, stage.config).__dataclass_fields__ for stage in STAGES.values()))

    assert set() == options.DECIDED.keys() - known


def test_rewards_are_the_functions_of_the_file():
    """A public function of rewards.py is a reward, and so is the trained reward model."""
    names = ("accuracy", "ends_marked", "reasoning_gym", "soft_overlong_punishment", "reward_model")

    assert names == checks.reward_names()


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
