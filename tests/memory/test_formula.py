"""The memory formula against real tensors: parameters, gradients and optimizer states exactly, activations closely."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small
import torch
import transformers
import trl
from small import ROOT, TINY, settings
from tensors import BUILT_IN, KINDS, QWEN, SMALL, SMOLLM2, Live, config, whole_training

from llmrl.answers import generation
from llmrl.errors import InputError
from llmrl.measuring import held_out
from llmrl.memory import formula
from llmrl.memory.formula import Planned
from llmrl.memory.shape import FAMILIES, Shape, numbers
from llmrl.models import loading
from llmrl.training import loop
from llmrl.training.settings import Lora

CONFIGS = {"tiny": BUILT_IN, "Qwen2.5-0.5B": QWEN, "SmolLM2-135M": SMOLLM2} | {
    f"{family} {kind}": SMALL | {"model_type": family, "head_dim": 16} | more
    for family in FAMILIES
    for kind, more in {
        "tied": {"tie_word_embeddings": True},
        "untied": {"tie_word_embeddings": False},
        "biased": {"attention_bias": True, "mlp_bias": True},
    }.items()
    if (family, kind) not in {("gemma", "untied"), ("gemma", "biased"), ("mistral", "biased")}  # there are none
}
KNOWN = {"Qwen2.5-0.5B": 494_032_768, "SmolLM2-135M": 134_515_008}  # as the Hub counts them


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
    assert KNOWN.get(name, numbers(shape.tensors())) == numbers(shape.tensors())


def test_an_unknown_architecture_has_no_shape() -> None:
    """No figure is made up."""
    assert Shape.of({"model_type": "mamba"}) is None


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "grpo"])
def test_defaults_are_trl_s(stage: str) -> None:
    """Where params.yaml says nothing, the formula has what TRL's configs have."""
    config = {"sft": trl.SFTConfig, "reward": trl.RewardConfig, "dpo": trl.DPOConfig, "grpo": trl.GRPOConfig}[stage]
    theirs, asked = {field.name: field.default for field in fields(config)}, replace(settings(stage), trl={})
    names = {"gradient_checkpointing", "optim", "per_device_eval_batch_size", "max_length", "max_completion_length"}
    names |= {"num_generations", "beta", "generation_batch_size", "steps_per_generation", "precompute_ref_log_probs"}
    names &= theirs.keys()

    assert {name: theirs[name] for name in names} == {name: asked.option(name) for name in names}


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
        Planned(Shape.of(BUILT_IN), settings("sft", {"lora": Lora(4, 8, targets=targets)}), "fp32")


ALL, SOME = Lora(4, 8), Lora(8, 8, targets=["q_proj"])


@pytest.mark.parametrize(
    ("optim", "lora"),
    [
        *((name, None) for name in ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "sgd")),
        *((name, ALL) for name in ("adamw_torch", "adafactor")),
        ("adamw_torch", SOME),
    ],
)
def test_bytes_of_weights_gradients_and_states(tmp_path: Path, optim: str, lora: Lora | None) -> None:
    """One optimizer step of TRL's trainer holds exactly the bytes that the formula gives."""
    own = {"lora": lora, "batch": 2, "micro_batch": 1}
    chosen = settings("sft", own, optim=optim, max_steps=1, eval_strategy="no")
    run = small.run(tmp_path, chosen, [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 4)
    seen = {}

    class Look(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **_):
            seen["gradients"] = sum(one.grad.nbytes for one in model.parameters() if one.grad is not None)

    trainer = trl.SFTTrainer(
        model=loading.load_policy(TINY),
        args=trl.SFTConfig(**run.arguments),
        train_dataset=run.train_rows,
        processing_class=run.tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
        callbacks=[Look()],
    )
    trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    held = formula.step(Planned(Shape.of(BUILT_IN), chosen, "fp32"))["update"]

    assert sum(one.nbytes for one in trainer.model.parameters()) == held["weights"]
    assert seen["gradients"] == held["gradients"]
    assert sum(one.nbytes for one in states if torch.is_tensor(one)) == held["optimizer states"]


def check_passes(
    values: dict[str, Any], precision: str, micro_batch: int, options: dict[str, Any], **rows: torch.Tensor
) -> None:
    """What a model's layers keep of a forward pass, and hold in the backward pass, is the formula's within a tenth."""
    torch.manual_seed(1)
    model = transformers.AutoModel.from_config(config(values), dtype=torch.float32).train()
    if options["gradient_checkpointing"]:
        every = options.get("gradient_checkpointing_kwargs", {})
        model.gradient_checkpointing_enable(**every or {"gradient_checkpointing_kwargs": {"use_reentrant": False}})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with Live(*model.parameters(), *(parameter.grad for parameter in model.parameters())) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            states = model(**rows, use_cache=False).last_hidden_state
        kept, live.most = live.live, 0
        states.backward(torch.ones_like(states))
    own = {"micro_batch": micro_batch, "batch": 2 * micro_batch, "lora": None}
    moments = formula.step(Planned(Shape.of(values), settings("sft", own, max_length=256, **options), precision))
    forward, backward = moments["forward pass"], moments["backward of a layer"]
    cast = 0 if options["gradient_checkpointing"] else forward.get(formula.CAST, 0)

    assert forward["activations"] + cast == pytest.approx(kept, rel=0.1)
    assert backward["activations"] + backward.get(formula.CAST, 0) == pytest.approx(live.most, rel=0.1)


def padded() -> dict[str, torch.Tensor]:
    """Two rows, of which one is a little shorter."""
    rows = {name: torch.ones(2, 256, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    rows["attention_mask"][0, -5:] = 0
    return rows


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("family", "wide"),
    [
        ("qwen2", {}),
        ("llama", {}),
        ("llama", {"intermediate_size": 1536}),
        ("llama", {"num_hidden_layers": 6}),
        ("llama", {"head_dim": 64}),
    ],
)
def test_activations(family: str, wide: dict, precision: str, checkpointing: bool) -> None:
    """What the layers keep for the backward pass, and hold within it, is the formula's within a tenth."""
    check_passes(
        SMALL | {"model_type": family} | wide, precision, 2, {"gradient_checkpointing": checkpointing}, **padded()
    )


def test_activations_of_every_other_layer() -> None:
    """gradient_checkpointing_kwargs: {every_n_layers: 2} keeps all of what every second layer computes."""
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"every_n_layers": 2}}
    check_passes(SMALL | {"model_type": "llama", "num_hidden_layers": 5}, "fp32", 2, options, **padded())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_of_packed_rows(precision: str, checkpointing: bool) -> None:
    """They lie end to end, and the mask is as wide as all of them are long."""
    places = torch.arange(128).repeat(8)[None]
    rows = {"input_ids": torch.ones_like(places), "position_ids": places}
    check_passes(
        SMALL | {"model_type": "llama"},
        precision,
        4,
        {"gradient_checkpointing": checkpointing, "packing": True},
        **rows,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits(precision: str) -> None:
    """What TRL's fused head holds beyond what the layers keep is the formula's within a fifth."""
    values = SMALL | {"vocab_size": 40_000, "num_hidden_layers": 1}
    model = transformers.AutoModelForCausalLM.from_config(config(values), dtype=torch.float32)
    trl.trainer.utils.add_fused_lm_head(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stage = Planned(Shape.of(values), settings("sft", {"micro_batch": 2, "batch": 4}, max_length=64), precision)
    tokens = torch.ones(2, 64, dtype=torch.long)
    with Live(*model.parameters(), *(parameter.grad for parameter in model.parameters())) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=tokens, labels=tokens, fused_lm_head=True).loss
        kept, live.most = live.live, 0
        loss.backward()

    assert formula.step(stage)["backward of the head"]["logits"] == pytest.approx(live.most - kept, rel=0.2)


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
    options = {"max_completion_length": 24, "num_generations": 4, "eval_strategy": "no", "optim": "adamw_torch"}
    options |= {"max_steps": 2, "generation_kwargs": {"min_new_tokens": 24}}
    own = {"lora": None, "batch": 32, "micro_batch": 16, "max_prompt_length": 16, "rewards": {"reward_model": 1.0}}
    run = small.run(tmp_path, settings("grpo", own, **options), [{"prompt": asked("7" * 10)}] * 16, precision)
    judge = transformers.AutoModelForSequenceClassification.from_config(config(values), dtype=torch.float32)
    judge.config.use_cache = False  # as the stage that made it saved it
    loading.freeze(judge, precision)

    def build(run: Any, _: str) -> transformers.Trainer:
        return trl.GRPOTrainer(
            model=transformers.AutoModelForCausalLM.from_config(config(values), dtype=torch.float32),
            reward_funcs=[judge],
            reward_processing_classes=[run.tokenizer],
            args=trl.GRPOConfig(**run.arguments),
            train_dataset=run.train_rows,
            processing_class=run.tokenizer,
            rollout_func=partial(generation.rollout, precision, "transformers"),
        )

    trainer = loop.constructed(build, run, "")
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
    moments = formula.moments(Planned(Shape.of(values), run.settings, precision))

    for name in ("generating", "judging"):
        assert 0.97 < sum(moments[name].values()) / most[name] < 1.2


def asked(text: str) -> list[dict[str, str]]:
    """A prompt."""
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("engine", ["transformers", "cuda_graphs"])
@pytest.mark.parametrize("prompt", [16, 128])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answering(tmp_path: Path, precision: str, prompt: int, engine: str) -> None:
    """While a policy answers, alone, no more bytes live than the formula says, or hardly more: with its weights, cast
    for half precision, whether the first pass over long prompts takes most or the last token. Greedy answers are to as
    many prompts at once as there are answers.
    """
    torch.manual_seed(1)
    values = SMALL | {"vocab_size": 2_000, "hidden_size": 256, "intermediate_size": 1024}
    transformers.AutoModelForCausalLM.from_config(config(values), dtype=torch.float32).save_pretrained(tmp_path)
    chosen = settings("grpo", {"max_prompt_length": prompt})
    protocol = replace(chosen.answers, samples=8, batch=32, max_new_tokens=24)
    texts = [number * "7" for number in (prompt // 2 - 5, prompt - 5)]  # of which one is padded
    prompts = [{"prompt": asked(text), "solution": None, "extra": None} for text in texts * 16]
    run = small.run(tmp_path, replace(chosen, answers=protocol), prompts, answers=precision)
    run = replace(run, hardware=replace(run.hardware, engine=engine))
    policy = run.policy(str(tmp_path))
    loaded = sum(weights.nbytes for weights in policy.parameters())
    there = SimpleNamespace(**vars(run), policy=lambda _: policy)
    with Live(*policy.parameters()) as live:
        held_out.measure(there, str(tmp_path), "policy", run.eval_rows.add_column("row", [*range(32)]))
    planned = Planned(Shape.of(values), run.settings, "fp32", answers=precision, engine=engine)
    expected = formula.moments(planned)["answering"]

    assert loaded == pytest.approx(expected["weights"], rel=1e-3)  # biases are cast, too
    assert 0.97 < sum(expected.values()) / (loaded + live.most) < 1.25


@pytest.mark.parametrize("lora", [None, Lora(4, 8), Lora(4, 8, targets=["q_proj", "up_proj"])], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matrices_while_it_generates(precision: str, lora: Lora | None) -> None:
    """What is cast, and copied where adapters are added to it."""
    import peft

    model = transformers.AutoModelForCausalLM.from_config(config(SMALL), dtype=torch.float32)
    model = peft.get_peft_model(model, lora.config("CAUSAL_LM")) if lora else model
    before = {weights.data_ptr() for weights in model.parameters()}
    with generation.answering(model, precision):
        made = sum(weights.nbytes for weights in model.parameters() if weights.data_ptr() not in before)
    planned = Planned(Shape.of(SMALL), settings("grpo", {"lora": lora}), precision)

    assert made == pytest.approx(formula.generating(planned, 1, 1)[formula.CAST], rel=0.01)  # biases are cast, too


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cache(precision: str) -> None:
    """Keys and values are kept in float32, also where the arithmetic is not."""
    model = transformers.AutoModelForCausalLM.from_config(config(SMALL), dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        cache = model(input_ids=torch.ones(3, 20, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    layers = SMALL["num_hidden_layers"]
    copies = layers + SMALL["num_attention_heads"] // SMALL["num_key_value_heads"]
    planned = Planned(Shape.of(SMALL), settings("grpo", {"max_prompt_length": 1}), precision)

    assert held * copies // layers == formula.generating(planned, 3, 19)["KV cache"]


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
        ("dpo", {"lora": Lora(1, 1)}, {}, {"weights": WHOLE + 4 * ADAPTERS}),
        ("grpo", {}, {}, {"weights": WHOLE, "reward model": JUDGE - SPARED}),
        ("grpo", {}, {"beta": 0.1}, {"weights": WHOLE, "reference model": WHOLE, "reward model": JUDGE - SPARED}),
        ("grpo", {"rewards": {"accuracy": 1.0}}, {}, {"weights": WHOLE}),
    ],
)
def test_models_that_are_held(stage: str, own: dict, options: dict, expected: dict) -> None:
    """The policy, and beside it whatever the stage's settings ask for."""
    assert expected == formula.models(Planned(Shape.of(QWEN), settings(stage, own, **options), "bf16"))


@pytest.mark.parametrize("lora", [None, Lora(1, 1)])
def test_dpo_s_outcome_is_measured_against_the_reference(lora: Lora | None) -> None:
    """Which is then loaded, whether or not it was held while the model was trained; not while the policy answers."""
    chosen = settings("dpo", {"lora": lora}, precompute_ref_log_probs=True)
    moments = formula.moments(Planned(Shape.of(QWEN), chosen, "bf16"))
    held = moments["measuring"]

    expected = {"weights": WHOLE, "reference model": WHOLE - SPARED}
    assert expected == {name: held[name] for name in expected}
    assert "reference model" not in moments["answering"]
    assert WHOLE - SPARED == moments["answering"]["weights"]


def test_packed_documents_of_which_each_attends_alone() -> None:
    """No mask of all tokens by all, in any layer."""
    own = {"micro_batch": 4, "batch": 8}
    took = {
        way: formula.step(
            Planned(
                Shape.of(QWEN), settings("sft", own | {"attn_implementation": way}, packing=True, max_length=64), "bf16"
            )
        )["forward pass"]["activations"]
        for way in ("sdpa", "varlen")
    }
    tokens = 4 * 64
    layers = 24 if not settings("sft").option("gradient_checkpointing") else 0

    assert tokens * tokens * (2 * layers + 1) == took["sdpa"] - took["varlen"]


CARD = 24 * 2**30
HALF = WHOLE // 2
TOKEN = 2 * 2 * 24 * 2 * 64  # in vLLM's cache: keys and values, two bytes, layers, heads, numbers
ASLEEP, AWAKE = {"vLLM's graphs"}, {"vLLM's graphs", "vLLM's weights", "vLLM's KV cache"}


def by_vllm(card: int | None = CARD, **options: object) -> dict[str, formula.Parts]:
    """What is held at each moment of GRPO with vLLM, on a device of so many bytes."""
    own = {"max_prompt_length": 64, "batch": 16, "micro_batch": 16}
    chosen = settings("grpo", own, use_vllm=True, max_completion_length=32, generation_batch_size=32, **options)
    return formula.moments(Planned(Shape.of(QWEN), chosen, "bf16", "cuda", liger=True, card=card))


def of_vllm(held: formula.Parts) -> formula.Parts:
    return {name: taken for name, taken in held.items() if name.startswith("vLLM")}


def test_vllm_takes_its_share_while_it_generates() -> None:
    """Of the whole card, weights in half precision and the rest as cache; asleep it keeps little, and none of it is
    there while the policy of a folder answers.
    """
    moments = by_vllm(vllm_gpu_memory_utilization=0.25)
    awake = of_vllm(moments["generating"])

    assert AWAKE == {*awake}
    assert (HALF, CARD // 4) == (awake["vLLM's weights"], sum(awake.values()))
    assert AWAKE == {*of_vllm(moments["evaluating"])}
    for moment in ("forward pass", "update", "judging", "measuring"):
        assert ASLEEP == {*of_vllm(moments[moment])}
    assert {} == of_vllm(moments["answering"])
    assert {"weights to train with", "reward model to train with"} <= {*moments["measuring"]}  # beside what is measured


def test_vllm_that_never_sleeps_or_is_a_server() -> None:
    """Its share is taken all the while that it trains; a server is another device's, and nothing is generated here."""
    moments, served = by_vllm(vllm_enable_sleep_mode=False), by_vllm(vllm_mode="server")

    for moment in ("forward pass", "update", "generating", "evaluating", "measuring"):
        assert AWAKE == {*of_vllm(moments[moment])}
        assert {} == of_vllm(served[moment])
    assert "KV cache" not in served["generating"]


def test_vllm_s_cache_on_a_card_whose_memory_is_not_told() -> None:
    """All completions at once, each as long as it may be."""
    assert 32 * 96 * TOKEN == by_vllm(None)["generating"]["vLLM's KV cache"]
    assert 32 * 96 * TOKEN // 2 == by_vllm(None, vllm_tensor_parallel_size=2)["generating"]["vLLM's KV cache"]


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
    "`lora: {rank: 16, alpha: 32}`, with checkpointing": ({"lora": Lora(16, 32)}, CHECKPOINTING),
    "`precompute_ref_log_probs: true` (dpo)": ({"micro_batch": 1}, CHECKPOINTING | {"precompute_ref_log_probs": True}),
}


@pytest.mark.parametrize("lever", LEVERS)
def test_documented_levers(lever: str) -> None:
    """The GiB in docs/memory.md's table are those of the formula."""
    own, options = LEVERS[lever]
    whole = {"lora": None, "batch": 64, "micro_batch": 4} | own
    plain = {"gradient_checkpointing": False, "optim": "adamw_torch_fused", "max_length": 1024} | options
    chosen = settings("dpo" if "(dpo)" in lever else "sft", whole, **plain)
    stage = Planned(Shape.of(QWEN), chosen, "bf16", "cuda", liger=True)
    most = max(sum(parts.values()) for parts in formula.step(stage).values())
    line = next(line for line in (ROOT / "docs/memory.md").read_text(encoding="utf-8").splitlines() if lever in line)

    assert f"{most / 2**30:.2f}" == re.findall(r"\d+\.\d\d", line)[-1 if "->" in line else 0]
