"""A decoder's sizes, by its config.json, and the tensors that follow from them."""

from __future__ import annotations

from math import prod
from typing import Any

from llmrl.models import attends_to_all

FLOAT = 4  # bytes; weights, gradients and adapters are float32 whatever the precision of the arithmetic
# Decoders that are alike but for these: a bias of q, k and v; norms of each head of q and k.
FAMILIES = dict.fromkeys(("llama", "smollm3", "mistral", "gemma"), (False, False))
FAMILIES |= {"qwen2": (True, False), "qwen3": (False, True)}

Tensor = tuple[int, ...]  # a parameter, by its shape


class Shape:
    """A decoder's sizes, as a config.json of one of FAMILIES has them."""

    def __init__(self, config: dict[str, Any]) -> None:
        bias, self.head_norms = FAMILIES[config["model_type"]]
        self.vocabulary: int = config["vocab_size"]
        self.hidden: int = config["hidden_size"]
        self.intermediate: int = config["intermediate_size"]
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        self.kv_heads: int = config.get("num_key_value_heads") or self.heads
        self.head: int = config.get("head_dim") or self.hidden // self.heads
        self.positions: int = config.get("max_position_embeddings", 0)  # tokens of the longest sequence; 0: not told
        self.tied: bool = config.get("tie_word_embeddings", config["model_type"] == "gemma")
        h, i, a, kv = self.hidden, self.intermediate, self.heads * self.head, self.kv_heads * self.head
        self.linears = {"q_proj": (a, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, a)}
        self.linears |= {"gate_proj": (i, h), "up_proj": (i, h), "down_proj": (h, i)}  # of a layer, (out, in)
        self.matrices: list[Tensor] = [*self.linears.values()] * self.layers
        attention = config.get("attention_bias")
        self.biased = ["q_proj", "k_proj", "v_proj"] if bias or attention else []  # the matrices that have a bias
        self.biased += ["o_proj"] if attention and config["model_type"] != "qwen2" else []
        self.biased += ["gate_proj", "up_proj", "down_proj"] if config.get("mlp_bias") else []
        self.attends_to_all = attends_to_all(config)

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape | None:
        """The shape that a model's config tells; None where its architecture is not one of FAMILIES."""
        config = config.get("text_config", config)
        return cls(config) if config.get("model_type") in FAMILIES else None

    def tensors(self, classifier: bool = False) -> list[Tensor]:
        """The shape of every parameter: of a policy, or of a model that gives one score."""
        norms: list[Tensor] = [(self.hidden,), (self.hidden,), *[(self.head,)] * (2 * self.head_norms)]
        layer = [*norms, *self.linears.values(), *((self.linears[name][0],) for name in self.biased)]
        embedding = (self.vocabulary, self.hidden)
        head: list[Tensor] = [(1, self.hidden)] if classifier else [] if self.tied else [embedding]
        return [embedding, *(layer * self.layers), (self.hidden,), *head]

    def adapters(self, rank: int, targets: list[str] | str) -> list[Tensor]:
        """The shape of every matrix of LoRA's; `targets` are "all-linear" or names of `linears`."""
        return [pair for out, into in self.adapted(targets) for pair in ((rank, into), (out, rank))]

    def adapted(self, targets: list[str] | str) -> list[Tensor]:
        """The shape of every matrix that gets an adapter."""
        chosen: list[Tensor] = [
            size for name, size in self.linears.items() if targets == "all-linear" or name in targets
        ]
        return chosen * self.layers

    def asked(self, width: int, classifier: bool = False) -> int:
        """The bytes of a model that is not trained: its matrices have the `width` in which they are multiplied."""
        return FLOAT * numbers(self.tensors(classifier)) - (FLOAT - width) * numbers(self.matrices)


def numbers(tensors: list[Tensor]) -> int:
    """How many numbers the tensors hold."""
    return sum(prod(size) for size in tensors)
