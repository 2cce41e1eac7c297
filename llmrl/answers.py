r"""Answers: finding the final one in a text, telling whether it is right, and measuring a policy by them.

Every policy is measured by one protocol: a greedy and several sampled answers to each held-out prompt. Greedy alone
hides what preference and RL stages do (it flips with the likeliest style); sampled alone rewards mere sharpening.
"""

from __future__ import annotations

import logging
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import GRPOTrainer

    from llmrl.params import Answers

Prompts = list[list[dict[str, str]]]

BOXED = "\\boxed{"
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
WORDS = re.compile(r"[^\W\d_]{2,}( +[^\W\d_]+)*")
# What bounds the work of comparing two answers, instead of math-verify's timers, which depend on the machine: a gold
# answer has at most LONGEST characters, and what is longer than MATHEMATICS or could explode is compared as text alone.
LONGEST = 300
MATHEMATICS = 100
SUMMANDS = re.compile(r"[+-]")
# A power of one symbol or number by a small exponent, or of a bracket by 2 or 3; what is a power beside is not small.
POWER = re.compile(
    r"(?<![)}\]])\^ ?(\{-?([a-z\d]|\d\d|\\frac ?\{\d\} ?\{\d\}|\d/\d)\}|-?[a-z\d]|\\[a-z]+)(?! ?\^)", re.IGNORECASE
)
BRACKET_POWER = re.compile(r"(?<=[)}\]])\^ ?(\{[23]\}|[23])(?! ?\^)")
EXPLOSIVE = re.compile(r"\^|\*\*|!|\\(sum|prod|o?i*int|[dt]?binom|lim|det)(?![a-z])")


def last_boxed(text: str) -> tuple[str, str] | None:
    r"""What the last \boxed{} of a text holds, and what follows it; None where it is missing or not closed."""
    start = text.rfind(BOXED)
    if start < 0:
        return None
    begin = start + len(BOXED)
    depth = 1
    for end in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end].strip(), text[end + 1 :]
    return None


def final(text: str) -> str | None:
    r"""What the last \boxed{} of a text holds, or None.

    >>> final(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    boxed = last_boxed(text)
    return boxed and boxed[0]


def ends_boxed(text: str) -> bool:
    r"""Whether a text ends with its answer in \boxed{}, but for what closes a formula or a sentence."""
    boxed = last_boxed(text)
    return boxed is not None and not boxed[1].strip(" .$\n\\])")


def gold(solution: str) -> str | None:
    r"""The one answer a solution gives, from its last \boxed{} where it has one; None where there is no short one.

    >>> gold("$72$"), gold(r"48 + 24 = 72, so \boxed{72}."), gold("48 + 24 =\n72")
    ('72', '72', None)
    """
    answer = solution.strip() if BOXED not in solution else final(solution)
    if not answer or len(answer) > LONGEST or "\n" in answer:
        return None
    stripped = answer.strip("$ ") or answer
    return stripped if stripped.count("{") == stripped.count("}") else None


def right(text: str, solution: str) -> bool:
    r"""Whether the answer in the last \boxed{} of `text` equals `solution`, as mathematics.

    >>> right(r"so \boxed{0.5}", r"$\frac{1}{2}$")
    True
    """
    answer, expected = final(text), gold(solution)
    if not answer or expected is None or len(answer) > LONGEST:
        return False
    return same(expected, answer.strip("$ "))


def same(expected: str, answer: str) -> bool:
    """Whether two short answers are the same number, words, text or mathematics."""
    expected, answer = (re.sub(r"^\\(?:text|mathrm|textbf) ?\{([^{}]*)\}$", r"\1", one) for one in (expected, answer))
    if "".join(expected.split()) == "".join(answer.split()):
        return True
    if NUMBER.fullmatch(expected) and NUMBER.fullmatch(answer):
        return Decimal(expected) == Decimal(answer)
    # To math-verify a word is a product of its letters.
    if WORDS.fullmatch(expected) or WORDS.fullmatch(answer):
        return expected.casefold() == answer.casefold()
    return modest(expected) and modest(answer) and equal(expected, answer)


def modest(text: str) -> bool:
    r"""Whether an answer is small enough to compute with, on any machine.

    >>> modest(r"3x^2 + 2^{10}"), modest("9^{9^9}"), modest("99!")
    (True, False, False)
    """
    if len(text) > MATHEMATICS or len(SUMMANDS.findall(text)) > 6:
        return False
    rest = BRACKET_POWER.sub("", POWER.sub("", text), count=1)
    return not EXPLOSIVE.search(rest)


def equal(expected: str, answer: str) -> bool:
    """Whether two LaTeX expressions are the same mathematics, by math-verify with its timers off."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that there is no timer
    one, other = (parse(f"${text}$", parsing_timeout=None) for text in (expected, answer))
    return bool(verify(one, other, timeout_seconds=None))


@dataclass(frozen=True)
class Measured:
    """Figures over the held-out prompts, and every answer: a row a prompt."""

    figures: dict[str, float]
    rows: list[dict[str, Any]]


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Dataset, protocol: Answers, precision: str
) -> Measured:
    """Greedy and sampled answers to each prompt, in a precision (fp32 | bf16 | fp16), and how many of them are right.

    Half-widths of the 95 % interval are over prompts (the samples of one prompt are not independent).
    """
    with answering(model, precision, protocol.seed):
        given = (model, tokenizer, prompts["prompt"], protocol.batch)
        greedy = generate(*given, max_new_tokens=protocol.max_new_tokens, do_sample=False)
        sampled = generate(
            *given,
            max_new_tokens=protocol.max_new_tokens,
            do_sample=True,
            temperature=protocol.temperature,
            top_k=0,
            top_p=1.0,
            num_return_sequences=protocol.samples,
        )
    rows = [
        {
            "prompt": prompt[-1]["content"],
            "solution": solution,
            "greedy": one[0].text,
            "greedy_right": share([one[0]], solution),
            "sampled": [answer.text for answer in several],
            "sampled_right": share(several, solution),
            "ended": statistics.mean(answer.ended for answer in several),
            "tokens": statistics.mean(answer.tokens for answer in several),
        }
        for prompt, solution, one, several in zip(prompts["prompt"], prompts["solution"], greedy, sampled, strict=True)
    ]
    return Measured(summary(rows), rows)


@contextmanager
def answering(model: PreTrainedModel, precision: str, seed: int | None = None) -> Iterator[None]:
    """Have a model answer, in a precision, and be as before afterwards. With a seed of its own, so is the random state
    of the process.
    """
    import torch

    training = model.training
    model.eval()
    with nullcontext() if seed is None else torch.random.fork_rng(), torch.inference_mode():
        if seed is not None:
            torch.manual_seed(seed)
        with arithmetic(model, precision):
            yield
    model.train(training)


@contextmanager
def arithmetic(model: PreTrainedModel, precision: str) -> Iterator[None]:
    """Have a model compute in a precision as torch's autocast does, whatever it is trained in: matrices are multiplied
    in it, sums and norms are float32.

    Autocast would cast a matrix for every generated token, of adapters' frozen base at least; here each is cast once.
    """
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    prepared = model.__dict__.pop("forward", None)  # accelerate's, which computes in the precision of the training
    kept: list[tuple[torch.nn.Module, str, Any]] = []
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # of a matrix in 4 bit
            kept.append((module, "compute_dtype", module.compute_dtype))
            module.compute_dtype = dtype
        elif isinstance(module, torch.nn.Linear) and module.weight.dtype != dtype:
            for name, weights in [*module.named_parameters(recurse=False)]:
                kept.append((module, name, weights))
                setattr(module, name, torch.nn.Parameter(weights.to(dtype), requires_grad=False))
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        yield
    for module, name, value in kept:
        setattr(module, name, value)
    if prepared is not None:
        model.forward = prepared


def rollout(precision: str) -> Callable[[Prompts, GRPOTrainer], dict[str, Any]]:
    """GRPO's completions: sampled as its trainer says, all prompts at once, in a precision.

    By TRL itself they would be in that of the training or, with adapters, in float32, and in the mode of the training,
    in which adapters drop out. https://huggingface.co/docs/trl/openenv names what a `rollout_func` returns.
    """

    def generated(prompts: Prompts, trainer: GRPOTrainer) -> dict[str, Any]:
        tokenizer, asked = trainer.processing_class, {"add_generation_prompt": True, **trainer.chat_template_kwargs}
        asked |= {"chat_template": trainer.chat_template, "return_dict": True}
        prompt_ids = tokenizer.apply_chat_template(prompts, **asked)["input_ids"]
        inputs = tokenizer.pad(
            {"input_ids": prompt_ids},
            padding_side="left",
            pad_to_multiple_of=trainer.pad_to_multiple_of,
            return_tensors="pt",
        ).to(trainer.accelerator.device)
        with answering(trainer.model, precision):
            tokens = trainer.model.generate(**inputs, generation_config=trainer.generation_config)
        completions = tokens[:, inputs["input_ids"].shape[1] :].tolist()  # (prompts, new tokens)
        ends = trainer.eos_token_ids
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [up_to_end(one, ends) for one in completions],
            "logprobs": None,
        }

    return generated


def up_to_end(tokens: list[int], ends: list[int]) -> list[int]:
    """A generated row up to the end of its turn, with the token that ends it.

    >>> up_to_end([5, 6, 2, 0, 0], [2, 3])
    [5, 6, 2]
    """
    return tokens[: next((place for place, token in enumerate(tokens, 1) if token in ends), len(tokens))]


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of a table of answers. Accuracy is over the prompts that have a solution."""
    judged = [row for row in rows if row["solution"] is not None]
    figures = {}
    for way in ("greedy", "sampled") if judged else ():
        values = [row[f"{way}_right"] for row in judged]
        figures[way] = statistics.mean(values)
        figures[f"{way}_ci95"] = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 1.0
    figures["n"] = len(judged)
    figures["ended"] = statistics.mean(row["ended"] for row in rows)
    figures["tokens"] = statistics.mean(row["tokens"] for row in rows)
    return figures


@dataclass(frozen=True)
class Answer:
    """One generated text, with its tokens counted up to the end of its turn."""

    text: str
    tokens: int
    ended: bool


def share(answers: list[Answer], solution: str | None) -> float | None:
    """The share of the answers that are right; None where there is no solution to compare with."""
    return None if solution is None else statistics.mean(right(answer.text, solution) for answer in answers)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    batch: int,
    template: dict[str, Any] | None = None,
    **options: Any,
) -> list[list[Answer]]:
    """The model's answers to each prompt, `batch` at once, in the order of the prompts. The options are those of
    transformers' `generate`, `template` what else the chat template is told.
    """
    asked = {"tokenize": False, "add_generation_prompt": True} | (template or {})
    texts = [tokenizer.apply_chat_template(prompt, **asked) for prompt in prompts]
    # Prompts of like length share a batch, so that little is computed for padding.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: dict[int, list[Answer]] = {}
    each = options.get("num_return_sequences", 1)
    size = max(1, batch // each)
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        inputs = tokenizer(
            [texts[index] for index in indices],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        tokens = model.generate(**inputs, **options)
        completions = tokens[:, inputs["input_ids"].shape[1] :].tolist()  # (prompts x samples, new tokens)
        for number, index in enumerate(indices):
            found[index] = [read(one, tokenizer) for one in completions[number * each : (number + 1) * each]]
    return [found[index] for index in range(len(texts))]


def read(tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> Answer:
    """A generated row up to the end of its turn."""
    ended = tokenizer.eos_token_id in tokens
    length = tokens.index(tokenizer.eos_token_id) if ended else len(tokens)
    return Answer(tokenizer.decode(tokens[:length], skip_special_tokens=True), length, ended)
