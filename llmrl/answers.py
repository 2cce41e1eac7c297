r"""Answers: finding the final one in a text, telling whether it is right, and measuring a policy by them.

Every policy is measured by one protocol: a greedy and several sampled answers to each held-out prompt. Greedy alone
hides what preference and RL stages do (it flips with the likeliest style); sampled alone rewards mere sharpening.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llmrl.params import Answers

BOXED = "\\boxed{"
INTEGER = re.compile(r"[+-]?\d+")
LONGEST = 300  # characters of an answer that are parsed: instead of math-verify's timers, which depend on the machine


def final(text: str) -> str | None:
    r"""What the last \boxed{} of a text holds, or None.

    >>> final(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    start = text.rfind(BOXED)
    depth = 0
    for end in range(start + len(BOXED) - 1, len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + len(BOXED) : end].strip()
    return None


def ends_boxed(text: str) -> bool:
    r"""Whether a text ends with its answer in \boxed{}."""
    answer = final(text)
    return answer is not None and text.rstrip(" .$\n").endswith("}")


def right(text: str, solution: str) -> bool:
    r"""Whether the answer in the last \boxed{} of `text` equals `solution`, as mathematics."""
    answer = final(text)
    if answer is None or len(answer) > LONGEST:
        return False
    gold = solution.strip().strip("$")
    if answer == gold:
        return True
    if INTEGER.fullmatch(answer) and INTEGER.fullmatch(gold):
        return int(answer) == int(gold)
    return equal(gold, answer)


def equal(gold: str, answer: str) -> bool:
    """Whether two LaTeX expressions are the same mathematics, by math-verify with its timers off."""
    from math_verify import parse, verify

    one, other = (parse(f"${text}$", parsing_timeout=None) for text in (gold, answer))
    return bool(verify(one, other, timeout_seconds=None))


@dataclass(frozen=True)
class Measured:
    """Figures over the held-out prompts, and every answer: a row a prompt."""

    figures: dict[str, float]
    rows: list[dict[str, Any]]


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Dataset, protocol: Answers
) -> Measured:
    """Greedy and sampled answers to each prompt, and how many of them are right.

    Half-widths of the 95 % interval are over prompts (the samples of one prompt are not independent). The random
    state of the process is as before.
    """
    import torch

    training = model.training
    model.eval()
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(protocol.seed)
        greedy = generate(model, tokenizer, prompts["prompt"], protocol, do_sample=False)
        sampled = generate(
            model,
            tokenizer,
            prompts["prompt"],
            protocol,
            do_sample=True,
            temperature=protocol.temperature,
            top_k=0,
            top_p=1.0,
            num_return_sequences=protocol.samples,
        )
    model.train(training)
    solutions = prompts["solution"] if "solution" in prompts.column_names else [None] * len(prompts)
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
        for prompt, solution, one, several in zip(prompts["prompt"], solutions, greedy, sampled, strict=True)
    ]
    return Measured(summary(rows), rows)


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
    prompts: list[list[dict[str, str]]],
    protocol: Answers,
    **options: Any,
) -> list[list[Answer]]:
    """The model's answers to each prompt, in the order of the prompts."""
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    # Prompts of like length share a batch, so that little is computed for padding.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: dict[int, list[Answer]] = {}
    size = max(1, protocol.batch // options.get("num_return_sequences", 1))
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        batch = tokenizer(
            [texts[index] for index in indices],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        tokens = model.generate(**batch, max_new_tokens=protocol.max_new_tokens, **options)
        completions = tokens[:, batch["input_ids"].shape[1] :].tolist()  # (prompts x samples, new tokens)
        each = options.get("num_return_sequences", 1)
        for number, index in enumerate(indices):
            found[index] = [read(tokens, tokenizer) for tokens in completions[number * each : (number + 1) * each]]
    return [found[index] for index in range(len(texts))]


def read(tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> Answer:
    """A generated row up to the end of its turn."""
    ended = tokenizer.eos_token_id in tokens
    length = tokens.index(tokenizer.eos_token_id) if ended else len(tokens)
    return Answer(tokenizer.decode(tokens[:length], skip_special_tokens=True), length, ended)
