"""The `answers` section of params.yaml: the protocol by which every policy is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from llmrl.answers.final import KINDS, Kind
from llmrl.fields import SEED, above, at_least, at_most
from llmrl.training.settings import Precision


@dataclass(frozen=True)
class Answers:
    """The protocol by which every policy is measured on the held-out prompts."""

    samples: Annotated[int, at_least(1), at_most(10_000), "answers sampled a prompt, beside the greedy one"]
    temperature: Annotated[float, above(0), "at which they are sampled"]
    max_new_tokens: Annotated[int, at_least(1), "tokens, at which an answer is cut off"]
    batch: Annotated[int, at_least(1), "answers generated at once"]
    seed: Annotated[int, at_least(0), SEED, "of the samples"]
    engine: Annotated[
        Literal["auto", "transformers", "cuda_graphs"],
        "what decodes the answers, GRPO's completions too (docs/gpu.md); auto: cuda_graphs on CUDA, for decoders that "
        "attend to all that came before, without full_determinism; completions of a model in 4 bit are decoded by "
        "transformers",
    ] = "auto"
    precision: Annotated[
        Precision,
        "of the arithmetic in which every policy answers, also while GRPO trains it and where its prompts are judged; "
        "auto: train.precision, whatever a stage's own",
    ] = "auto"
    marks: Annotated[
        list[Kind],
        "how a final answer is marked, in the order in which these are tried, also for GRPO's rewards and where its "
        "prompts are judged",
    ] = field(default_factory=lambda: [*KINDS])
