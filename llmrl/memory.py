"""The memory a stage takes, by arithmetic: docs/memory.md has the formula in words, tests/test_memory.py the tensors.

All sizes are bytes. Nothing heavy is imported and no model is read, only a model folder's config.json.
Letters: H hidden size, I intermediate size, A heads x head size, V vocabulary, T tokens at once, S those of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from llmrl.errors import InputError
from llmrl.sections import Settings

FLOAT = 4  # bytes; weights, gradients and adapters are float32 whatever the precision of the arithmetic
PROMPT = 256  # tokens of a prompt where nothing limits them: a guess
# TRL's own, where params.yaml says nothing.
DEFAULTS = {
    "gradient_checkpointing": True,
    "optim": "adamw_torch_fused",
    "max_length": 1024,
    "max_completion_length": 512,
    "num_generations": 8,
    "per_device_eval_batch_size": 8,
    "beta": 0.0,  # GRPO's; DPO's decides no memory
}
# The tile in which TRL's fused head computes logits, in tokens and in vocabulary: trl/kernels/chunked_logprob.py.
TILE = (4096, 32768)
# Decoders that are alike but for these: a bias of q, k and v; norms of each head of q and k.
FAMILIES = {
    "llama": (False, False),
    "smollm3": (False, False),
    "mistral": (False, False),
    "gemma": (False, False),
    "qwen2": (True, False),
    "qwen3": (False, True),
}

Parts = dict[str, int]  # what takes memory, and how much
Tensor = tuple[int, ...]  # a parameter, by its shape
CAST = "weights cast for the arithmetic"


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    head_norms: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape | None:
        """The shape that a model's config tells; None where its architecture is not one of FAMILIES."""
        config = config.get("text_config", config)
        if (family := config.get("model_type")) not in FAMILIES:
            return None
        bias, head_norms = FAMILIES[family]
        bias, heads = config.get("attention_bias", False) or bias, config["num_attention_heads"]
        return cls(
            vocabulary=config["vocab_size"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head=config.get("head_dim") or config["hidden_size"] // heads,
            tied=config.get("tie_word_embeddings", family == "gemma"),
            qkv_bias=bias,
            o_bias=bias and family != "qwen2",
            mlp_bias=config.get("mlp_bias", False),
            head_norms=head_norms,
        )

    @property
    def attention(self) -> int:
        return self.heads * self.head

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """A layer's matrices, (out, in)."""
        h, i, a, kv = self.hidden, self.intermediate, self.attention, self.kv_heads * self.head
        matrices = {"q_proj": (a, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, a)}
        return matrices | {"gate_proj": (i, h), "up_proj": (i, h), "down_proj": (h, i)}

    def tensors(self, classifier: bool = False) -> list[Tensor]:
        """The shape of every parameter: of a policy, or of a model that gives one score."""
        biased = {"q_proj": self.qkv_bias, "k_proj": self.qkv_bias, "v_proj": self.qkv_bias, "o_proj": self.o_bias}
        layer: list[Tensor] = [(self.hidden,), (self.hidden,), *[(self.head,)] * (2 * self.head_norms)]
        for name, size in self.linears.items():
            layer.append(size)
            if biased.get(name, self.mlp_bias):
                layer.append((size[0],))
        embedding = (self.vocabulary, self.hidden)
        head: list[Tensor] = [(1, self.hidden)] if classifier else [] if self.tied else [embedding]
        return [embedding, *(layer * self.layers), (self.hidden,), *head]

    def adapters(self, rank: int, targets: list[str] | str) -> list[Tensor]:
        """The shape of every matrix of LoRA's; `targets` are "all-linear" or names of `linears`."""
        chosen = [size for name, size in self.linears.items() if targets == "all-linear" or name in targets]
        layer: list[Tensor] = [shape for out, into in chosen for shape in ((rank, into), (out, rank))]
        return layer * self.layers


def numbers(tensors: list[Tensor]) -> int:
    """How many numbers the tensors hold."""
    return sum(prod(size) for size in tensors)


def optimizer(name: str, tensors: list[Tensor], embeddings: int = 1) -> int | None:
    """What an optimizer keeps of these parameters, of which so many at the beginning are embeddings; None where that
    is not known.
    """
    count, each = numbers(tensors), FLOAT * len(tensors)  # `each` is a counter a parameter
    if name.startswith("adamw_torch"):
        return 2 * FLOAT * count + each if name in ("adamw_torch", "adamw_torch_fused") else None
    if name == "adafactor":  # of a matrix, a row's and a column's means, and its size as one number
        factors = (size[:-1] + size[:-2] + size[-1:] if len(size) > 1 else size for size in tensors)
        return FLOAT * sum(prod(size) if len(size) == 1 else sum(size) for size in factors) + each
    if name == "adagrad":
        return FLOAT * count + each
    if name in ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"):
        # Two bytes, and a scale for each 256; of an embedding (transformers) and of small ones (bitsandbytes) floats.
        # The two tables of 256 values are alike for all.
        large = [prod(size) for size in tensors[embeddings:] if prod(size) >= 4096]
        scales = sum(-(-size // 256) for size in large)
        tables = 2 * FLOAT * 256 if large else 0
        return 2 * sum(large) + 2 * FLOAT * (scales + count - sum(large)) + tables
    return 0 if name == "sgd" else None


def quantised(count: int) -> int:
    """A matrix of so many numbers in 4 bit: two in a byte; a byte for each 64, their scale; four for each 256 scales;
    and what is alike for all, an offset and the tables of 16 and of 256 values.
    """
    scales = -(-count // 64)
    return -(-count // 2) + scales + FLOAT * (-(-scales // 256) + 1 + 16 + 256)


def option(settings: Settings, name: str) -> Any:
    """A setting of TRL's, or its default."""
    return settings.trl.get(name, DEFAULTS[name])


def sides(settings: Settings) -> int:
    """Sequences of a row: the two answers of a pair, or one."""
    return 2 if settings.stage in ("reward", "dpo") else 1


def length(settings: Settings) -> int:
    """Tokens of the longest sequence."""
    if settings.stage == "grpo":
        return (settings.own.max_prompt_length or PROMPT) + int(option(settings, "max_completion_length"))
    return int(option(settings, "max_length"))


@dataclass(frozen=True)
class Stage:
    """The memory of one stage: a model's shape, the stage's settings, and the precisions of the arithmetic."""

    shape: Shape
    settings: Settings
    precision: str  # fp32 | bf16 | fp16
    kind: str = "cpu"  # of device: cpu | cuda | mps
    answers: str = ""  # the precision in which it answers, where that is another
    liger: bool = False  # whether its kernels compute the layers

    def __post_init__(self) -> None:
        """Raise InputError where LoRA's targets are not all matrices of this shape: PEFT passes over those that are
        not.
        """
        lora, known = self.settings.lora, self.shape.linears
        if lora is None or lora.targets == "all-linear":
            return
        targets = lora.targets if isinstance(lora.targets, list) else [f"the text {lora.targets}"]
        if unknown := [f"{target}" for target in targets if target not in known]:
            raise InputError(
                f"params.yaml: lora.targets as {self.settings.stage} has it: {', '.join(unknown)} is none of this "
                f"model's matrices: write all-linear, or a list of {', '.join(known)}."
            )

    def option(self, name: str) -> Any:
        return option(self.settings, name)

    @property
    def arithmetic(self) -> int:
        """Bytes of a number that a matrix is multiplied with."""
        return FLOAT if self.precision == "fp32" else 2

    @property
    def inner(self) -> int:
        """Bytes of a number within the feed-forward part. What multiplies by 4 bit returns the float32 it was given."""
        return FLOAT if self.four_bit else self.arithmetic

    @property
    def classifier(self) -> bool:
        return self.settings.stage == "reward"

    @property
    def parameters(self) -> int:
        return numbers(self.shape.tensors(self.classifier))

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that get gradients."""
        if (lora := self.settings.lora) is None:
            return self.shape.tensors(self.classifier)
        return self.shape.adapters(lora.rank, lora.targets) + [(1, self.shape.hidden)] * self.classifier

    @property
    def attended(self) -> int:
        """Tokens in a row of the attention's mask: of a sequence or, as TRL lays packed ones end to end, of all."""
        return length(self.settings) * (self.settings.own.micro_batch if self.packed else 1)

    @property
    def packed(self) -> bool:
        return self.settings.stage == "sft" and bool(self.settings.trl.get("packing"))

    @property
    def prompt(self) -> int:
        """Tokens of the longest prompt that is answered."""
        if self.settings.stage == "grpo":
            return self.settings.own.max_prompt_length or PROMPT
        return min(PROMPT, length(self.settings))

    @property
    def completion(self) -> int:
        """Tokens of the longest completion of GRPO's."""
        return int(self.option("max_completion_length"))

    @property
    def generated(self) -> int:
        """Completions that a process of GRPO generates at once: those of an optimizer step, or as its settings say."""
        own, trl, processes = self.settings.own, self.settings.trl, self.settings.processes
        rounds = trl.get("steps_per_generation", 0) * own.micro_batch
        return rounds or int(trl.get("generation_batch_size") or own.batch) // processes

    @property
    def four_bit(self) -> bool:
        return bool(self.settings.lora and self.settings.lora.load_in_4bit)

    @property
    def keeps_scores(self) -> bool:
        """Whether attention keeps its scores: in float32 CUDA has no kernel for fewer heads of keys than of queries
        where no row is padded, as none is if all are as long as they may be.
        """
        return self.kind == "cuda" and self.precision == "fp32" and self.shape.kv_heads != self.shape.heads

    def models(self) -> Parts:
        """The models held while it trains."""
        settings, shape = self.settings, self.shape
        adapters = numbers(self.trained) if settings.lora else 0
        matrices: list[Tensor] = [*shape.linears.values()] * shape.layers if self.four_bit else []
        plain = self.parameters - numbers(matrices)
        held = {"weights": FLOAT * (plain + adapters) + sum(map(quantised, map(prod, matrices)))}
        # A model that is not trained has its layers' matrices in the precision they are multiplied in. GRPO's reference
        # is TRL's own, in float32.
        spared = (FLOAT - self.arithmetic) * shape.layers * numbers([*shape.linears.values()])
        policy, asked = FLOAT * self.parameters, not settings.trl.get("precompute_ref_log_probs")
        if settings.stage == "dpo" and not settings.lora and asked:
            held["reference model"] = policy - spared
        if settings.stage == "grpo" and not settings.lora and self.option("beta"):
            held["reference model"] = policy
        if settings.stage == "grpo" and "reward_model" in settings.own.rewards:
            held["reward model"] = FLOAT * numbers(shape.tensors(classifier=True)) - spared
        return held

    @property
    def whole(self) -> Stage:
        """The stage as it measures what was saved: without adapters, and with a reference."""
        own, trl = replace(self.settings.own, lora=None), self.settings.trl | {"precompute_ref_log_probs": False}
        return replace(self, settings=replace(self.settings, own=own, trl=trl))

    def measured(self) -> Parts:
        """What is held while a whole model is measured: before the training, beside those to train where these cannot
        be measured themselves, in 4 bit or as one of several processes.
        """
        apart = self.four_bit or self.settings.processes > 1
        beside = {f"{part} to train with": size for part, size in self.models().items()} if apart else {}
        return self.whole.models() | self.whole.evaluating() | beside

    def kept(self, tokens: int) -> int:
        """What one layer keeps of its forward pass for the backward: the rows of docs/memory.md."""
        shape, p = self.shape, self.arithmetic
        streams = 6 * FLOAT if p == FLOAT else 4 * FLOAT + 5 * p  # of norms, and what goes into the matrices
        gates = 3 * self.inner
        if self.liger:  # which computes a norm's quotients and the activation's values anew in the backward pass
            streams, gates = streams - 2 * FLOAT, gates - self.inner
        token = streams * shape.hidden + 4 * p * shape.attention + (gates + p) * shape.intermediate
        scores = FLOAT * shape.heads * self.attended * self.keeps_scores
        mask, sums = p * self.attended, FLOAT * (shape.heads + 2)  # softmax's and the norms'
        return tokens * (token + mask + sums + scores)

    def passing(self, tokens: int, inner: int | None = None) -> int:
        """What a layer holds at most while it computes, without a gradient; `inner` as the property, where another."""
        return tokens * (3 * (inner or self.inner) * self.shape.intermediate + 5 * FLOAT * self.shape.hidden)

    def tile(self, tokens: int) -> int:
        """The logits that TRL's fused head holds at once. A classifier has none."""
        if self.classifier:
            return 0
        rows, columns = min(tokens, TILE[0]), min(self.shape.vocabulary, TILE[1])
        copies = 0 if self.kind == "cuda" else 7 * FLOAT * rows * columns  # on CUDA it is worked on in place
        return self.arithmetic * (rows * TILE[1] + columns * self.shape.hidden) + copies

    def cast(self, whole: bool) -> int:
        """Weights in the precision of the arithmetic, beside those that are kept: of all layers, or of one."""
        if self.four_bit:  # a matrix at a time, which is then forgotten
            return self.arithmetic * max(map(prod, self.shape.linears.values()))
        if self.precision == "fp32":
            return 0
        return self.arithmetic * sum(map(prod, self.shape.linears.values())) * (self.shape.layers if whole else 1)

    def buckets(self) -> Parts:
        """Of several processes, the gradients once more: laid end to end, to be sent."""
        size = FLOAT * numbers(self.trained)
        return {"gradients to send": size} if self.settings.processes > 1 else {}

    def states(self) -> int:
        """What the optimizer keeps; of one that is not known here, as AdamW's two moments."""
        kept = optimizer(self.option("optim"), self.trained, embeddings=0 if self.settings.lora else 1)
        return 2 * FLOAT * numbers(self.trained) if kept is None else kept

    def update(self) -> int:
        """What the optimizer holds besides while it updates: copies of one parameter or, of some on CUDA, of all."""
        name, largest = self.option("optim"), FLOAT * max(prod(size) for size in self.trained)
        if name == "adamw_torch" and self.kind == "cuda":
            return FLOAT * numbers(self.trained)
        return 2 * largest if name in ("adafactor", "adamw_torch") else 0

    def step(self) -> dict[str, Parts]:
        """The three moments of an optimizer step at which most is held."""
        own, shape = self.settings.own, self.shape
        tokens = own.micro_batch * sides(self.settings) * length(self.settings)
        checkpointing, lora = bool(self.option("gradient_checkpointing")), self.settings.lora
        layer, stream = self.kept(tokens), FLOAT * shape.hidden * tokens
        masks = (1 if self.packed else 2) * tokens * self.attended
        ends = 3 * stream  # of the last norm, and what goes into the head
        every = (self.settings.trl.get("gradient_checkpointing_kwargs") or {}).get("every_n_layers", 1)
        few = -(-shape.layers // every) if checkpointing else 0  # layers of which only what goes in is kept
        stored = ends + masks + few * stream + (shape.layers - few) * layer
        held = self.held()
        gradients = {"gradients": FLOAT * numbers(self.trained)}
        whole = {CAST: self.cast(whole=True)}
        forward = {
            **(gradients if own.batch > own.micro_batch * self.settings.processes else {}),
            **({CAST: self.cast(whole=False)} if checkpointing else whole),
            "activations": stored,
            "logits": self.tile(tokens),
        }
        head = {
            **gradients,
            **({} if checkpointing else whole),
            "activations": stored + stream,
            "logits": self.tile(tokens) + (0 if lora or self.classifier else FLOAT * shape.vocabulary * shape.hidden),
        }
        working = max(2 * self.inner * shape.intermediate * tokens, 5 * stream)
        layers = {
            **gradients,
            **({CAST: self.cast(whole=False)} if checkpointing else whole),
            "activations": stored - ends + working + (layer - stream if checkpointing else 0),
        }
        update = {**gradients, "update": self.update()}
        moments = {"forward pass": forward, "backward of the head": head, "backward of a layer": layers}
        return {name: held | parts for name, parts in (moments | {"update": update}).items()}

    def held(self) -> Parts:
        """What is there all the while that it trains."""
        return self.models() | {"optimizer states": self.states()} | self.buckets()

    def answering(self, new: int, at_once: int) -> Parts:
        """What is held while the policy of a folder answers, alone: with its layers' matrices in the precision in which
        they are multiplied.
        """
        spared = (FLOAT - self.answered) * self.shape.layers * numbers([*self.shape.linears.values()])
        generating = self.whole.generating(at_once, new, cast=self.shape.vocabulary * self.shape.hidden)
        return {"weights": FLOAT * numbers(self.shape.tensors()) - spared} | generating

    @property
    def answered(self) -> int:
        """Bytes of a number that a matrix is multiplied with while the model answers."""
        return FLOAT if (self.answers or self.precision) == "fp32" else 2

    def rollout(self, completions: int) -> Parts:
        """What so many completions of GRPO's take beside the models: the one that is trained has its matrices cast."""
        shape, settings = self.shape, self.settings
        matrices = 0 if self.four_bit else shape.layers * numbers([*shape.linears.values()])
        adapters = numbers(self.trained) if settings.lora else 0
        return self.generating(completions, self.completion, matrices + shape.vocabulary * shape.hidden + adapters)

    def generating(self, sequences: int, new: int, cast: int) -> Parts:
        """What generating takes beside the models, with so many numbers of these cast: the first pass over the prompts,
        or the last token.
        """
        shape, p = self.shape, self.answered
        # A token's keys and values in a layer: torch's rotation leaves keys in float32, and the cache makes both alike.
        each = 2 * shape.head * (p if self.liger else FLOAT)
        # A layer's cache is copied when it grows, and padded prompts then have each query's keys and values laid out.
        copies = shape.kv_heads * shape.layers + shape.heads
        held = {
            CAST: p * cast if p != FLOAT else 0,
            "logits": (p + 3 * FLOAT) * sequences * shape.vocabulary,  # as they come; in float32, warped, probabilities
        }
        first = {
            "KV cache": each * shape.kv_heads * shape.layers * sequences * self.prompt,
            "activations": self.passing(sequences * self.prompt, FLOAT if self.four_bit else p),
        }
        last = {"KV cache": each * copies * sequences * (self.prompt + new)}
        return held | max(first, last, key=lambda parts: sum(parts.values()))

    def evaluating(self) -> Parts:
        """What TRL's evaluation takes beside the models: a pass over a batch, or generating it."""
        rows = int(self.option("per_device_eval_batch_size"))
        tokens = rows * sides(self.settings) * length(self.settings)
        a_pass = {CAST: self.cast(whole=False), "activations": self.passing(tokens), "logits": self.tile(tokens)}
        if self.settings.stage != "grpo":
            return a_pass
        return max(a_pass, self.rollout(rows), key=lambda parts: sum(parts.values()))

    def moments(self) -> dict[str, Parts]:
        """What is held at each moment at which much is: the largest decides whether the stage fits."""
        settings, found, protocol = self.settings, self.step(), self.settings.answers
        held = self.held()
        if settings.stage == "grpo":
            found["generating"] = held | self.rollout(self.generated)
            if settings.own.pass_rate:
                at_once = max(protocol.batch, settings.own.pass_samples)
                found["judging prompts"] = self.answering(self.completion, at_once)
            if "reward_model" in settings.own.rewards:  # TRL has it judge all completions of a step at once
                found["judging"] = held | {"activations": self.passing(self.generated * length(self.settings))}
        found["evaluating"] = held | self.evaluating()
        found["measuring"] = self.measured()
        if not self.classifier:
            at_once = max(protocol.batch, protocol.samples)
            found["answering"] = self.answering(protocol.max_new_tokens, at_once)
        return found

    def peak(self) -> tuple[str, Parts]:
        """The moment at which most is held, and what."""
        return max(self.moments().items(), key=lambda moment: sum(moment[1].values()))
