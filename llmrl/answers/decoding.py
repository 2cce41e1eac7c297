"""Decoding by a CUDA graph: the kernels of one token are recorded once, and played again for each further one.

A token of a small model is a thousand kernels of a few microseconds each, and Python takes longer to start them than a
GPU to run them. Recorded, they start as one; for that all must lie where it lay, so the cache of keys and values has
its full length from the beginning. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.cache_utils import Cache, StaticLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList

GROUPED = "grouped"  # the attention's name among transformers' own
CHECKED = 16  # tokens between two looks at whether all have ended: each look waits for the GPU


def decode(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_inputs: Any,
) -> torch.Tensor:
    """Greedy or sampled tokens after those of `input_ids` (rows x prompt, padded at the left), which come first: what
    transformers' `generate(custom_generate=decode)` calls in place of its own loop, with all else made by it:
    https://huggingface.co/docs/transformers/generation_strategies. On a CPU nothing is recorded.
    """
    read = {name: model_inputs[name] for name in ("attention_mask", "position_ids")}
    (rows, prompt), longest = input_ids.shape, generation_config.max_length
    # The last token is not read.
    cache = Cache(layers=[Narrow(longest - 1) for _ in range(model.config.num_hidden_layers)])
    tokens = input_ids.new_full((rows, longest), generation_config._pad_token_tensor)
    tokens[:, :prompt] = input_ids
    ended, place = torch.zeros_like(input_ids[:, 0], dtype=torch.bool), prompt
    with attention_by(model, GROUPED), by_its_own_determinism():
        logits = model(input_ids, **read, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        further = Further(model, cache, **read, places=longest - 1)
        while True:
            scores = logits_processor(tokens[:, :place], logits.float())
            drawn = scores.softmax(-1).multinomial(1)[:, 0] if generation_config.do_sample else scores.argmax(-1)
            tokens[:, place] = torch.where(ended, tokens[:, place], drawn)
            place += 1
            ended |= stopping_criteria(tokens[:, :place], scores)
            if place == longest or (place % CHECKED == 0 and ended.all()):
                return tokens[:, :place]
            logits = further(tokens[:, place - 1 : place])


class Further:
    """The logits of one more token of each row: computed the first time, recorded the second, then played."""

    def __init__(
        self,
        model: PreTrainedModel,
        cache: Cache,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        places: int,
    ) -> None:
        self.model, self.cache = model, cache
        rows, prompt = attention_mask.shape
        self.token = position_ids[:, -1:].clone()
        self.position = position_ids[:, -1:] + 1
        self.end = torch.full((1,), prompt, device=attention_mask.device)  # of what may be read
        # As it is added to an attention's scores: 0 where a place of the cache may be read.
        self.mask = torch.full((rows, 1, 1, places), torch.finfo(torch.float32).min, device=attention_mask.device)
        self.mask[:, 0, 0, :prompt].masked_fill_(attention_mask.bool(), 0.0)
        self.logits: Any = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, token: torch.Tensor) -> torch.Tensor:
        """Of a token of each row, (rows, 1): the logits of the next, (rows, vocabulary), which the next call writes
        over.
        """
        self.token.copy_(token)
        if self.logits is None:
            self.logits = self.compute().clone()
            return self.logits
        if not token.is_cuda:
            return self.logits.copy_(self.compute())
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            # Another thread, that pins memory say, may go on meanwhile.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.logits.copy_(self.compute())  # is not run, but recorded
        self.graph.replay()
        return self.logits

    def compute(self) -> torch.Tensor:
        """The logits that follow `token`, in the next place."""
        self.mask.index_fill_(3, self.end, 0.0)
        read = {"input_ids": self.token, "attention_mask": self.mask, "position_ids": self.position}
        logits = self.model(**read, past_key_values=self.cache, use_cache=True).logits[:, -1]
        self.end += 1
        self.position += 1
        return logits


class Narrow(StaticLayer):
    """A layer's keys and values, both in the precision that is multiplied in: torch's rotation leaves keys in float32,
    and casting all that are cached for every token would cost more than reading them.
    """

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *more: Any, **named: Any) -> Any:
        return super().update(key_states.to(value_states.dtype), value_states, *more, **named)


@contextmanager
def by_its_own_determinism() -> Iterator[None]:
    """Without torch's deterministic ways of writing to an index, which are for one that repeats and sort it: a cache
    has a place of its own for each token, and all else here is deterministic by itself.
    """
    asked, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warns)


@contextmanager
def attention_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Have a model attend in another way meanwhile."""
    former = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(former)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one token a row, (rows, heads, 1, size), to what is cached, (rows, key heads, places, size); each
    key head is read once for all the heads that share it (https://arxiv.org/abs/2305.13245), where torch's own would
    copy it for each of them, as it does wherever there is a mask. Of the prompts' tokens, torch's own.
    """
    rows, heads, length, size = query.shape
    if length > 1:  # nothing is cached behind the prompts yet
        key, value = key[:, :, :length], value[:, :, :length]
        attention_mask = attention_mask if attention_mask is None else attention_mask[..., :length]
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    # Scaled before they are multiplied: the products themselves may be more than float16 holds.
    grouped = query.reshape(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
    scores = grouped @ key.transpose(2, 3)
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:  # of a prompt of one token
            attention_mask = torch.where(attention_mask, 0.0, torch.finfo(torch.float32).min)
        scores = scores + attention_mask
    found = scores.softmax(-1, torch.float32).to(value.dtype) @ value  # (rows, key heads, heads that share, size)
    return found.reshape(rows, 1, heads, size), None


transformers.AttentionInterface.register(GROUPED, grouped_attention)
transformers.AttentionMaskInterface.register(GROUPED, sdpa_mask)
