"""The memory formula against real tensors: parameters, gradients and optimizer states exactly, activations closely."""

from __future__ import annotations

import json
import re
import weakref
from dataclasses import fields, replace
from pathlib import Path

import datasets
import four_bit
import pytest
import torch
import transformers
import trl
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from bench import inputs
from llmrl import answers, memory, models, params, training
from llmrl.errors import InputError
from llmrl.hardware import Hardware
from llmrl.memory import Shape

ROOT = Path(__file__).parents[1]
TINY = json.loads((ROOT / "models/tiny/config.json").read_text())
QWEN, SMOLLM2 = inputs.MODELS["qwen2.5-0.5b"], inputs.MODELS["smollm2-135m"]
SMALL = QWEN | {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
CONFIGS = {"tiny": TINY, "Qwen2.5-0.5B": QWEN, "SmolLM2-135M": SMOLLM2} | {
    f"{family} {kind}": SMALL | {"model_type": family, "head_dim": 16} | more
    for family in memory.FAMILIES
    for kind, more in {
        "tied": {"tie_word_embeddings": True},
        "untied": {"tie_word_embeddings": False},
        "biased": {"attention_bias": True, "mlp_bias": True},
    }.items()
    if (family, kind) not in {("gemma", "untied"), ("gemma", "biased"), ("mistral", "biased")}  # there are none
}
KNOWN = {"Qwen2.5-0.5B": 494_032_768, "SmolLM2-135M": 134_515_008}  # as the Hub counts them


def config(values: dict) -> transformers.PretrainedConfig:
    return transformers.AutoConfig.for_model(**values)


def built(values: dict, kind=transformers.AutoModelForCausalLM) -> transformers.PreTrainedModel:
    """A model of the configuration, without weights."""
    with torch.device("meta"):
        return kind.from_config(config(values), dtype=torch.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_counted(name: str) -> None:
    """The shapes that the arithmetic gives are those of the model, of a policy and of a classifier."""
    values = {key: value for key, value in CONFIGS[name].items() if key != "mlp_bias" or "llama" in name}
    shape = Shape.of(values)
    classifier = built(values | {"num_labels": 1}, transformers.AutoModelForSequenceClassification)

    assert sorted(tuple(one.shape) for one in built(values).parameters()) == sorted(shape.tensors())
    assert sorted(tuple(one.shape) for one in classifier.parameters()) == sorted(shape.tensors(classifier=True))
    assert KNOWN.get(name, memory.numbers(shape.tensors())) == memory.numbers(shape.tensors())


def test_an_unknown_architecture_has_no_shape() -> None:
    """No figure is made up."""
    assert Shape.of({"model_type": "mamba"}) is None


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "grpo"])
def test_defaults_are_trl_s(stage: str) -> None:
    """Where params.yaml says nothing, the formula has what TRL's configs have."""
    config = {"sft": trl.SFTConfig, "reward": trl.RewardConfig, "dpo": trl.DPOConfig, "grpo": trl.GRPOConfig}[stage]
    defaults = {field.name: field.default for field in fields(config)}
    ours = {name: value for name, value in memory.DEFAULTS.items() if name in defaults}
    if stage == "dpo":
        ours.pop("beta")

    assert {name: defaults[name] for name in ours} == ours


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["q_proj", "v_prj"], "lora.targets as sft has it: v_prj is none of this model's matrices"),
        ("q_proj", "the text q_proj is none of"),
        (".*(q|v)_proj", "write all-linear, or a list of q_proj, k_proj"),
    ],
)
def test_adapters_of_what_the_model_has_not_are_refused(targets: list[str] | str, said: str) -> None:
    """PEFT would train the others without a word, or stop after the model was loaded."""
    with pytest.raises(InputError, match=said):
        memory.Stage(Shape.of(TINY), settings("sft", {"lora": {"rank": 4, "alpha": 8, "targets": targets}}), "fp32")


def settings(stage: str, own: dict | None = None, **trl_options: object) -> params.Settings:
    """The stage's settings of the tiny profile, with some changed."""
    found = params.stage(stage, ROOT / "params.yaml")
    return replace(found, own=replace(found.own, **(own or {})), trl=found.trl | trl_options)


ALL, SOME = {"rank": 4, "alpha": 8}, {"rank": 8, "alpha": 8, "targets": ["q_proj"]}


@pytest.mark.parametrize(
    ("optim", "lora"),
    [
        *((name, None) for name in ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "sgd")),
        *((name, ALL) for name in ("adamw_torch", "adafactor")),
        ("adamw_torch", SOME),
    ],
)
def test_bytes_of_weights_gradients_and_states(tmp_path: Path, optim: str, lora: dict | None) -> None:
    """One optimizer step of TRL's trainer holds exactly the bytes that the formula gives."""
    chosen = settings("sft", own={"lora": lora, "batch": 2, "micro_batch": 1}, optim=optim)
    stage = memory.Stage(Shape.of(TINY), chosen, "fp32")
    rows = datasets.Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 4)
    run = training.Run(chosen, Hardware("cpu", "CPU", "fp32"), None, rows, rows, tmp_path, "run")
    seen = {}

    class Look(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **_):
            seen["gradients"] = sum(one.grad.nbytes for one in model.parameters() if one.grad is not None)

    trainer = trl.SFTTrainer(
        model=models.load_policy(str(ROOT / "models/tiny")),
        args=trl.SFTConfig(**run.arguments | {"max_steps": 1, "eval_strategy": "no"}),
        train_dataset=rows,
        processing_class=models.load_tokenizer(str(ROOT / "models/tiny")),
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=[Look()],
    )
    trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    held = stage.step()["update"]

    assert sum(one.nbytes for one in trainer.model.parameters()) == held["weights"]
    assert seen["gradients"] == held["gradients"]
    assert sum(one.nbytes for one in states if torch.is_tensor(one)) == held["optimizer states"]


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it and still live, and their most."""

    def __init__(self, *before: torch.Tensor) -> None:
        super().__init__()
        self.live = self.most = 0
        self.sizes: dict[int, int] = {}
        self.before = [tensor.untyped_storage() for tensor in before]
        self.known = {id(storage) for storage in self.before}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self.sizes and id(storage) not in self.known:
                    self.sizes[id(storage)] = storage.nbytes()
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self.freed, id(storage))
        self.most = max(self.most, self.live)
        return made

    def freed(self, number: int) -> None:
        self.live -= self.sizes.pop(number)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("wide", [{}, {"intermediate_size": 1536}, {"num_hidden_layers": 6}, {"head_dim": 64}])
def test_activations(family: str, precision: str, checkpointing: bool, wide: dict) -> None:
    """What the layers keep for the backward pass, and hold within it, is the formula's within a tenth."""
    torch.manual_seed(1)
    values = SMALL | {"model_type": family} | wide
    model = transformers.AutoModel.from_config(config(values), dtype=torch.float32).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    tokens, attended = torch.ones(2, 256, dtype=torch.long), torch.ones(2, 256, dtype=torch.long)
    attended[0, -5:] = 0
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    own = {"micro_batch": 2, "batch": 4, "lora": None}
    chosen = settings("sft", own, max_length=256, gradient_checkpointing=checkpointing)
    stage = memory.Stage(Shape.of(values), chosen, precision)
    with Live(*model.parameters(), *(parameter.grad for parameter in model.parameters())) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            states = model(input_ids=tokens, attention_mask=attended, use_cache=False).last_hidden_state
        kept, live.most = live.live, 0
        states.backward(torch.ones_like(states))
    moments = stage.step()
    forward, backward = moments["forward pass"], moments["backward of a layer"]
    cast = 0 if checkpointing else forward.get(memory.CAST, 0)

    assert forward["activations"] + cast == pytest.approx(kept, rel=0.1)
    assert backward["activations"] + backward.get(memory.CAST, 0) == pytest.approx(live.most, rel=0.1)


def test_activations_of_every_other_layer() -> None:
    """gradient_checkpointing_kwargs: {every_n_layers: 2} keeps all of what every second layer computes."""
    torch.manual_seed(1)
    values = SMALL | {"model_type": "llama", "num_hidden_layers": 5}
    model = transformers.AutoModel.from_config(config(values), dtype=torch.float32).train()
    model.gradient_checkpointing_enable(every_n_layers=2)
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"every_n_layers": 2}}
    chosen = settings("sft", {"micro_batch": 2, "batch": 4, "lora": None}, max_length=256, **options)
    tokens, attended = torch.ones(2, 256, dtype=torch.long), torch.ones(2, 256, dtype=torch.long)
    attended[0, -5:] = 0
    with Live(*model.parameters()) as live:
        states = model(input_ids=tokens, attention_mask=attended, use_cache=False).last_hidden_state

    expected = memory.Stage(Shape.of(values), chosen, "fp32").step()["forward pass"]["activations"]
    assert states is not None
    assert expected == pytest.approx(live.live, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_of_packed_rows(precision: str, checkpointing: bool) -> None:
    """They lie end to end, and the mask is as wide as all of them are long."""
    torch.manual_seed(1)
    values = SMALL | {"model_type": "llama"}
    model = transformers.AutoModel.from_config(config(values), dtype=torch.float32).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    own = {"micro_batch": 4, "batch": 8, "lora": None}
    chosen = settings("sft", own, max_length=256, gradient_checkpointing=checkpointing, packing=True)
    moments = memory.Stage(Shape.of(values), chosen, precision).step()
    places = torch.arange(128).repeat(8)[None]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with Live(*model.parameters(), *(parameter.grad for parameter in model.parameters())) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            states = model(torch.ones_like(places), position_ids=places, use_cache=False).last_hidden_state
        kept, live.most = live.live, 0
        states.backward(torch.ones_like(states))
    forward, backward = moments["forward pass"], moments["backward of a layer"]
    cast = 0 if checkpointing else forward.get(memory.CAST, 0)

    assert forward["activations"] + cast == pytest.approx(kept, rel=0.1)
    assert backward["activations"] + backward.get(memory.CAST, 0) == pytest.approx(live.most, rel=0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits(precision: str) -> None:
    """What TRL's fused head holds beyond what the layers keep is the formula's within a fifth."""
    values = SMALL | {"vocab_size": 40_000, "num_hidden_layers": 1}
    model = transformers.AutoModelForCausalLM.from_config(config(values), dtype=torch.float32)
    trl.trainer.utils.add_fused_lm_head(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stage = memory.Stage(Shape.of(values), settings("sft", {"micro_batch": 2, "batch": 4}, max_length=64), precision)
    tokens = torch.ones(2, 64, dtype=torch.long)
    with Live(*model.parameters(), *(parameter.grad for parameter in model.parameters())) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=tokens, labels=tokens, fused_lm_head=True).loss
        kept, live.most = live.live, 0
        loss.backward()

    assert stage.step()["backward of the head"]["logits"] == pytest.approx(live.most - kept, rel=0.2)


KINDS = {
    "sft": (trl.SFTTrainer, trl.SFTConfig, transformers.AutoModelForCausalLM, "CAUSAL_LM"),
    "reward": (trl.RewardTrainer, trl.RewardConfig, transformers.AutoModelForSequenceClassification, "SEQ_CLS"),
    "dpo": (trl.DPOTrainer, trl.DPOConfig, transformers.AutoModelForCausalLM, "CAUSAL_LM"),
}


def whole_training(folder: Path, stage: str, lora: dict | None, precision: str, checkpointing: bool) -> tuple[int, int]:
    """The bytes at the worst moment of TRL's trainer: as the formula has them, and of the tensors that live."""
    torch.manual_seed(1)
    values = SMALL | {"vocab_size": 20_000, "hidden_size": 256, "intermediate_size": 1024, "num_labels": 1}
    kind, configuration, auto, task = KINDS[stage]
    options = {"max_length": 128, "gradient_checkpointing": checkpointing, "eval_strategy": "no"}
    chosen = settings(stage, {"lora": lora, "batch": 4, "micro_batch": 2}, optim="adamw_torch", **options)
    long = list(range(5, 133))
    row = {
        "sft": {"input_ids": long, "labels": long},
        "reward": {"chosen_ids": long, "rejected_ids": long},
        "dpo": {"prompt": "1 + 2 = ", "chosen": "1 + 2 = 3. " * 50, "rejected": "3" * 500},  # cut at max_length
    }[stage]
    rows = datasets.Dataset.from_list([row] * 8)
    run = training.Run(chosen, Hardware("cpu", "CPU", precision), None, rows, rows, folder, "run")
    auto.from_config(config(values), dtype=torch.float32).save_pretrained(folder / "model")
    reference = run.asked.load(auto, str(folder / "model")) if stage == "dpo" and not lora else None
    trainer = kind(
        model=run.loading.load(auto, str(folder / "model")),
        args=configuration(**run.arguments | {"max_steps": 2}),
        train_dataset=rows,
        processing_class=models.load_tokenizer(str(ROOT / "models/tiny")),
        peft_config=run.lora(task),
        **({"ref_model": reference} if reference else {}),
    )
    training.settle(trainer)
    held = [*four_bit.weights(trainer.model), *(reference.parameters() if reference else ())]
    with Live(*held) as live:
        trainer.train()
    worst = max(sum(parts.values()) for parts in memory.Stage(Shape.of(values), chosen, precision).step().values())
    return worst, live.most + four_bit.size(held)


@pytest.mark.parametrize(
    ("lora", "precision", "checkpointing"),
    [(None, "fp32", False), (None, "bf16", True), ({"rank": 8, "alpha": 8}, "bf16", False)],
)
@pytest.mark.parametrize("stage", KINDS)
def test_a_whole_training(tmp_path: Path, stage: str, lora: dict | None, precision: str, checkpointing: bool) -> None:
    """At the worst moment of TRL's trainer as many bytes of tensors live as the formula says, within a tenth."""
    expected, live = whole_training(tmp_path, stage, lora, precision, checkpointing)

    assert expected == pytest.approx(live, rel=0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_generating_and_judging(tmp_path: Path, precision: str) -> None:
    """While GRPO generates, and its reward model judges, no more bytes live than the formula says, or hardly more."""
    torch.manual_seed(1)
    values = SMALL | {"vocab_size": 2_000, "hidden_size": 256, "intermediate_size": 1024, "num_labels": 1}
    options = {"max_completion_length": 48, "num_generations": 4, "eval_strategy": "no", "optim": "adamw_torch"}
    own = {"lora": None, "batch": 32, "micro_batch": 4, "max_prompt_length": 16, "rewards": {"reward_model": 1.0}}
    chosen = settings("grpo", own, **options)
    tokenizer = models.load_tokenizer(str(ROOT / "models/tiny"))
    rows = datasets.Dataset.from_list([{"prompt": [{"role": "user", "content": "7" * 10}]}] * 16)
    run = training.Run(chosen, Hardware("cpu", "CPU", precision), None, rows, rows, tmp_path, "run")
    judge = transformers.AutoModelForSequenceClassification.from_config(config(values), dtype=torch.float32)
    judge.config.use_cache = False  # as the stage that made it saved it
    models.freeze(judge, {"fp32": "float32", "bf16": "bfloat16"}[precision])
    trainer = trl.GRPOTrainer(
        model=transformers.AutoModelForCausalLM.from_config(config(values), dtype=torch.float32),
        reward_funcs=[judge],
        reward_processing_classes=[tokenizer],
        args=trl.GRPOConfig(**run.arguments | {"max_steps": 2}, generation_kwargs={"min_new_tokens": 48}),
        train_dataset=rows,
        processing_class=tokenizer,
        rollout_func=answers.rollout(precision),
    )
    training.settle(trainer)
    held = [*trainer.model.parameters(), *judge.parameters()]
    live, most = Live(*held), {}

    def watched(name, function):
        def call(*arguments, **named):
            live.most = live.live
            result = function(*arguments, **named)
            most[name] = max(most.get(name, 0), live.most + sum(one.nbytes for one in held))
            return result

        return call

    trainer._generate = watched("generating", trainer._generate)
    trainer._calculate_rewards = watched("judging", trainer._calculate_rewards)
    with live:
        trainer.train()
    moments = memory.Stage(Shape.of(values), chosen, precision).moments()

    for name in ("generating", "judging"):
        assert 0.97 < sum(moments[name].values()) / most[name] < 1.2


@pytest.mark.parametrize("prompt", [16, 128])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answering(tmp_path: Path, precision: str, prompt: int) -> None:
    """While a policy answers, alone, no more bytes live than the formula says, or hardly more: with its weights, cast
    for half precision, whether the first pass over long prompts takes most or the last token.
    """
    torch.manual_seed(1)
    values = SMALL | {"vocab_size": 2_000, "hidden_size": 256, "intermediate_size": 1024}
    transformers.AutoModelForCausalLM.from_config(config(values), dtype=torch.float32).save_pretrained(tmp_path)
    chosen = settings("grpo", {"max_prompt_length": prompt})
    protocol = replace(chosen.answers, samples=8, batch=32, max_new_tokens=48)
    tokenizer = models.load_tokenizer(str(ROOT / "models/tiny"))
    hardware = Hardware("cpu", "CPU", "fp32", answers=precision)
    run = training.Run(replace(chosen, answers=protocol), hardware, tokenizer, None, None, tmp_path, "run")
    texts = [number * "7" for number in (prompt // 2 - 5, prompt - 5)]  # of which one is padded
    prompts = [{"prompt": [{"role": "user", "content": text}], "solution": None} for text in texts * 4]
    policy = run.policy(str(tmp_path))
    loaded = sum(weights.nbytes for weights in policy.parameters())
    with Live(*policy.parameters()) as live:
        answers.measure(policy, tokenizer, datasets.Dataset.from_list(prompts), protocol, precision)
    expected = memory.Stage(Shape.of(values), run.settings, "fp32", answers=precision).moments()["answering"]

    assert loaded == pytest.approx(expected["weights"], rel=1e-3)  # biases are cast, too
    assert 0.97 < sum(expected.values()) / (loaded + live.most) < 1.25


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cache(precision: str) -> None:
    """Keys and values are kept in float32, also where the arithmetic is not."""
    model = transformers.AutoModelForCausalLM.from_config(config(SMALL), dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        cache = model(input_ids=torch.ones(3, 20, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    layers = SMALL["num_hidden_layers"]
    stage = memory.Stage(Shape.of(SMALL), settings("grpo"), precision)

    copies = layers + SMALL["num_attention_heads"] // SMALL["num_key_value_heads"]
    chosen = replace(stage.settings, own=replace(stage.settings.own, max_prompt_length=1))
    assert held * copies // layers == replace(stage, settings=chosen).generating(3, 19, cast=0)["KV cache"]


def test_adafactor_s_update() -> None:
    """Adafactor holds two copies of the largest parameter while it updates it."""
    weight = torch.nn.Parameter(torch.ones(300, 200))
    weight.grad = torch.ones_like(weight)
    optimizer = transformers.Adafactor([weight], lr=1e-3, relative_step=False, scale_parameter=False)
    with Live(weight, weight.grad) as live:
        optimizer.step()

    assert 2 * weight.nbytes == pytest.approx(live.most, rel=0.05)


WHOLE = 4 * 494_032_768
SPARED = 2 * 24 * (2 * 896 * 896 + 2 * 128 * 896 + 3 * 896 * 4_864)  # of a model that is not trained, in bf16
ADAPTERS = 24 * (4 * 896 + 2 * (896 + 128) + 3 * (896 + 4_864))  # of rank 1
JUDGE = WHOLE + 4 * 896


@pytest.mark.parametrize(
    ("stage", "own", "options", "expected"),
    [
        ("sft", {}, {}, {"weights": WHOLE}),
        ("reward", {}, {}, {"weights": JUDGE}),
        ("dpo", {}, {}, {"weights": WHOLE, "reference model": WHOLE - SPARED}),
        ("dpo", {}, {"precompute_ref_log_probs": True}, {"weights": WHOLE}),
        ("dpo", {"lora": {"rank": 1, "alpha": 1}}, {}, {"weights": WHOLE + 4 * ADAPTERS}),
        ("grpo", {}, {}, {"weights": WHOLE, "reward model": JUDGE - SPARED}),
        ("grpo", {}, {"beta": 0.1}, {"weights": WHOLE, "reference model": WHOLE, "reward model": JUDGE - SPARED}),
        ("grpo", {"rewards": {"accuracy": 1.0}}, {}, {"weights": WHOLE}),
    ],
)
def test_models_that_are_held(stage: str, own: dict, options: dict, expected: dict) -> None:
    """The policy, and beside it whatever the stage's settings ask for."""
    assert expected == memory.Stage(Shape.of(QWEN), settings(stage, own, **options), "bf16").models()


@pytest.mark.parametrize("lora", [None, {"rank": 1, "alpha": 1}])
def test_dpo_s_outcome_is_measured_against_the_reference(lora: dict | None) -> None:
    """Which is then loaded, whether or not it was held while the model was trained; not while the policy answers."""
    chosen = settings("dpo", {"lora": lora}, precompute_ref_log_probs=True)
    moments = memory.Stage(Shape.of(QWEN), chosen, "bf16").moments()
    held = moments["measuring"]

    expected = {"weights": WHOLE, "reference model": WHOLE - SPARED}
    assert expected == {name: held[name] for name in expected}
    assert "reference model" not in moments["answering"]
    assert WHOLE - SPARED == moments["answering"]["weights"]


CHECKPOINTING = {"gradient_checkpointing": True}
LEVERS = {
    "activations kept takes": ({}, {}),
    "`micro_batch: 1`": ({"micro_batch": 1}, {}),
    "`gradient_checkpointing: true`": ({}, CHECKPOINTING),
    "`gradient_checkpointing_kwargs: {every_n_layers: 2}`": (
        {},
        CHECKPOINTING | {"gradient_checkpointing_kwargs": {"every_n_layers": 2}},
    ),
    "`packing: true` (sft)": ({}, {"packing": True}),
    "`optim: adafactor`, with checkpointing": ({}, CHECKPOINTING | {"optim": "adafactor"}),
    "`optim: adamw_8bit`, with checkpointing": ({}, CHECKPOINTING | {"optim": "adamw_8bit"}),
    "`lora: {rank: 16, alpha: 32}`, with checkpointing": ({"lora": {"rank": 16, "alpha": 32}}, CHECKPOINTING),
    "`precompute_ref_log_probs: true` (dpo)": ({"micro_batch": 1}, CHECKPOINTING | {"precompute_ref_log_probs": True}),
}


@pytest.mark.parametrize("lever", LEVERS)
def test_documented_levers(lever: str) -> None:
    """The GiB in docs/memory.md's table are those of the formula."""
    own, options = LEVERS[lever]
    whole = {"lora": None, "batch": 64, "micro_batch": 4} | own
    plain = {"gradient_checkpointing": False, "optim": "adamw_torch_fused", "max_length": 1024} | options
    chosen = settings("dpo" if "(dpo)" in lever else "sft", whole, **plain)
    stage = memory.Stage(Shape.of(QWEN), chosen, "bf16", "cuda", liger=True)
    most = max(sum(parts.values()) for parts in stage.step().values())
    line = next(line for line in (ROOT / "docs/memory.md").read_text(encoding="utf-8").splitlines() if lever in line)

    assert f"{most / 2**30:.2f}" == re.findall(r"\d+\.\d\d", line)[-1 if "->" in line else 0]
