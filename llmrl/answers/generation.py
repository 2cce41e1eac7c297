"""Answers of a policy: generated in one arithmetic, whatever the policy is trained in, for measuring and for GRPO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrl.models import DTYPES

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from trl import GRPOTrainer

Prompts = list[list[dict[str, str]]]
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# A model goes on at the right.
PADDED: dict[str, Any] = {"padding": True, "padding_side": "left", "return_tensors": "pt"}


@dataclass(frozen=True)
class Answer:
    """One generated text, its tokens counted up to the end of its turn, and how far these repeat themselves."""

    text: str
    tokens: int
    ended: bool
    repetition: float


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    batch: int,
    counted: Callable[[int], None] = lambda _: None,
    engine: str = "transformers",
    **options: Any,
) -> list[list[Answer]]:
    """The model's answers to each prompt, `batch` at once, in the order of the prompts. The options are those of
    transformers' `generate`; `counted` is told how many more answers there are.
    """
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    # Prompts of like length share a batch, so that little is computed for padding.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: list[list[Answer]] = [[] for _ in texts]
    each, ends = options.pop("num_return_sequences", 1), ends_of(model, tokenizer)
    size, options = max(1, batch // each), {"eos_token_id": ends} | options
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        inputs = tokenizer([texts[index] for index in indices], add_special_tokens=False, **PADDED).to(model.device)
        asked = [prompt for prompt in range(len(indices)) for _ in range(each)]
        completions = completed(model, inputs, asked, engine, **options)
        for prompt, completion in zip(asked, completions, strict=True):
            said = up_to_end(completion, ends)
            ended = said[-1] in ends
            length = len(said) - ended
            text = tokenizer.decode(completion[:length], skip_special_tokens=True)
            found[indices[prompt]].append(Answer(text, length, ended, repetition(completion[:length])))
        counted(len(completions))
    return found


def completed(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], asked: Sequence[int], engine: str, **options: Any
) -> list[list[int]]:
    """The new tokens of one completion after another; `asked` has the prompt of each, a row of the inputs. The options
    are those of transformers' `generate`.

    Where transformers decodes, a prompt that is asked for several is read once, but for its last token, whatever they
    are: https://huggingface.co/docs/transformers/kv_cache, on continuing from a cache. For short answers on a CPU that
    is most of the work.
    """
    import torch
    from transformers import DynamicCache, GenerationConfig
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    config = options.get("generation_config") or GenerationConfig(**options)
    options |= decoded_by(engine, model, config)
    rows = torch.tensor(asked, device=model.device)
    cache = DynamicCache(config=model.config)
    # Of others, as of linear attention, not everything can be selected by rows.
    selectable = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
    shared = len(rows) > len(inputs["input_ids"]) and inputs["attention_mask"].sum(-1).min() > 1
    if shared and selectable and simple(config) and "custom_generate" not in options:
        before = {name: values[:, :-1] for name, values in inputs.items()}
        model.generate(**before, past_key_values=cache, max_new_tokens=1, do_sample=False)  # that one is not kept
        cache.batch_select_indices(rows)
        options["past_key_values"] = cache
    tokens = model.generate(**{name: values[rows] for name, values in inputs.items()}, **options)
    return tokens[:, inputs["input_ids"].shape[1] :].tolist()


def repetition(tokens: Sequence[int], n: int = 4) -> float:
    """The share of a text's n-grams of tokens that it has had before: seq-rep-n of Welleck et al.,
    https://arxiv.org/abs/1908.04319. 0 where it has none.

    >>> repetition([1, 2, 1, 2, 1, 2, 1]), repetition([1, 2, 3])
    (0.5, 0.0)
    """
    grams = [*zip(*(tokens[start:] for start in range(n)), strict=False)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a turn: the tokenizer's own, then those that the model's generation config has beside it."""
    given: Any = model.generation_config.eos_token_id
    others = given if isinstance(given, list) else [] if given is None else [given]
    return list(dict.fromkeys([tokenizer.eos_token_id, *others]))


@contextmanager
def answering(model: PreTrainedModel, precision: str, seed: int | None = None) -> Iterator[None]:
    """Have a model answer in a precision, whatever it is trained in, and be as before afterwards. With a seed of its
    own, so is the random state of the process. Of its generation config it keeps special tokens alone: how a model's
    makers sample it, they may penalise repetition say, neither measuring nor GRPO shall take over.

    It computes as under torch's autocast: matrices are multiplied in the precision, sums and norms are float32. But
    autocast would cast a matrix for every generated token, of adapters' frozen base at least; here each is cast once,
    with its adapters added to it, but for one in 4 bit, beside which they compute. Rounding the sum loses no more of
    what they add than the training's own forward pass does (docs/reproducibility.md).
    """
    import torch
    from peft.tuners.lora import Linear as Adapted
    from transformers import GenerationConfig

    whole = model.get_base_model() if hasattr(model, "get_base_model") else model  # of adapters
    layers = [one for one in model.modules() if isinstance(one, Adapted) and not one.disable_adapters]
    adapted = {one.get_base_layer(): one for one in layers if isinstance(one.get_base_layer(), torch.nn.Linear)}
    idle = {part for one in adapted.values() for part in one.modules() if part not in adapted}
    published = whole.generation_config
    whole.generation_config = GenerationConfig(**{name: getattr(published, name) for name in SPECIAL_TOKENS})
    training, dtype = model.training, getattr(torch, DTYPES[precision])
    prepared = model.__dict__.pop("forward", None)  # accelerate's, which computes in the precision of the training
    kept: list[tuple[torch.nn.Module, str, Any]] = []
    model.eval()
    try:
        with nullcontext() if seed is None else torch.random.fork_rng(), torch.inference_mode():
            if seed is not None:
                torch.manual_seed(seed)
            for module in model.modules():
                if in_4_bit(module):
                    kept.append((module, "compute_dtype", module.compute_dtype))
                    module.compute_dtype = dtype
                elif module in idle or not isinstance(module, torch.nn.Linear):
                    continue
                elif module.weight.dtype != dtype or module in adapted:
                    for name, had in [*module.named_parameters(recurse=False)]:
                        kept.append((module, name, had))
                        weights: torch.Tensor = had
                        if name == "weight" and (adapter := adapted.get(module)):
                            weights = sum((adapter.get_delta_weight(one) for one in adapter.active_adapters), weights)
                        setattr(module, name, torch.nn.Parameter(weights.to(dtype), requires_grad=False))
            for one in adapted.values():
                one.enable_adapters(False)
            with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
                yield
    finally:  # also where the device has no room for the copies
        for module, name, value in kept:
            setattr(module, name, value)
        for one in adapted.values():
            one.enable_adapters(True)
        if prepared is not None:
            model.forward = prepared
        model.train(training)
        whole.generation_config = published


def in_4_bit(module: Any) -> bool:
    """Whether it is a matrix in 4 bit, of bitsandbytes."""
    return hasattr(module, "compute_dtype")


def decoded_by(engine: str, model: PreTrainedModel, asked: GenerationConfig) -> dict[str, Any]:
    """What has `generate` decode by an engine, transformers' own or cuda_graphs (llmrl/answers/decoding.py). By its own
    in any case where several beams are asked for or a cache of some kind, and where matrices are in 4 bit.
    """
    if engine != "cuda_graphs" or not simple(asked) or any(map(in_4_bit, model.modules())):
        return {}
    from llmrl.answers import decoding

    return {"custom_generate": decoding.decode}


def simple(asked: GenerationConfig) -> bool:
    """Whether a token is drawn after the other, with the cache that transformers has by itself."""
    from transformers.generation import GenerationMode

    one_by_one = asked.get_generation_mode() in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
    return one_by_one and not asked.cache_implementation and asked.use_cache is not False


def rollout(precision: str, engine: str, prompts: Prompts, trainer: GRPOTrainer) -> dict[str, Any]:
    """GRPO's completions: sampled as its trainer says, all prompts at once, in a precision and by an engine.

    By TRL itself they would be in that of the training or, with adapters, in float32, and in the mode of the training,
    in which adapters drop out. https://huggingface.co/docs/trl/openenv names what a `rollout_func` returns.
    """
    tokenizer, asked = trainer.processing_class, {"add_generation_prompt": True, "return_dict": True}
    prompt_ids = tokenizer.apply_chat_template(prompts, **asked)["input_ids"]
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(map(tuple, prompt_ids)))}
    asked_once: dict[str, Any] = {"input_ids": [list(prompt) for prompt in places]}
    inputs = tokenizer.pad(asked_once, pad_to_multiple_of=trainer.pad_to_multiple_of, **PADDED)
    inputs, rows = inputs.to(trainer.accelerator.device), [places[tuple(prompt)] for prompt in prompt_ids]
    with answering(trainer.model, precision):
        completions = completed(trainer.model, inputs, rows, engine, generation_config=trainer.generation_config)
    completion_ids = [up_to_end(one, trainer.eos_token_ids) for one in completions]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def up_to_end(tokens: list[int], ends: list[int]) -> list[int]:
    """A generated row up to the end of its turn, with the token that ends it.

    >>> up_to_end([5, 6, 2, 0, 0], [2, 3])
    [5, 6, 2]
    """
    return tokens[: next((place for place, token in enumerate(tokens, 1) if token in ends), len(tokens))]
