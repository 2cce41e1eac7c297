"""The memory a stage takes, by arithmetic: in words in docs/memory.md, against tensors in tests/memory/test_formula.py.

All sizes are bytes. Nothing heavy is imported and no model is read, only a model folder's config.json.
Letters: H hidden size, I intermediate size, A heads x head size, V vocabulary, T tokens at once, S those of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from llmrl import graph
from llmrl.devices import Machine
from llmrl.errors import InputError
from llmrl.memory.shape import FLOAT, Shape, numbers
from llmrl.training import hardware
from llmrl.training.hardware import Hardware
from llmrl.training.settings import Settings

PROMPT = 256  # tokens of a prompt where nothing limits them: a guess
# The tile in which TRL's fused head computes logits, in tokens and in vocabulary: trl/kernels/chunked_logprob.py.
TILE = (4096, 32768)
CAST = "weights cast for the arithmetic"
# What vLLM keeps of the device beside weights and cache, asleep as well: CUDA graphs, workspaces, code. A guess; its
# log says "… GiB memory is still in use", of all that the process has.
GRAPHS = 3 * 2**28

Parts = dict[str, int]  # what takes memory, and how much


@dataclass
class Planned:
    """A stage as it would run: a model's shape, the stage's settings, and how its device computes."""

    shape: Shape
    settings: Settings
    precision: str  # fp32 | bf16 | fp16
    kind: str = "cpu"  # of device: cpu | cuda | mps
    answers: str = ""  # the precision in which it answers, where that is another
    liger: bool = False  # whether its kernels compute the layers
    engine: str = "transformers"  # that decodes answers; or cuda_graphs
    saved: bool = False  # while what it saved is measured: a whole model, without adapters, and with a reference
    card: int | None = None  # bytes of the whole device, whoever has them, where that is known

    def __post_init__(self) -> None:
        """Raise InputError where LoRA's targets are not all matrices of this shape: PEFT passes over any others."""
        shape, settings, own = self.shape, self.settings, self.settings.own
        self.stage = graph.STAGES[settings.stage]
        self.lora = None if self.saved else settings.own.lora
        asked = self.lora.targets if self.lora else []
        targets = asked if isinstance(asked, list) else [f"the text {asked}"]
        unknown = [f"{target}" for target in targets if target not in shape.linears]
        if unknown and asked != "all-linear":
            raise InputError(
                f"params.yaml: lora.targets as {settings.stage} has it: {', '.join(unknown)} is none of this "
                f"model's matrices: write all-linear, or a list of {', '.join(shape.linears)}."
            )
        self.four_bit = bool(self.lora and self.lora.load_in_4bit)
        # Bytes of a number that a matrix is multiplied with while it trains, of one within the feed-forward part (what
        # multiplies by 4 bit returns the float32 it was given), and of one multiplied with while it answers.
        self.width = FLOAT if self.precision == "fp32" else 2
        self.inner = FLOAT if self.four_bit else self.width
        self.answered = FLOAT if (self.answers or self.precision) == "fp32" else 2
        classifier = not self.stage.answers
        self.trained = shape.tensors(classifier)  # the parameters that get gradients
        self.parameters = numbers(self.trained)
        if self.lora:
            self.trained = shape.adapters(self.lora.rank, self.lora.targets) + [(1, shape.hidden)] * classifier
        if self.stage.generates:  # completions that a process generates at once: those of an optimizer step, or as set
            rounds = (settings.option("steps_per_generation") or 0) * own.micro_batch
            at_once = int(settings.option("generation_batch_size") or own.batch)
            self.generated = rounds or at_once // settings.processes
        # Whether vLLM generates while it trains; by the policy alone it never does.
        self.by_vllm = bool(self.stage.generates and settings.trl.get("use_vllm") and not self.saved)


def on_machine(device: Machine, settings: Settings, shape: Shape) -> Planned:
    """A stage as it would run on a device that is not asked by torch yet."""
    asked = (settings.own.precision, settings.answers.precision)
    precision, answers = (device.precision if one == "auto" else one for one in asked)
    liger = device.generation >= hardware.TRITON[0] and settings.own.kernels != "torch"
    engine = hardware.engine_of(settings, device.kind, shape.attends_to_all)
    return Planned(shape, settings, precision, device.kind, answers, liger, engine, card=device.total)


def on_hardware(machine: Hardware, settings: Settings, shape: Shape, card: int | None = None) -> Planned:
    """A stage as it runs on a device, which has so many bytes in all, where that is known."""
    how = (machine.precision, machine.kind, machine.answers, machine.kernels == "liger", machine.engine)
    return Planned(shape, settings, *how, card=card)


def length(settings: Settings) -> int:
    """Tokens of the longest sequence."""
    if graph.STAGES[settings.stage].generates:
        return (settings.own.max_prompt_length or PROMPT) + int(settings.option("max_completion_length"))
    return int(settings.option("max_length"))


def total(parts: Parts) -> int:
    return sum(parts.values())


def fullest(planned: Planned) -> tuple[str, Parts]:
    """The moment at which most is held, and what that is."""
    return max(moments(planned).items(), key=lambda moment: total(moment[1]))


def needed(planned: Planned) -> int:
    """The bytes of that moment: they decide whether the stage fits."""
    return total(fullest(planned)[1])


def moments(planned: Planned) -> dict[str, Parts]:
    """What is held at each moment at which much is."""
    settings, protocol = planned.settings, planned.settings.answers
    held, found, whole = always(planned), step(planned), replace(planned, saved=True)
    if planned.stage.generates:
        new = settings.option("max_completion_length")
        found["generating"] = held | (vllm(planned) if planned.by_vllm else generating(planned, planned.generated, new))
        if settings.own.pass_rate:
            at_once = max(protocol.batch, settings.own.pass_samples)
            found["judging prompts"] = generating(whole, at_once, new, alone=True)
        if "reward_model" in settings.own.rewards:  # TRL has it judge all completions of a step at once
            judged = planned.generated * length(settings)
            found["judging"] = held | {"activations": passing(planned, judged, planned.inner)}
    found["evaluating"] = held | evaluating(planned)
    # Before the training that is beside the models to train, where these cannot be measured themselves: in 4 bit, as
    # one of several processes, or where vLLM would generate.
    apart = planned.four_bit or settings.processes > 1 or planned.by_vllm
    beside = {f"{part} to train with": taken for part, taken in models(planned).items()} if apart else {}
    found["measuring"] = models(whole) | evaluating(whole) | beside | vllm(planned, awake=False)
    if planned.stage.answers:
        at_once = max(protocol.batch, protocol.samples)
        found["answering"] = generating(whole, at_once, protocol.max_new_tokens, alone=True)
    return found


def always(planned: Planned) -> Parts:
    """What is there all the while that it trains."""
    found = models(planned) | {"optimizer states": states(planned)} | vllm(planned, awake=False)
    if planned.settings.processes > 1:  # the gradients once more, laid end to end
        found["gradients to send"] = FLOAT * numbers(planned.trained)
    return found


def models(planned: Planned) -> Parts:
    """The models held while it trains."""
    shape, settings, lora = planned.shape, planned.settings, planned.lora
    found = {"weights": FLOAT * (planned.parameters + (numbers(planned.trained) if lora else 0))}
    for count in map(prod, shape.matrices if planned.four_bit else ()):
        # In 4 bit: two in a byte; a byte for each 64, their scale; four for each 256 scales; and what is alike for all,
        # an offset and the tables of 16 and of 256 values.
        scales = -(-count // 64)
        found["weights"] += -(-count // 2) + scales + FLOAT * (-(-scales // 256) + 1 + 16 + 256) - FLOAT * count
    if planned.stage.reference and not lora and (planned.saved or not settings.trl.get("precompute_ref_log_probs")):
        follows = settings.trl.get("sync_ref_model")
        found["reference model"] = FLOAT * planned.parameters if follows else shape.asked(planned.width)
    if planned.stage.generates and not lora and settings.option("beta"):  # TRL's own, in float32
        found["reference model"] = FLOAT * planned.parameters
    if planned.stage.generates and "reward_model" in settings.own.rewards:
        found["reward model"] = shape.asked(planned.width, classifier=True)
    return found


def states(planned: Planned) -> int:
    """What the optimizer keeps; of one that is not known here, as AdamW's two moments."""
    name, tensors = planned.settings.option("optim"), planned.trained
    count, each = numbers(tensors), FLOAT * len(tensors)  # `each` is one number a parameter: a counter, or its size
    if name in ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"):
        # Two bytes, and a scale for each 256; of an embedding (transformers) and of small ones (bitsandbytes) floats.
        # The two tables of 256 values are alike for all.
        large = [prod(size) for size in tensors[0 if planned.lora else 1 :] if prod(size) >= 4096]
        scales = sum(-(-size // 256) for size in large)
        tables = 2 * FLOAT * 256 if large else 0
        return 2 * sum(large) + 2 * FLOAT * (scales + count - sum(large)) + tables
    adamw = 2 * FLOAT * count
    known = {"sgd": 0, "adagrad": FLOAT * count + each, "adamw_torch": adamw + each, "adamw_torch_fused": adamw + each}
    known["adafactor"] = FLOAT * sum(map(sum, tensors)) + each  # of a matrix, a row's and a column's means
    return known.get(name, adamw)


def step(planned: Planned) -> dict[str, Parts]:
    """The moments of an optimizer step at which most is held."""
    settings, shape, p, inner = planned.settings, planned.shape, planned.width, planned.inner
    own, longest, packed = settings.own, length(settings), settings.trl.get("packing")
    tokens = own.micro_batch * planned.stage.sides * longest
    # Tokens in a row of the attention's mask: of a sequence or, as TRL lays packed ones end to end, of all.
    attended = longest * own.micro_batch if packed else longest
    if packed and own.attn_implementation == "varlen":  # which knows where they begin: no mask
        attended = 0
    # What one layer keeps of its forward pass for the backward: the rows of docs/memory.md.
    streams = 6 * FLOAT if p == FLOAT else 4 * FLOAT + 5 * p  # of norms, and what goes into the matrices
    gates = 3 * inner
    if planned.liger:  # which computes a norm's quotients and the activation's values anew in the backward pass
        streams, gates = streams - 2 * FLOAT, gates - inner
    token = streams * shape.hidden + 4 * p * shape.heads * shape.head + (gates + p) * shape.intermediate
    token += p * attended + FLOAT * (shape.heads + 2)  # the mask; sums of softmax and of the norms
    if planned.kind == "cuda" and p == FLOAT and shape.kv_heads != shape.heads:
        # The attention's scores: in float32 CUDA has no kernel for fewer heads of keys than of queries where no row is
        # padded, as none is if all are as long as they may be.
        token += FLOAT * shape.heads * attended
    layer, stream = token * tokens, FLOAT * shape.hidden * tokens
    checkpointing = settings.option("gradient_checkpointing")
    every = (settings.option("gradient_checkpointing_kwargs") or {}).get("every_n_layers", 1)
    few = -(-shape.layers // every) if checkpointing else 0  # layers of which only what goes in is kept
    masks = (1 if packed else 2) * tokens * attended
    ends = 3 * stream  # of the last norm, and what goes into the head
    stored = ends + masks + few * stream + (shape.layers - few) * layer
    working = max(2 * inner * shape.intermediate * tokens, 5 * stream)
    every_gradient, logits = FLOAT * numbers(planned.trained), tile(planned, tokens)
    gradients, weights = {"gradients": every_gradient}, {CAST: cast(planned, 1 if checkpointing else shape.layers)}
    forward = (gradients if own.batch > own.micro_batch * settings.processes else {}) | weights
    head = gradients | ({} if checkpointing else weights)
    of_head = FLOAT * shape.vocabulary * shape.hidden if planned.stage.answers and not planned.lora else 0
    layers = stored - ends + working + (layer - stream if checkpointing else 0)
    # While it updates, the optimizer holds copies of one parameter or, of some on CUDA, of all.
    of_one = 2 * FLOAT * max(map(prod, planned.trained))
    copies = {"adafactor": of_one, "adamw_torch": every_gradient if planned.kind == "cuda" else of_one}
    found = {
        "forward pass": forward | {"activations": stored, "logits": logits},
        "backward of the head": head | {"activations": stored + stream, "logits": logits + of_head},
        "backward of a layer": gradients | weights | {"activations": layers},
        "update": gradients | {"update": copies.get(settings.option("optim"), 0)},
    }
    return {name: always(planned) | parts for name, parts in found.items()}


def cast(planned: Planned, layers: int) -> int:
    """The weights of so many layers in the precision of the arithmetic, beside those that are kept."""
    sizes = [*map(prod, planned.shape.linears.values())]
    if planned.four_bit:  # a matrix at a time, which is then forgotten
        return planned.width * max(sizes)
    return 0 if planned.precision == "fp32" else planned.width * sum(sizes) * layers


def tile(planned: Planned, tokens: int) -> int:
    """The logits that TRL's fused head holds at once. A classifier has none."""
    if not planned.stage.answers:
        return 0
    rows, columns = min(tokens, TILE[0]), min(planned.shape.vocabulary, TILE[1])
    copies = 0 if planned.kind == "cuda" else 7 * FLOAT * rows * columns  # on CUDA it is worked on in place
    return planned.width * (rows * TILE[1] + columns * planned.shape.hidden) + copies


def passing(planned: Planned, tokens: int, inner: int) -> int:
    """What a layer holds at most while it computes, without a gradient; `inner` as Planned's."""
    return tokens * (3 * inner * planned.shape.intermediate + 5 * FLOAT * planned.shape.hidden)


def evaluating(planned: Planned) -> Parts:
    """What TRL's evaluation takes beside the models: a pass over a batch, or generating it."""
    settings, rows = planned.settings, int(planned.settings.option("per_device_eval_batch_size"))
    tokens = rows * planned.stage.sides * length(settings)
    activations = passing(planned, tokens, planned.inner)
    a_pass = {CAST: cast(planned, 1), "activations": activations, "logits": tile(planned, tokens)}
    if not planned.stage.generates:
        return a_pass
    if planned.by_vllm:
        return max(vllm(planned, awake=False) | a_pass, vllm(planned), key=total)
    return max(a_pass, generating(planned, rows, settings.option("max_completion_length")), key=total)


def vllm(planned: Planned, awake: bool = True) -> Parts:
    """What vLLM holds on the device that trains: its share of it while it generates and, unless it sleeps between, all
    the while. Of a server's nothing.
    """
    if not planned.by_vllm or planned.settings.option("vllm_mode") != "colocate":
        return {}
    if not awake and planned.settings.option("vllm_enable_sleep_mode"):
        return {"vLLM's graphs": GRAPHS}
    tokens = planned.generated * length(planned.settings)  # all at once, where the device is not known
    held = {"vLLM's graphs": GRAPHS} | vllm_for(planned, tokens)
    if planned.card:  # what is left of its share is cache
        share = int(planned.card * planned.settings.option("vllm_gpu_memory_utilization"))
        held["vLLM's KV cache"] = max(share - GRAPHS - held["vLLM's weights"], 0)
    return held


def vllm_for(planned: Planned, tokens: int) -> Parts:
    """What vLLM needs for so many tokens at once, in half precision, on each of the devices that share an engine."""
    shape, shared = planned.shape, planned.settings.option("vllm_tensor_parallel_size")
    cache = 2 * 2 * shape.layers * shape.kv_heads * shape.head * tokens
    return {"vLLM's weights": 2 * planned.parameters // shared, "vLLM's KV cache": cache // shared}


def prompt_length(planned: Planned) -> int:
    """Tokens of the longest prompt that is answered."""
    limit = planned.settings.own.max_prompt_length if planned.stage.generates else None
    return limit or min(PROMPT, length(planned.settings))


def keys_and_values(planned: Planned) -> int:
    """The bytes of a token's, of one head in one layer: torch's rotation leaves keys in float32, and the cache of
    transformers makes both alike.
    """
    return 2 * planned.shape.head * (planned.answered if planned.liger or by_graph(planned) else FLOAT)


def by_graph(planned: Planned) -> bool:
    """Whether a CUDA graph generates; where matrices are in 4 bit none does."""
    return planned.engine == "cuda_graphs" and not planned.four_bit


def read_a_token(planned: Planned, sequences: int, new: int) -> int:
    """The bytes that are read for one more token of each sequence, half of its new ones being there: every matrix, and
    what is cached.
    """
    shape = planned.shape
    weights = planned.answered * (numbers(shape.matrices) + shape.vocabulary * shape.hidden)
    cached = keys_and_values(planned) * shape.kv_heads * shape.layers
    return weights + cached * sequences * (prompt_length(planned) + new // 2)


def generating(planned: Planned, sequences: int, new: int, alone: bool = False) -> Parts:
    """What generating takes: beside the models to train, of which one has its matrices cast, with its adapters added to
    them but in 4 bit; or by the policy of a folder, `alone`, with its weights, of which the layers' matrices have the
    precision in which they are multiplied.
    """
    shape, p, prompt = planned.shape, planned.answered, prompt_length(planned)
    found = {"weights": shape.asked(p)} if alone else {}
    cast = shape.vocabulary * shape.hidden if p != FLOAT else 0
    if planned.lora:
        cast += numbers(planned.trained) if planned.four_bit and p != FLOAT else 0
        cast += numbers(shape.adapted(planned.lora.targets)) if not planned.four_bit and p == FLOAT else 0
    if not alone and not planned.four_bit and p != FLOAT:
        cast += numbers(shape.matrices)
    found[CAST] = p * cast
    # As they come, where they are recorded once more; in float32, warped, probabilities.
    found["logits"] = ((2 if by_graph(planned) else 1) * p + 3 * FLOAT) * sequences * shape.vocabulary
    cached = keys_and_values(planned) * shape.kv_heads * shape.layers * sequences
    passed = {"activations": passing(planned, sequences * prompt, FLOAT if planned.four_bit else p)}
    if by_graph(planned):  # the cache is whole from the start, and read where it lies
        scores = (2 * FLOAT + p) * shape.heads * sequences * (prompt + new)  # of one layer; also as probabilities
        first, last = passed, {"activations": scores}
        return found | {"KV cache": cached * (prompt + new)} | max(first, last, key=total)
    # A layer's cache is copied when it grows, and padded prompts then have each query's keys and values laid out.
    copies = keys_and_values(planned) * shape.heads * sequences
    first = {"KV cache": cached * prompt} | passed  # the pass over the prompts
    return found | max(first, {"KV cache": (cached + copies) * (prompt + new)}, key=total)
