"""The mistakes users make, in classes. Each is refused before it costs anything, by a message that says what, where
and what would be right.
"""
# ruff: noqa: E501 - a mistake is a line of a table

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import imports
import pytest

from llmrl import stage
from llmrl.data import prepare
from llmrl.errors import InputError
from llmrl.params import PATH, checks

ROOT = Path(__file__).parents[2]

# The setting and the text it is given (which may go on with further lines), and what the message must say of it.
SETTINGS = {
    # Names that are unknown, misspelt or misplaced.
    "misspelt section": ("launch", "python\ndpoo: {}", ["dpoo is not a setting. Did you mean dpo?"]),
    "misspelt key": ("dpo.beta", "0.1\n  bta: 0.3", ["dpo.bta (now 0.3) is not a setting. Did you mean dpo.beta?"]),
    "misspelt own key": ("train.seed", "1\n  micro_batsh: 3", ["Did you mean train.micro_batch?"]),
    "misspelt key of a data set": ("data.sft.source", "raw\n    rowz: 3", ["data.sft.rowz", "Did you mean data.sft.rows?"]),
    "unknown key": ("train.seed", "1\n  zebra: 3", ["train.zebra (now 3) is not a setting."]),
    "key at the top": ("launch", "python\nbeta: 0.1", ["beta (now 0.1) is not set here; it belongs in dpo or grpo."]),
    "stage's key in train": ("train.seed", "1\n  beta: 0.1", ["train.beta", "it belongs in dpo or grpo."]),
    "train's key in run": ("run.verbosity", "normal\n  batch: 8", ["run.batch", "it belongs in train."]),
    "data's key in a stage": ("sft.init", "models/base\n  salt: a", ["sft.salt", "it belongs in data."]),
    "data set's key in data": ("data.seed", "1\n  rows: 5", ["data.rows", "data.sft or data.preference or data.prompts"]),
    "lr in a stage": ("dpo.init", "models/sft\n  lr: 1e-5", ["dpo.lr (now 1e-05)", "train.lr", "lr_scale"]),
    "learning_rate in a stage": ("dpo.init", "models/sft\n  learning_rate: 1e-5", ["dpo.learning_rate", "train.lr"]),
    "learning_rate in train": ("train.seed", "1\n  learning_rate: 1e-5", ["train.learning_rate", "train.lr"]),
    "TRL's batch size": ("sft.init", "models/base\n  per_device_train_batch_size: 8", ["not set here: micro_batch"]),
    "tracker in train": ("train.seed", "1\n  report_to: wandb", ["train.report_to", "run.report_to decides it"]),
    "key that is a number": ("train.seed", "1\n  7: 3", ["train.7 (now 3) is not a setting."]),
    # Types.
    "quoted number": ("train.lr", '"1e-5"', ['train.lr: "1e-5" is a text, not a number; write it without quotes.']),
    "word for a number": ("train.lr", "fast", ['train.lr: "fast" is a text, not a number.']),
    "fraction for an integer": ("train.batch", "32.5", ["train.batch: 32.5 is a number, not an integer."]),
    "true for a number": ("sft.max_steps", "true", ["sft.max_steps: true is true or false, not an integer."]),
    "yes for true": ("train.eval_strategy", "epoch\n  dataloader_drop_last: yes", ['"yes" is a text, not true or false.']),
    "yes beside auto": ("train.gradient_checkpointing", "yes", ['"yes" is neither auto nor true or false.']),
    "a number in quotes beside auto": ("train.micro_batch", '"4"', ['train.micro_batch: "4" is neither auto nor an integer; write it without quotes.']),
    "null beside auto": ("train.micro_batch", "null", ["train.micro_batch: null is null, not an integer or auto."]),
    "a number for a switch beside auto": ("train.gradient_checkpointing", "1", ["train.gradient_checkpointing: 1 is an integer, not true or false or auto."]),
    "misspelt auto": ("train.micro_batch", "atuo", ['train.micro_batch: "atuo" is neither auto nor an integer. Did you mean auto?']),
    "null for a number": ("train.seed", "null", ["train.seed: null is null, not an integer."]),
    "list for a number": ("grpo.beta", "[0.1]", ["grpo.beta: [0.1] is a list, not a number."]),
    "null for TRL's number": ("grpo.num_generations_eval", "null", ["grpo.num_generations_eval: null is null, not an integer."]),
    "null for a group": ("grpo.num_generations", "null", ["grpo.num_generations: null is null, not an integer."]),
    "endless completions": ("grpo.max_completion_length", "null", ["grpo.max_completion_length: null is null, not an integer."]),
    "null for completions at once": ("grpo.init", "models/dpo\n  generation_batch_size: null", ["grpo.generation_batch_size: null is null, not an integer."]),
    "null for steps a generation": ("grpo.init", "models/dpo\n  steps_per_generation: null", ["grpo.steps_per_generation: null is null, not an integer."]),
    "null for an optimizer": ("train.seed", "1\n  optim: null", ["train.optim: null is null, not a text."]),
    "null for a schedule": ("train.lr_scheduler_type", "null", ["train.lr_scheduler_type: null is null, not a text."]),
    "text for checkpointing's settings": ("sft.init", "models/base\n  gradient_checkpointing_kwargs: x", ['sft.gradient_checkpointing_kwargs: "x" is a text, not a map or null.']),
    "date for a text": ("data.salt", "2026-01-01", ['data.salt: "2026-01-01" is a date, not a text.']),
    "text for a section": ("run", "none", ["run", "not a map"]),
    "list of rewards": ("grpo.rewards", "[accuracy]", ["grpo.rewards", "is a list, not a map"]),
    # Values that make no sense.
    "no batch": ("train.batch", "0", ["train.batch: 0 is less than 1."]),
    "negative micro-batch": ("train.micro_batch", "-4", ["train.micro_batch: -4 is less than 1."]),
    "no learning": ("train.lr", "0", ["train.lr: 0 is not greater than 0."]),
    "negative learning": ("train.lr", "-1e-5", ["train.lr: -1e-05 is not greater than 0."]),
    "infinite learning": ("train.lr", ".inf", ["train.lr", "is not finite"]),
    "no scale": ("dpo.lr_scale", "0.0", ["dpo.lr_scale: 0.0 is not greater than 0."]),
    "no steps": ("reward.max_steps", "0", ["reward.max_steps: 0 is less than 1."]),
    "negative steps": ("sft.max_steps", "-100", ["sft.max_steps: -100 is less than 1."]),
    "no evaluation step": ("dpo.eval_steps", "0", ["dpo.eval_steps: 0 is not greater than 0."]),
    "no room": ("sft.max_length", "0", ["sft.max_length: 0 is less than 1."]),
    "negative seed": ("train.seed", "-1", ["train.seed: -1 is less than 0."]),
    "frozen sampling": ("grpo.temperature", "0", ["grpo.temperature: 0 is not greater than 0."]),
    "no samples": ("answers.samples", "0", ["answers.samples: 0 is less than 1."]),
    "no threads": ("train.threads", "0", ["train.threads: 0 is less than 1."]),
    "nothing held out": ("data.eval_share", "0", ["data.eval_share: 0 is not between 0 and 1"]),
    "all held out": ("data.eval_share", "1.0", ["data.eval_share: 1.0 is not between 0 and 1"]),
    "percent for a share": ("data.max_defective", "5", ["data.max_defective: 5 is not between 0 and 1."]),
    "no rows": ("data.sft.rows", "0", ["data.sft.rows: 0 is less than 1."]),
    "negative held-out rows": ("data.sft.eval_rows", "-1", ["data.sft.eval_rows: -1 is less than 1."]),
    "endless rows": ("data.sft.rows", "null", ["data.sft.rows is missing: a task whose rows are made has no end."]),
    "no share": ("run.min_signal", "10", ["run.min_signal: 10 is not between 0 and 1."]),
    "no patience": ("run.patience", "0", ["run.patience: 0 is less than 1."]),
    "gate on an unknown figure": ("run.gates", "{reward.acuracy: 0.6}", ["run.gates.reward.acuracy is no figure of which more is better", "Did you mean reward.accuracy?"]),
    "gate on another stage's figure": ("run.gates", "{reward.answers.sampled: 0.6}", ["run.gates.reward.answers.sampled is no figure", "Did you mean dpo.answers.sampled?"]),
    "gate on an unknown reward": ("run.gates", "{grpo.signal_acuracy: 0.6}", ["run.gates.grpo.signal_acuracy is no figure", "Did you mean grpo.signal_accuracy?"]),
    "gate on more tries than there are": ("run.gates", "{sft.answers.pass_at_8: 0.6}", ["run.gates.sft.answers.pass_at_8 is no figure", "sft.answers.pass_at_"]),
    "gate on a curve": ("run.gates", "{grpo.train_entropy: 0.1}", ["run.gates.grpo.train_entropy is no figure"]),
    "gate on a loss": ("run.gates", "{sft.loss: 0.5}", ["run.gates.sft.loss: a gate is the least that a figure may be, and of this one less is better"]),
    "gate on tokens": ("run.gates", "{dpo.answers.tokens: 20}", ["run.gates.dpo.answers.tokens: a gate is the least", "or neither"]),
    "gate in percent": ("run.gates", "{reward.accuracy: 60}", ["run.gates.reward.accuracy: 60 is more than 1, the most that a share can be."]),
    "gate as DVC nests it": ("run.gates", "{reward: {accuracy: 0.6}}", ["run.gates.reward: a figure has one name: write reward.accuracy: 0.6"]),
    "gate in quotes": ("run.gates", "{reward.accuracy: '0.6'}", ['run.gates.reward.accuracy: "0.6" is a text, not a number; write it without quotes.']),
    "gates as a list": ("run.gates", "[reward.accuracy]", ['run.gates: ["reward.accuracy"] is a list, not a map.']),
    "gates as nothing": ("run.gates", "null", ["run.gates: null is null, not a map."]),
    "range upside down": ("grpo.pass_rate", "[0.9, 0.1]", ["grpo.pass_rate: [0.9, 0.1]", "as in [0.1, 0.9]"]),
    "range of one": ("grpo.pass_rate", "[0.9]", ["grpo.pass_rate: [0.9]", "as in [0.1, 0.9]"]),
    "range in percent": ("grpo.pass_rate", "[10, 90]", ["grpo.pass_rate: [10, 90]", "as in [0.1, 0.9]"]),
    "range that is a number": ("grpo.pass_rate", "0.5", ["grpo.pass_rate: 0.5 is a number, not a list or null."]),
    "range of another section": ("data.prompts.rows", "9\n    pass_rate: [0.1, 0.9]", ["data.prompts.pass_rate is not set here; it belongs in grpo."]),
    "no mark": ("answers.marks", "[]", ["answers.marks: [] is empty; name one or several of boxed, hash, tag, phrase."]),
    "unknown mark": ("answers.marks", "[boxed, hsah]", ["answers.marks: \"hsah\" is none of boxed, hash, tag, phrase.", "hash?"]),
    "one mark": ("answers.marks", "boxed", ["answers.marks: \"boxed\" is a text, not a list."]),
    "judged by one answer": ("grpo.pass_samples", "1", ["grpo.pass_samples: 1 is less than 2."]),
    "adapters of no rank": ("train.lora", "{rank: 0, alpha: 16}", ["train.lora.rank: 0 is less than 1."]),
    "adapters without alpha": ("train.lora", "{rank: 8}", ["train.lora.alpha is missing."]),
    "PEFT's name": ("train.lora", "{rank: 8, alpha: 16, lora_dropout: 0.1}", ["train.lora.lora_dropout", "dropout?"]),
    "all dropped": ("train.lora", "{rank: 8, alpha: 16, dropout: 1}", ["train.lora.dropout: 1 is not at least 0"]),
    "4 bit without bitsandbytes": ("train.lora", "{rank: 8, alpha: 16, load_in_4bit: true}", ["train.lora.load_in_4bit: true takes bitsandbytes, which is not installed: `", " pip install bitsandbytes`."]),
    "4 bit in a stage": ("dpo.init", "models/sft\n  lora: {rank: 8, alpha: 16, load_in_4bit: true}", ["dpo.lora.load_in_4bit: true takes bitsandbytes, which is not installed"]),
    "4 bit by its number": ("train.lora", "{rank: 8, alpha: 16, load_in_4bit: 4}", ["train.lora.load_in_4bit: 4 is an integer, not true or false."]),
    "adapters as a switch": ("train.lora", "true", ["train.lora: true is true or false, not a map or null."]),
    "adapter by no expression": ("train.lora", "{rank: 8, alpha: 8, targets: (q_proj}", ['train.lora.targets: "(q_proj" is no regular expression', "several names are a list"]),
    "adapter of an empty name": ("train.lora", '{rank: 8, alpha: 8, targets: ""}', ["train.lora.targets is empty: nothing would be trained."]),
    # Numbers out of bounds.
    "a beta above 1": ("train.adam_beta2", "2.5", ["train.adam_beta2: 2.5 is not at least 0 and less than 1."]),
    "a beta of 1": ("train.seed", "1\n  adam_beta1: 1.0", ["train.adam_beta1: 1.0 is not at least 0 and less than 1."]),
    "Adam without an epsilon": ("train.seed", "1\n  adam_epsilon: 0", ["train.adam_epsilon: 0 is not greater than 0."]),
    "weights that grow": ("train.seed", "1\n  weight_decay: -0.1", ["train.weight_decay: -0.1 is less than 0."]),
    "negative norm": ("train.seed", "1\n  max_grad_norm: -1", ["train.max_grad_norm: -1 is less than 0."]),
    "negative noise": ("sft.init", "models/base\n  neftune_noise_alpha: -5", ["sft.neftune_noise_alpha: -5 is less than 0."]),
    "more than all smoothed": ("sft.init", "models/base\n  label_smoothing_factor: 1.5", ["sft.label_smoothing_factor: 1.5 is not between 0 and 1."]),
    "a seed too large for NumPy": ("train.seed", "4294967296", ["train.seed: 4294967296 is greater than 4294967295, the most that NumPy takes."]),
    "samples' seed too large": ("answers.seed", "4294967296", ["answers.seed: 4294967296 is greater than 4294967295"]),
    "a seed of a hundred bits": ("data.seed", "1" + "0" * 30, ["data.seed: 1" + "0" * 30 + " is more than 64 bits hold."]),
    "a seed as a power": ("data.seed", "1e30", ["data.seed: 1e+30 is a number, not an integer."]),
    "an endless integer": ("train.lr", "1" + "0" * 400, ["train.lr: 1000000", "is more than 64 bits hold."]),
    "a rate as large as that": ("train.lr", "1e39", ["train.lr: 1e+39 is more than 32 bits hold."]),
    "more threads than a machine has": ("train.threads", "100000", ["train.threads: 100000 is greater than 4096."]),
    "threads as a power": ("train.threads", "1e30", ["train.threads: 1e+30 is a number, not an integer or null."]),
    "a week's grace": ("run.grace", "604800", ["run.grace: 604800 is greater than 86400."]),
    "steps and a half": ("sft.eval_steps", "1.5", ["sft.eval_steps: 1.5 is neither a whole number nor a share of all steps, below 1."]),
    "a warm-up of steps and a half": ("train.warmup_steps", "10.5", ["train.warmup_steps: 10.5 is neither a whole number nor a share"]),
    "no evaluation interval": ("dpo.eval_steps", "null", ["dpo.eval_steps: null is null, not a number."]),
    "negative beta": ("dpo.beta", "-1", ["dpo.beta: -1 is not greater than 0."]),
    "a beta that trains nothing": ("dpo.beta", "0", ["dpo.beta: 0 is not greater than 0."]),
    "negative beta of grpo": ("grpo.beta", "-0.1", ["grpo.beta: -0.1 is less than 0."]),
    "negative clip": ("grpo.beta", "0.0\n  epsilon_high: -0.2", ["grpo.epsilon_high: -0.2 is less than 0."]),
    "no upper clip": ("grpo.beta", "0.0\n  delta: 0", ["grpo.delta: 0 is not greater than 0."]),
    "no iterations": ("grpo.beta", "0.0\n  num_iterations: 0", ["grpo.num_iterations: 0 is less than 1."]),
    "no probability": ("grpo.beta", "0.0\n  top_p: 0", ["grpo.top_p: 0 is not greater than 0 and at most 1."]),
    "probability in percent": ("grpo.beta", "0.0\n  min_p: 5", ["grpo.min_p: 5 is not between 0 and 1."]),
    "negative candidates": ("grpo.beta", "0.0\n  top_k: -1", ["grpo.top_k: -1 is less than 0."]),
    "no repetition": ("grpo.beta", "0.0\n  repetition_penalty: 0", ["grpo.repetition_penalty: 0 is not greater than 0."]),
    "share above all": ("dpo.beta", "0.1\n  sync_ref_model: true\n  ref_model_mixup_alpha: 2", ["dpo.ref_model_mixup_alpha: 2 is not between 0 and 1."]),
    "no port": ("grpo.beta", "0.0\n  vllm_server_port: 70000", ["grpo.vllm_server_port: 70000 is no port"]),
    "no multiple": ("sft.init", "models/base\n  pad_to_multiple_of: 0", ["sft.pad_to_multiple_of: 0 is less than 1."]),
    # What lists and maps hold.
    "a list of a list": ("run.report_to", "[[1]]", ["run.report_to[0]: [1] is a list, not a text."]),
    "a weight without an end": ("grpo.rewards", "{accuracy: .inf}", ["grpo.rewards.accuracy: Infinity is not finite."]),
    "a range of words": ("grpo.pass_rate", "[a, 0.9]", ['grpo.pass_rate[0]: "a" is a text, not a number.']),
    "losses by no number": ("dpo.loss_weights", "[1.0, .nan]", ["dpo.loss_weights[1]: NaN is not finite."]),
    "an argument without an end": ("grpo.beta", "0.0\n  generation_kwargs: {bad_words_ids: [[.inf]]}", ["grpo.generation_kwargs.bad_words_ids[0][0]: Infinity is not finite."]),
    "a date in a map": ("grpo.beta", "0.0\n  generation_kwargs: {stop_strings: 2026-01-01}", ['grpo.generation_kwargs.stop_strings: "2026-01-01" is a date; a text that looks like one is written in quotes.']),
    "modules by numbers": ("train.lora", "{rank: 8, alpha: 8, targets: [1]}", ["train.lora.targets[0]: 1 is an integer, not a text."]),
    "a map as JSON": ("train.seed", "1\n  lr_scheduler_kwargs: '{\"min_lr\": 0}'", ["train.lr_scheduler_kwargs", "is a text, not a map or null."]),
    # Values that are one of a few.
    "misspelt level": ("grpo.beta", "0.0\n  importance_sampling_level: sequense", ['grpo.importance_sampling_level: "sequense" is none of sequence, token. Did you mean sequence?']),
    "misspelt scale": ("grpo.beta", "0.0\n  scale_rewards: grop", ['grpo.scale_rewards: "grop" is none of group, none, batch. Did you mean group?']),
    "misspelt aggregation": ("grpo.beta", "0.0\n  multi_objective_aggregation: sum", ["is none of sum_then_normalize, normalize_then_sum"]),
    "misspelt divergence": ("dpo.beta", "0.1\n  f_divergence_type: klx", ['dpo.f_divergence_type: "klx" is none of reverse_kl, forward_kl, js_divergence, alpha_divergence.']),
    "misspelt cache": ("grpo.beta", "0.0\n  cache_implementation: sttic", ["is none of static", "Did you mean static?"]),
    "misspelt debugging": ("train.seed", "1\n  debug: overflow", ['train.debug: "overflow" is none of underflow_overflow']),
    "misspelt compiler": ("train.seed", "1\n  torch_compile_backend: indctor", ["Did you mean inductor?"]),
    "misspelt start of workers": ("train.seed", "1\n  dataloader_num_workers: 1\n  dataloader_multiprocessing_context: frok", ["is none of fork, spawn, forkserver. Did you mean fork?"]),
    "a multiple in words": ("sft.init", "models/base\n  pad_to_multiple_of: atuo", ['sft.pad_to_multiple_of: "atuo" is neither auto nor an integer.']),
    "unknown precision": ("train.precision", "fp8", ['train.precision: "fp8" is none of auto, fp32, bf16, fp16.']),
    "misspelt schedule": ("train.lr_scheduler_type", "cosin", ["is none of linear, cosine", "Did you mean cosine?"]),
    "misspelt optimizer": ("train.seed", "1\n  optim: adamw", ["train.optim", "is none of adamw_torch"]),
    "8 bits without bitsandbytes": ("train.seed", "1\n  optim: adamw_8bit", ['train.optim: "adamw_8bit" takes bitsandbytes, which is not installed: `', " pip install bitsandbytes`."]),
    "paged without bitsandbytes": ("dpo.init", "models/sft\n  optim: paged_adamw_32bit", ['dpo.optim: "paged_adamw_32bit" takes bitsandbytes, which is not installed']),
    "optimizer of a package": ("train.seed", "1\n  optim: galore_adamw", ['train.optim: "galore_adamw" takes galore-torch, which is not installed']),
    "unknown evaluation": ("train.eval_strategy", "step", ["Did you mean steps?"]),
    "misspelt loss": ("dpo.loss_type", "[sigmod, sft]", ['dpo.loss_type: "sigmod"', "Did you mean sigmoid?"]),
    "number for a loss": ("dpo.loss_type", "[1, sft]", ["dpo.loss_type: 1 is none of aot"]),
    "another stage's loss": ("grpo.init", "models/dpo\n  loss_type: sigmoid", ['"sigmoid" is none of', "dapo"]),
    "unknown verbosity": ("run.verbosity", "loud", ["run.verbosity", "normal, quiet"]),
    "misspelt tracker": ("run.report_to", "wandbb", ["run.report_to", "Did you mean wandb?"]),
    "missing tracker": ("run.report_to", "[tensorboard, clearml]", ['run.report_to: "clearml" takes clearml, which is not installed: `', " pip install clearml`, or write none."]),
    "tracker that is always there": ("run.report_to", "[dvclive, tensorboard]", ['run.report_to: "dvclive" of transformers rewrites dvc.yaml; leave it out']),
    "package that is no tracker": ("run.report_to", "json", ['"json" is no tracker']),
    "misspelt source": ("data.sft.source", "builtin:aritmetic", ["Did you mean builtin:arithmetic?", "data/raw/"]),
    "unknown model": ("model.source", "gpt 2", ["model.source", "builtin:tiny", "models/raw/"]),
    "built-in task with a commit": ("data.sft.revision", "e235e846458bff3398a88aed812347f7f0756520", ["data.sft.revision", "builtin:arithmetic has none; write null"]),
    "test split": ("data.sft.source", "trl-lib/Capybara\n    split: test", ['data.sft.split: "test" is a test split, which is never trained on']),
    "nothing to mix": ("data.sft.source", "[]", ["data.sft.source is an empty list"]),
    "misspelt key of one of several": ("data.sft.source", "\n      - source: raw\n      - source: raw\n        wieght: 2", ["data.sft.source[1].wieght (now 2) is not a setting. Did you mean data.sft.source[1].weight?"]),
    "source without a name": ("data.sft.source", "\n      - {weight: 2}", ["data.sft.source[0].source is missing"]),
    "source of no weight": ("data.sft.source", "\n      - source: raw\n        weight: 0", ["data.sft.source[0].weight: 0 is not greater than 0"]),
    "misspelt source of several": ("data.sft.source", "\n      - source: arithmetic", ['data.sft.source[0].source: "arithmetic" is not a source', "Did you mean builtin:arithmetic?"]),
    "colon within braces": ("data.sft.source", '\n    - {source: "builtin:arithmetic", weight: 2}', ['data.sft.source[0].source: within braces DVC cannot read "builtin:arithmetic": write a line for each setting']),
    "bare task": ("data.sft.source", "reasoning_gym", ['"reasoning_gym" is not a source', "Did you mean reasoning_gym:<task>?"]),
    "misspelt answers": ("data.preference.source", "Sampled", ['"Sampled" is not a source', "Did you mean sampled?"]),
    "one commit for several": ("data.sft.source", "\n      - source: raw\n    split: val", ["data.sft.split is not set here: each source in the list has its own"]),
    "unknown column": ("data.sft.columns", "{question: prompt}", ["data.sft.columns.question", "write ours: yours"]),
    "column that is no name": ("data.sft.columns", "{prompt: 3}", ["data.sft.columns.prompt: 3 is an integer"]),
    "packing that leaks": ("sft.init", "models/base\n  packing: true\n  packing_strategy: wrapped", ['sft.packing_strategy: "wrapped" is none of bfd, bfd_split']),
    "packing only what is held out": ("sft.init", "models/base\n  eval_packing: true", ["sft.eval_packing without packing lets a held-out document attend to those before it"]),
    "rows without an end": ("sft.max_length", "null", ["sft.max_length: null bounds no row's memory"]),
    "attention that is not tested": ("train.seed", "1\n  attn_implementation: flash_attention_2", ['train.attn_implementation: "flash_attention_2" is none of eager, sdpa, flex_attention']),
    "attention of no packed rows": ("sft.init", "models/base\n  attn_implementation: varlen", ["sft.attn_implementation: varlen has no effect without sft.packing: true; without packed rows it is sdpa."]),
    "attention of no packed rows in any stage": ("train.seed", "1\n  attn_implementation: varlen", ["train.attn_implementation: varlen has no effect without sft.packing: true"]),
    "attention from the Hub": ("train.seed", "1\n  attn_implementation: kernels-community/flash-attn2", ["is none of eager, sdpa, flex_attention"]),
    "an order that cannot be resumed": ("train.seed", "1\n  train_sampling_strategy: group_by_length", ["is none of random, sequential"]),
    "unknown interval": ("run.save_steps", "5 minutes", ['run.save_steps: "5 minutes" is neither a number of steps nor minutes, as in 5 min.']),
    "no interval": ("run.save_steps", "0", ["run.save_steps: 0 is less than 1."]),
    "no memory": ("run.memory_gib", "0", ["run.memory_gib: 0 is not greater than 0."]),
    "memory with its unit": ("run.memory_gib", "6 GiB", ['run.memory_gib: "6 GiB" is a text, not a number or null.']),
    "negative grace": ("run.grace", "-1", ["run.grace: -1 is less than 0."]),
    "checkpoints in a stage": ("sft.init", "models/base\n  save_steps: 10", ["sft.save_steps", "run.save_steps decides it"]),
    # TRL's and transformers' names that are decided here.
    "Liger by TRL": ("train.seed", "1\n  use_liger_kernel: true", ["train.use_liger_kernel (now true) is not set here: kernels decides it."]),
    "evaluation in half precision": ("train.seed", "1\n  bf16_full_eval: true", ["train.bf16_full_eval", "weights stay in float32"]),
    "a batch that shrinks": ("train.seed", "1\n  auto_find_batch_size: true", ["is not set here: micro_batch decides it."]),
    "loss of all tokens": ("sft.init", "models/base\n  assistant_only_loss: false", ["sft.assistant_only_loss", "assistant's tokens alone"]),
    "padding-free": ("dpo.init", "models/sft\n  padding_free: true", ["dpo.padding_free", "sft.packing, which needs no padding"]),
    "deprecated generation": ("grpo.init", "models/dpo\n  use_transformers_paged: true", ["grpo.use_transformers_paged", "TRL 1.16 cannot evaluate with it"]),
    "DeepSpeed": ("train.seed", "1\n  deepspeed: ds.json", ['train.deepspeed (now "ds.json") is not set here: as yet only copies of the model that share their gradients (DDP) were tried', "no FSDP, no DeepSpeed."]),
    "FSDP": ("sft.init", "models/base\n  fsdp: full_shard", ["sft.fsdp", "only copies of the model", "no FSDP, no DeepSpeed."]),
    "parallel in other ways": ("train.seed", "1\n  parallelism_config: {tp_size: 2}", ["train.parallelism_config is not set here: as yet only copies"]),
    "batches by accelerate": ("train.seed", "1\n  accelerator_config: {split_batches: true}", ["train.accelerator_config is not set here: batch"]),
    "another chat template": ("sft.init", "models/base\n  chat_template_path: chat.jinja", ['sft.chat_template_path (now "chat.jinja") is not set here: the tokenizer of models/base (docs/models.md) decides it.']),
    "another end of turn": ("reward.init", "models/sft\n  eos_token: <|im_end|>", ["reward.eos_token", "models/base"]),
    "another padding": ("dpo.init", "models/sft\n  pad_token: <pad>", ["dpo.pad_token", "models/base"]),
    "a model's own code": ("sft.init", "models/base\n  trust_remote_code: true", ["sft.trust_remote_code (now true) is not set here: a model's own code is never run."]),
    "a secret": ("train.seed", "1\n  hub_token: hf_1", ["train.hub_token", "HF_TOKEN in .env"]),
    "rows in any order": ("train.seed", "1\n  dataloader_in_order: false", ["train.dataloader_in_order (now false) is not set here: batches come in one order"]),
    "rows cut off": ("dpo.init", "models/sft\n  truncation_mode: keep_end", ["dpo.truncation_mode", "longer than max_length is left out"]),
    # Without any effect.
    "epochs beside steps": ("sft.max_steps", "100\n  num_train_epochs: 2", ["sft.num_train_epochs: has no effect beside max_steps: 100, which wins; for epochs it must be -1."]),
    "epochs beside every stage's steps": ("train.seed", "1\n  num_train_epochs: 2", ["train.num_train_epochs: has no effect beside max_steps: 100, which wins"]),
    "a warm-up that is none": ("dpo.init", "models/sft\n  lr_scheduler_type: constant\n  warmup_steps: 5", ["dpo.warmup_steps: has no effect with lr_scheduler_type: constant, which wins; write warmup_steps: 0, or take constant_with_warmup, which has a warm-up."]),
    "a warm-up of a schedule that has none": ("sft.init", "models/base\n  lr_scheduler_type: greedy\n  warmup_steps: 5", ["sft.warmup_steps: has no effect with lr_scheduler_type: greedy, which wins; write warmup_steps: 0."]),
    "a reference that never follows": ("dpo.beta", "0.1\n  ref_model_sync_steps: 10", ["dpo.ref_model_sync_steps: has no effect without sync_ref_model: true."]),
    "smoothing of no loss": ("dpo.beta", "0.1\n  label_smoothing: 0.1", ['dpo.label_smoothing: has no effect with loss_type: ["sigmoid", "sft"], which wins; robust or exo_pair']),
    "another stage's smoothing": ("reward.init", "models/sft\n  label_smoothing_factor: 0.1", ["reward.label_smoothing_factor: has no effect but with sft.loss_type: nll."]),
    "how to pack nothing": ("sft.init", "models/base\n  packing_strategy: bfd_split", ["sft.packing_strategy: has no effect without packing: true."]),
    "a gate without its loss": ("grpo.beta", "0.0\n  sapo_temperature_pos: 2", ["grpo.sapo_temperature_pos: has no effect without loss_type: sapo."]),
    "vLLM's memory without vLLM": ("grpo.beta", "0.0\n  vllm_gpu_memory_utilization: 0.5", ["grpo.vllm_gpu_memory_utilization: has no effect without use_vllm: true."]),
    "modules of no optimizer": ("train.seed", "1\n  optim_target_modules: [q_proj]", ["train.optim_target_modules: has no effect with optim: adamw_torch_fused"]),
    "arguments of no optimizer": ("train.seed", "1\n  optim_args: rank=64", ["train.optim_args: has no effect with optim: adamw_torch_fused, which takes none."]),
    # Combinations.
    "arguments that are none": ("train.seed", "1\n  optim: sgd\n  optim_args: momentum", ['train.optim_args: "momentum" is no list of arguments, as in rank=64,scale=0.1.']),
    "a misspelt argument of a schedule": ("train.lr_scheduler_type", "cosine\n  lr_scheduler_kwargs: {num_cycle: 2}", ["train.lr_scheduler_kwargs: num_cycle is no argument of cosine, which takes num_cycles. Did you mean num_cycles?"]),
    "an argument that a schedule needs": ("train.lr_scheduler_type", "cosine_with_min_lr", ["train.lr_scheduler_type: cosine_with_min_lr needs either min_lr or min_lr_rate in lr_scheduler_kwargs."]),
    "a warm-up without an end": ("sft.init", "models/base\n  warmup_steps: 200", ["sft.warmup_steps: 200 steps of warm-up are more than the 100 of max_steps"]),
    "a schedule's length": ("train.lr_scheduler_type", "warmup_stable_decay", ["train.lr_scheduler_type: warmup_stable_decay needs num_decay_steps in lr_scheduler_kwargs."]),
    "a schedule that nothing steers": ("grpo.beta", "0.0\n  warmup_steps: 0\n  lr_scheduler_type: reduce_lr_on_plateau", ["grpo.lr_scheduler_type: reduce_lr_on_plateau goes by evaluations"]),
    "half of the labels wrong": ("dpo.loss_type", "[robust, sft]\n  label_smoothing: 0.5", ["dpo.label_smoothing: 0.5 is not less than 0.5"]),
    "a loss that must smooth": ("dpo.loss_type", "[exo_pair, sft]", ["dpo.loss_type: exo_pair needs a label_smoothing greater than 0"]),
    "a divergence of another loss": ("dpo.loss_type", "[nca_pair, sft]\n  f_divergence_type: forward_kl", ["dpo.f_divergence_type: does not go with the loss nca_pair, but with sigmoid"]),
    "weights of sorted rows": ("dpo.loss_type", "[aot, sft]\n  use_weighting: true", ["dpo.use_weighting: does not go with the loss aot"]),
    "batches loaded by nobody": ("train.seed", "1\n  dataloader_prefetch_factor: 2", ["train.dataloader_prefetch_factor needs dataloader_num_workers: 1 or more."]),
    "columns that rewards need": ("grpo.beta", "0.0\n  remove_unused_columns: true", ["grpo.remove_unused_columns: rewards would lose the columns"]),
    "an unknown argument of sampling": ("grpo.beta", "0.0\n  generation_kwargs: {tpo_p: 0.9}", ["grpo.generation_kwargs: tpo_p is no argument of transformers' GenerationConfig. Did you mean top_p?"]),
    "an argument out of bounds": ("grpo.beta", "0.0\n  generation_kwargs: {top_p: 2}", ["grpo.generation_kwargs: top_p: 2 is not greater than 0 and at most 1."]),
    "a whole temperature in a map": ("grpo.beta", "0.0\n  generation_kwargs: {repetition_penalty: 2}", ["grpo.generation_kwargs: repetition_penalty: 2 is whole, which transformers refuses; write 2.0."]),
    "an end that is a text": ("grpo.beta", '0.0\n  generation_kwargs: {stop_strings: ["."]}', ["grpo.generation_kwargs: stop_strings goes by text, where completions are tokens; each ends with its turn or at grpo.max_completion_length."]),
    "completions for each completion": ("grpo.beta", "0.0\n  generation_kwargs: {num_return_sequences: 2}", ["grpo.generation_kwargs: num_return_sequences is grpo.num_generations."]),
    "completions that are more than tokens": ("grpo.beta", "0.0\n  generation_kwargs: {return_dict_in_generate: true}", ["grpo.generation_kwargs: return_dict_in_generate gives more than tokens, which are all that is taken."]),
    "a length by another name": ("grpo.beta", "0.0\n  generation_kwargs: {max_new_tokens: 5}", ["grpo.generation_kwargs: max_new_tokens is grpo.max_completion_length."]),
    "a length of vLLM's": ("grpo.beta", "0.0\n  generation_kwargs: {max_tokens: 5}", ["grpo.generation_kwargs: max_tokens is grpo.max_completion_length."]),
    "completions that look ahead": ("grpo.beta", "0.0\n  generation_kwargs: {prompt_lookup_num_tokens: 2}", ["grpo.generation_kwargs: prompt_lookup_num_tokens has transformers guess ahead, of one completion at a time alone."]),
    "completions by code of the Hub": ("grpo.beta", "0.0\n  generation_kwargs: {dola_layers: low}", ["grpo.generation_kwargs: dola_layers needs code from the Hub, which is never run."]),
    "completions that are compiled": ("grpo.beta", "0.0\n  generation_kwargs: {disable_compile: false}", ["grpo.generation_kwargs: disable_compile is set by TRL"]),
    "completions with another end": ("grpo.beta", "0.0\n  generation_kwargs: {eos_token_id: 5}", ["grpo.generation_kwargs: eos_token_id is models/base's own (docs/models.md)."]),
    "completions by the clock": ("grpo.beta", "0.0\n  generation_kwargs: {max_time: 5.0}", ["grpo.generation_kwargs: max_time would cut completions by the clock"]),
    "completions that are all alike": ("grpo.beta", "0.0\n  generation_kwargs: {do_sample: false}", ["grpo.generation_kwargs: do_sample: completions of one prompt would be all alike; leave it out."]),
    "completions that never end": ("grpo.max_completion_length", "30\n  generation_kwargs: {min_new_tokens: 31}", ["grpo.generation_kwargs: min_new_tokens: 31 is more than max_completion_length, 30: no completion would end."]),
    "an argument that loads a model": ("grpo.beta", "0.0\n  generation_kwargs: {subfolder: a}", ["grpo.generation_kwargs: subfolder is no argument of transformers' GenerationConfig."]),
    "an argument said twice": ("grpo.temperature", "1.0\n  generation_kwargs: {temperature: 0.7}", ["grpo.generation_kwargs: its temperature wins over grpo.temperature"]),
    "compiled and not": ("train.seed", "1\n  torch_compile: false\n  torch_compile_mode: default", ["train.torch_compile_mode: it switches torch_compile on, which is false"]),
    "bounds upside down": ("grpo.beta", "0.0\n  use_adaptive_entropy: true\n  entropy_coef_min: 2.0", ["grpo.entropy_coef_min: 2 leaves nothing up to entropy_coef_max, 1."]),
    "no launcher": ("launch", '""', ["launch is an empty text; python starts one process."]),
    "reference that follows and is precomputed": ("dpo.beta", "0.1\n  sync_ref_model: true\n  precompute_ref_log_probs: true", ["dpo.precompute_ref_log_probs with sync_ref_model", "keep one"]),
    "adapter's reference that follows": ("dpo.beta", "0.1\n  lora: {rank: 8, alpha: 8}\n  sync_ref_model: true", ["dpo.sync_ref_model: with lora"]),
    "no reference that follows": ("grpo.beta", "0.0\n  sync_ref_model: true", ["grpo.sync_ref_model: where beta is 0 there is no reference"]),
    "losses without weights": ("dpo.loss_weights", "[1.0]", ["dpo.loss_weights: 1 weights", "one for each loss of loss_type"]),
    "generation by what is not installed": ("grpo.init", "models/dpo\n  use_vllm: true", ["grpo.use_vllm: vllm is not installed"]),
    "generation that cannot be evaluated": ("grpo.init", "models/dpo\n  use_transformers_continuous_batching: true", ["grpo.use_transformers_continuous_batching: TRL 1.16 cannot evaluate with it"]),
    "checkpointing that the stage's trainer loses": ("dpo.init", "models/sft\n  gradient_checkpointing_kwargs: {offload: true}", ["dpo.gradient_checkpointing_kwargs: offload is none of use_reentrant", "all that dpo takes"]),
    "checkpointing that is of sft alone": ("train.seed", "1\n  gradient_checkpointing_kwargs: {selective: true}", ["selective is none of", "all that reward takes"]),
    "selective without checkpointing": ("sft.init", "models/base\n  gradient_checkpointing_kwargs: {selective: true}", ["sft.gradient_checkpointing_kwargs: selective needs gradient_checkpointing: true"]),
    "selective where checkpointing is auto": ("sft.init", "models/base\n  gradient_checkpointing: auto\n  gradient_checkpointing_kwargs: {selective: true}", ["sft.gradient_checkpointing_kwargs: selective needs gradient_checkpointing: true."]),
    "selective and reentrant": ("sft.init", "models/base\n  gradient_checkpointing: true\n  gradient_checkpointing_kwargs: {selective: true, use_reentrant: true}", ["selective needs use_reentrant: false"]),
    "adapter of nothing": ("train.lora", "{rank: 8, alpha: 8, targets: []}", ["train.lora.targets is empty: nothing would be trained."]),
    "adapter of the head": ("train.lora", "{rank: 8, alpha: 8, targets: [q_proj, lm_head]}", ["train.lora.targets: TRL's losses pass by an adapter of lm_head"]),
    "groups that are cut": ("grpo.init", "models/dpo\n  generation_batch_size: 96", ["grpo.generation_batch_size: 96 completions at once must be whole micro-batches of 64"]),
    "two sizes of one thing": ("grpo.init", "models/dpo\n  steps_per_generation: 1\n  generation_batch_size: 64", ["grpo.steps_per_generation and generation_batch_size say the same"]),
    "batch no multiple on two processes": ("launch", "torchrun --standalone --nproc_per_node=2", ["train.batch: 16 sequences", "micro_batch, 16, on each of the 2 processes of launch; micro_batch: 8 would do", "grpo.batch: 64"]),
    "a launcher that leaves the number open": ("launch", "torchrun --nproc_per_node=gpu", ["launch: \"torchrun --nproc_per_node=gpu\": say how many processes it starts"]),
    "batch no multiple": ("train.micro_batch", "5", ["train.batch: 16 sequences", "no multiple of micro_batch, 5; micro_batch: 4 would do"]),
    "stage's batch no multiple": ("dpo.init", "models/sft\n  batch: 24", ["dpo.batch: 24", "micro_batch, 16"]),
    "groups do not fill": ("grpo.num_generations", "6", ["grpo.num_generations: groups of 6", "a batch of 64"]),
    "no completions at once": ("grpo.init", "models/dpo\n  generation_batch_size: 0", ["grpo.generation_batch_size: 0 is less than 1."]),
    "a group of one": ("grpo.num_generations", "1", ["grpo.num_generations: 1 is less than 2."]),
    "held-out groups do not fill": ("grpo.num_generations_eval", "3", ["grpo.per_device_eval_batch_size: 256", "3."]),
    "weight for no reward": ("grpo.rewards.accuracy", "1.0\n    acuracy: 1", ["rewards.acuracy", "Did you mean accuracy?"]),
    "weight that is a text": ("grpo.rewards.accuracy", "high", ['grpo.rewards.accuracy: "high" is a text, not a number.']),
    "weight that is no number": ("grpo.rewards.accuracy", ".nan", ["grpo.rewards.accuracy: NaN is not finite"]),
    "no rewards": ("grpo.rewards", "{}", ["grpo.rewards is missing"]),
    "no reward model": ("grpo.reward_model", '""', ["grpo.reward_model is missing: grpo.rewards gives it a weight."]),
    "turns that there are not": ("sft.init", "models/base\n  loss_on: first", ["sft.loss_on: \"first\" is none of all, last"]),
    "unknown format": ("data.sft.source", "raw\n    format: alpca", ["data.sft.format: \"alpca\" is no function of llmrl/formats.py", "Did you mean alpaca?"]),
    "template without a question": ("data.sft.source", "raw\n    template: Box it.", ["data.sft.template: \"Box it.\" holds no question"]),
    "template with a lone brace": ("data.sft.source", "raw\n    template: \"{question} {\"", ["data.sft.template", "is no template"]),
    "evaluation set of a built-in task": ("data.sft.source", "builtin:arithmetic\n    eval: a.jsonl", ["data.sft.eval (now \"a.jsonl\"): builtin:arithmetic has none; write null"]),
    "empty system text": ("data.sft.source", "raw\n    system: \"\"", ["data.sft.system is an empty text; write null"]),
    "4 bit with vLLM": ("grpo.init", "models/dpo\n  use_vllm: true\n  lora: {rank: 8, alpha: 16, load_in_4bit: true}", ["grpo.use_vllm and lora.load_in_4bit do not go together"]),
    "no start": ("sft.init", '""', ["sft.init is missing: the folder of the model"]),
    # The file.
    "key that stands twice": ("train.seed", "1\n  seed: 2", ['duplicate key "seed"']),
    "open bracket": ("dpo.loss_type", "[sigmoid", ["not YAML"]),
    "wrong indentation": ("train.seed", "1\n   lr: 2", ["not YAML"]),
    "tabulator": ("train.seed", "1\n\tlr: 2", ["not YAML"]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), SETTINGS.values(), ids=SETTINGS)
def test_a_mistake_in_the_settings_is_named(setting, name, text, said):
    """Each mistake is refused with its place, the setting, its value and what would be right."""
    if "bitsandbytes" in said[0] and importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    setting(name, text)
    with pytest.raises(InputError) as refused:
        checks.check(PATH)
    message = str(refused.value)
    for part in said:
        assert part in message
    line = int(re.match(r"params\.yaml:(\d+): ", message)[1])
    lines = PATH.read_text(encoding="utf-8").splitlines()
    # A broken file is noticed where it cannot go on; a combination is wrong in either of its settings.
    if not re.search("not YAML|no multiple|say the same|do not go together", message):
        flawed = text.splitlines()[-1].strip()
        assert flawed.partition(":")[0] in lines[line - 1]


ONCE = {
    "sampling where nothing is sampled": ("sft.init", "models/base\n  generation_kwargs: {min_new_tokens: 5}"),
    "a date for a text": ("data.salt", "2026-01-01"),
    "a date among TRL's": ("sft.init", "models/base\n  lr_scheduler_kwargs: {num_cycles: 2026-01-01}"),
    "a list of a date": ("train.lora", "{rank: 8, alpha: 8, targets: [2026-01-01]}"),
    "a date in quotes that are missing": ("model.source", "raw\n  chat_template_kwargs: {date_string: 2024-07-26}"),
    "a switch that is no number": ("model.source", "raw\n  chat_template_kwargs: {a: .inf}"),
    "a switch that is a list": ("model.source", "raw\n  chat_template_kwargs: {a: [1]}"),
    "no subset of a built-in task": ("data.sft.source", 'builtin:arithmetic\n    subset: ""'),
    "no subset of a file": ("data.sft.source", 'raw\n    subset: ""'),
    "no split of a file": ("data.sft.source", 'raw\n    split: ""'),
    "no evaluation set of a built-in task": ("data.sft.source", 'builtin:arithmetic\n    eval: ""'),
    "no system text": ("data.sft.source", 'raw\n    system: ""'),
}


@pytest.mark.parametrize(("name", "text"), ONCE.values(), ids=ONCE)
def test_a_mistake_is_said_once(setting, name, text):
    """One line for one mistake."""
    setting(name, text)
    with pytest.raises(InputError) as refused:
        checks.check(PATH)
    assert 1 == len(str(refused.value).splitlines())


def test_processes_that_cannot_share_a_batch(setting):
    """Where micro_batch is auto, there is no number of it to blame."""
    setting("train.micro_batch", "auto")
    setting("launch", "torchrun --standalone --nproc_per_node=3")
    with pytest.raises(
        InputError, match=r"train\.batch: 16 .* are no multiple of launch's 3 processes; it must be one of 3"
    ):
        checks.check(PATH)


def test_all_mistakes_come_at_once(setting):
    """One message names every mistake, a line each, in the order of the file."""
    for name, text in {"run.verbosity": "loud", "train.lr": "0", "dpo.beta": "high", "data.salt": "3"}.items():
        setting(name, text)
    setting("grpo.init", "models/dpo\n  bta: 1")
    PATH.write_text(PATH.read_text().replace("\nanswers:", "\nanswer:"))
    with pytest.raises(InputError) as refused:
        checks.check(PATH)
    found = [re.match(r"params\.yaml:(\d+): ([\w.]+)", line).groups() for line in str(refused.value).splitlines()]
    assert sorted(found, key=lambda place: int(place[0])) == found
    expected = {"answers", "data.salt", "train.lr", "dpo.beta", "grpo.bta", "answer", "run.verbosity"}
    assert expected == {name for _, name in found}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "params.yaml is missing"),
        (b"", "params.yaml:1: there are no sections"),
        (b"- a\n- b\n", "params.yaml:1: there are no sections"),
        (b"launch: python\nsalt: caf\xe9\n", "params.yaml:2: not UTF-8"),
        (b"launch: python\n", "params.yaml:1: grpo is missing."),
    ],
)
def test_a_file_that_holds_no_settings_is_named(tmp_path, monkeypatch, content, said):
    """A params.yaml that is missing, empty, something else or not text is refused."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        PATH.write_bytes(content)
    with pytest.raises(InputError, match=said):
        checks.check(PATH)


def line(**row):
    """A row as a line of JSON."""
    return json.dumps(row) + "\n"


def turn(role):
    return {"role": role, "content": "1?"}


ROWS = "".join(line(prompt=f"{number}?", completion="2") for number in range(40))
PAIRS = "".join(line(prompt=f"{number}?", chosen="a", rejected="b") for number in range(40))
TASKS = "".join(line(prompt=f"{number}?", solution="1") for number in range(40))

# The data set, its file (None: none) and its content, and what the message must say.
DATA = {
    "no file": ("sft", None, "", ["data/raw/sft/ holds no file of rows (.jsonl", "but nothing", "data.sft.source"]),
    "file of another kind": ("sft", "a.txt", "[]", ["holds no file of rows", "but a.txt"]),
    "hidden file": ("sft", ".a.jsonl", ROWS, ["holds no file of rows", "but .a.jsonl"]),
    "tests alone": ("sft", "test.jsonl", ROWS, ["data/raw/sft/ holds test.jsonl, held out by name or data.sft.eval, and no file to train on"]),
    "an object": ("sft", "a.json", '{"a": 1, "b": 2}', ["data/raw/sft/a.json"]),
    "empty file": ("sft", "a.jsonl", "", ["data/sft/train.parquet would have no rows, of 0 read"]),
    "empty Parquet file": ("sft", "a.parquet", "", ["data/raw/sft/a.parquet: cannot be read as .parquet"]),
    "no Parquet file": ("sft", "a.parquet", ROWS, ["data/raw/sft/a.parquet: cannot be read as .parquet"]),
    "too few rows": ("sft", "a.jsonl", line(prompt="1?", completion="2"), [".parquet would have no rows, of 1 read", "data.eval_share"]),
    "wrong columns": ("sft", "a.jsonl", line(question="1?", answer="1"), ["data/raw/sft/a.jsonl:1: the row has the columns question, answer", "needs messages or prompt + completion", "data.sft.columns"]),
    "wrong columns later": ("sft", "a.jsonl", ROWS + line(prompt="1?"), ["a.jsonl:41: the row has the columns prompt;"]),
    "columns of another set": ("preference", "a.jsonl", ROWS, ["a.jsonl:1:", "needs prompt + chosen + rejected or chosen + rejected"]),
    "one opening turn": ("sft", "a.jsonl", "".join(line(prompt="Go on.", completion=f"{n}") for n in range(300)), ["would have no rows, of 300 read; all begin with one user turn ('Go on.')", "data.sft.eval"]),
    "labels on single answers": ("preference", "a.jsonl", line(prompt="1?", completion="2", label=True), ["a.jsonl:1: the row has the columns prompt, completion, label", "a pair is two answers to one prompt"]),
    "two shapes": ("sft", "a.jsonl", line(prompt="1?", completion="2", messages=[turn("user"), turn("assistant")]), ["a.jsonl:1: the row has the columns messages and prompt + completion, of which either would do", "data.sft.columns"]),
    "an input that nothing reads": ("sft", "a.jsonl", ROWS + 4 * line(prompt="1?", completion="2", input="a"), ["4 input, which would be lost (first: data/raw/sft/a.jsonl:41)"]),
    "images": ("sft", "a.jsonl", ROWS + 4 * line(prompt="1?", completion="2", images=["a.png"]), ["4 images, which cannot be trained on"]),
    "a call that is not JSON": ("sft", "a.jsonl", ROWS + 4 * line(messages=[turn("user"), {"from": "function_call", "value": "add(2)"}]), ["4 a function call that is not JSON"]),
    "nothing to train on": ("sft", "a.jsonl", ROWS + 4 * line(messages=[turn("user"), turn("assistant") | {"weight": 0}]), ["4 no turn of the assistant to train on"]),
    "weights": ("sft", "a.jsonl", ROWS + 4 * line(messages=[turn("user"), turn("assistant") | {"weight": 0.5}]), ["4 a weight other than 0 and 1"]),
    "mixed formats": ("sft", "a.jsonl", ROWS + PAIRS, ["a.jsonl:41: the row has the columns prompt, chosen, rejected"]),
    "broken JSON": ("sft", "a.jsonl", ROWS + '\n{"prompt": "1?", }\n', ["a.jsonl:42: broken JSON: ", "at column 18"]),
    "JSON with an endless integer": ("sft", "a.jsonl", ROWS + '{"prompt": ' + "1" * 4301 + "}\n", ["a.jsonl:41: broken JSON: an integer of more than 4,300 digits"]),
    "JSON that is no row": ("sft", "a.jsonl", ROWS + "[1]\n", ["a.jsonl:41: each line must be one JSON object"]),
    "one JSON list": ("sft", "a.jsonl", "[\n" + ROWS + "]", ["a.jsonl:1: broken JSON"]),
    "not UTF-8": ("sft", "a.jsonl", (ROWS + "caf\xe9\n").encode("latin-1"), ["a.jsonl:41: not UTF-8"]),
    "CSV not UTF-8": ("sft", "a.csv", "prompt,completion\n1?,caf\xe9\n".encode("latin-1"), ["a.csv:2: not UTF-8"]),
    "CSV with a cell too many": ("sft", "a.csv", "prompt,completion\n1?,2\n1?,2,3\n", ["a.csv:3: more or fewer cells"]),
    "CSV with an open quote": ("sft", "a.csv", 'prompt,completion\n1?,"2\n', ["a.csv:2: broken CSV"]),
    "conversations that end with the user": ("sft", "a.jsonl", ROWS + 4 * line(messages=[turn("user")]), ["4 of 44 rows are defective, more than data.max_defective", "(0.05)", "4 no turn of the assistant to train on (first: data/raw/sft/a.jsonl:41)"]),
    "foreign roles": ("sft", "a.jsonl", ROWS + 4 * line(messages=[turn("critic")]), ["a role that is none of system, developer, user"]),
    "foreign turns": ("sft", "a.jsonl", ROWS + 4 * line(messages=[{"speaker": "human", "text": "1?"}]), ["turns without role and content"]),
    "turns as Python prints them": ("sft", "a.csv", "messages\n" + "\"[{'role': 'user', 'content': '1?'}]\"\n" * 3, ["3 of 3 rows", "a list of turns that is not JSON (first: data/raw/sft/a.csv:2)"]),
    "duplicates": ("sft", "a.jsonl", ROWS + ROWS, ["40 of 80 rows are defective", "40 duplicate (first: data/raw/sft/a.jsonl:41)"]),
    "several defects": ("sft", "a.jsonl", ROWS + line(prompt="1?", completion="2") + 3 * line(prompt="1?", completion=" "), ["3 empty (first: data/raw/sft/a.jsonl:42); 1 duplicate (first: data/raw/sft/a.jsonl:41)"]),
    "chosen equal to rejected": ("preference", "a.jsonl", PAIRS + 3 * line(prompt="1?", chosen="a", rejected="a"), ["3 chosen equal to rejected (first: data/raw/preference/a.jsonl:41)"]),
    "no common prompt": ("preference", "a.jsonl", PAIRS + 3 * line(chosen="yes", rejected="no"), ["chosen and rejected begin with no common prompt"]),
    "gold answers that cannot be parsed": ("prompts", "a.jsonl", TASKS + 3 * line(prompt="1?", solution=r"\frac{1}{"), ["3 a solution that is no single short answer (first: data/raw/prompts/a.jsonl:41)"]),
    "gold answers that are essays": ("prompts", "a.jsonl", TASKS + 3 * line(prompt="1?", solution="x" * 400), ["a solution that is no single short answer"]),
    "mapped column that is not there": ("sft", "a.jsonl", ROWS, ["a.jsonl:1: data.sft.columns in params.yaml names 'question' as prompt, which the row does not have; it has prompt, completion."]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "file", "content", "said"), DATA.values(), ids=DATA)
def test_a_mistake_in_the_data_is_named(setting, tmp_path, request, name, file, content, said):
    """One message says what is wrong and where, and the former data stay as they were."""
    raw(setting, name)
    if "mapped" in request.node.callspec.id:
        setting("data.sft.columns", "{prompt: question}")
    folder, former = tmp_path / "data/raw" / name, tmp_path / "data" / name / "former.txt"
    folder.mkdir(parents=True)
    (folder / "README.md").touch()
    if file:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    former.parent.mkdir()
    former.touch()
    with pytest.raises(InputError) as refused:
        prepare.main(name)
    for part in said:
        assert part in str(refused.value)
    assert [former] == list(former.parent.iterdir())
    assert not (tmp_path / f"data/.{name}").exists()


def raw(setting, name):
    """Have a data set made of the user's own files."""
    for key, value in {"source": "raw", "rows": "null", "eval_rows": "null"}.items():
        setting(f"data.{name}.{key}", value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "llmrl.params"), ["params.yaml:", "grpo.rewards.acuracy is no reward", "Did you mean accuracy?"]),
        (("-m", "llmrl.data.prepare", "sft"), ["grpo.rewards.acuracy is no reward"]),
        (("-m", "llmrl.base"), ["grpo.rewards.acuracy is no reward"]),
        (("-m", "stages.sft"), ["grpo.rewards.acuracy is no reward"]),
        (("-m", "llmrl.data.prepare", "sfd"), ["invalid choice: 'sfd'", "sft", "preference", "prompts"]),
        (("-m", "llmrl.data.prepare"), ["the following arguments are required: name"]),
    ],
    ids=["settings", "data", "base", "stage", "unknown data set", "no data set"],
)
def test_a_process_stops_at_the_first_mistake(project, change, python, arguments, said):
    """A mistake in the last section stops whichever process comes first, before it makes anything."""
    change("grpo.rewards.accuracy", "1.0\n    acuracy: 1.0")
    before = sorted(project.rglob("*"))
    refused(python, arguments, said)
    assert before == [path for path in sorted(project.rglob("*")) if "__pycache__" not in path.parts]


def test_a_process_stops_at_a_mistake_in_the_data(project, change, python):
    """With one message and no traceback, as at one in the settings."""
    raw(change, "prompts")
    (project / "data/raw/prompts/a.jsonl").write_text("[1]\n")
    refused(python, ("-m", "llmrl.data.prepare", "prompts"), ["a.jsonl:1: each line must be one JSON object"])


def test_rewards_that_are_no_python_are_named(project, python):
    """A slip in the user's own rewards is found by the settings check, with its line."""
    path = project / "llmrl/rewards.py"
    path.write_text("def mine(completions, **_)\n    return []\n", encoding="utf-8")
    refused(python, ("-m", "llmrl.params"), ["llmrl/rewards.py:1: expected ':'"])


def classifier(models):
    """A folder that holds a reward model, by what its config says."""
    shutil.copytree(models / "base", models / "judge")
    of_config(models / "judge", architectures=["Qwen2ForSequenceClassification"])


def of_config(model, **settings):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings), encoding="utf-8")


def cut(models):
    """The base model's weights cut short."""
    os.truncate(models / "base/model.safetensors", 1000)


def cut_index(models):
    """The list of the base model's weights cut short."""
    (models / "base/model.safetensors.index.json").write_text('{"weight_map": {"model.no', encoding="utf-8")


def empty_index(models):
    (models / "base/model.safetensors.index.json").write_text("{}", encoding="utf-8")


def own_code(models):
    """A base model that brings its own code."""
    of_config(models / "base", auto_map={"AutoModel": "mine.Mine"})


def no_weights(models):
    (models / "base/model.safetensors").rename(models / "base/pytorch_model.bin")


def nothing(_):
    """Leave the models as they are."""


# The settings changed, what happened to the files, the stage, and what the message must say.
MODELS = {
    "a model that is not there": ({"sft.init": "models/nowhere"}, nothing, "sft", ["models/nowhere is not a model's folder", "a model of your own must be put there whole"]),
    "a reward model for a policy": ({"sft.init": "models/judge"}, classifier, "sft", ["params.yaml: sft.init: models/judge holds a Qwen2ForSequenceClassification", "…ForCausalLM is needed here"]),
    "a policy for a reward model": ({"grpo.init": "models/base", "grpo.reward_model": "models/base"}, nothing, "grpo", ["params.yaml: grpo.reward_model: models/base holds a Qwen2ForCausalLM", "…ForSequenceClassification is needed"]),
    "weights cut short": ({}, cut, "sft", ["models/base/model.safetensors is missing or not whole", "`dvc repro` brings back what it made"]),
    "an index cut short": ({}, cut_index, "sft", ["models/base/model.safetensors.index.json is missing or not whole", "`dvc repro` brings back what it made"]),
    "an index of nothing": ({}, empty_index, "sft", ["models/base/model.safetensors.index.json is missing or not whole"]),
    "weights that are a pickle": ({}, no_weights, "sft", ["models/base has no weights (*.safetensors)"]),
    "a model with code of its own": ({}, own_code, "sft", ["models/base brings its own code", "which is never run"]),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "spoil", "name", "said"), MODELS.values(), ids=MODELS)
def test_a_mistake_about_models_is_named(setting, tmp_path, capsys, changes, spoil, name, said):
    """A stage refuses what it cannot start from, with one message, before it loads anything."""
    shutil.copytree(ROOT / "models/tiny", tmp_path / "models/base")
    for key, value in changes.items():
        setting(key, value)
    spoil(tmp_path / "models")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit, match="2"):
        stage.main(name, None)
    message = capsys.readouterr().err
    for part in said:
        assert part in message
    assert before == sorted(tmp_path.rglob("*"))


# What a stage finds when it has loaded its libraries; of each kind test_hardware.py and test_training_rows.py have more.
STARTED = {
    "kernels the device lacks": ({"train.kernels": "liger"}, "sft", ["params.yaml: kernels: liger's need CUDA", "auto gives torch"]),
    "an adapter of tied embeddings": ({"train.lora": "{rank: 8, alpha: 8, targets: [embed_tokens]}"}, "sft", ["params.yaml: sft.lora.targets (or train's): model.embed_tokens has the weights of the head, too"]),
    "accuracy without solutions": ({"grpo.init": "models/base", "grpo.reward_model": "models/judge"}, "grpo", ["grpo.rewards.accuracy in params.yaml needs solutions, and no row of data/prompts has one"]),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "name", "said"), STARTED.values(), ids=STARTED)
def test_a_stage_stops_before_it_trains(project, change, python, changes, name, said):
    """With one message, and nothing made."""
    for lock in ("data", "models"):
        (project / lock / "dvc.lock").unlink()  # of other rows
    shutil.copytree(project / "models/tiny", project / "models/base")
    classifier(project / "models")
    raw(change, "prompts")
    (project / "data/raw/prompts/a.jsonl").write_text(
        "".join(line(prompt=f"{number}?", solution=None if name == "grpo" else "1") for number in range(60))
    )
    change("data.sft.rows", "50")
    for key, value in changes.items():
        change(key, value)
    for data_set in ("sft", "prompts"):
        prepare.main(data_set)
    refused(python, ("-m", f"stages.{name}"), said, loaded=True)
    assert not (project / "models" / name).exists()


def refused(python, arguments, said, loaded=False):
    """Require that a process ends with status 2 and these words, without a traceback; and, unless it may have `loaded`
    them and said something before, with no other word, before it has imported the libraries that cost seconds.
    """
    done = python(*imports.LISTED, *arguments)
    names, words = imports.told(done.stderr)
    assert loaded == ("torch" in names)
    assert 2 == done.returncode
    assert loaded or not done.stdout
    assert "Traceback" not in words
    for part in said:
        assert part in words
