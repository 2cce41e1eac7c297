"""Measuring a stage's model, as it was saved and is loaded again, by what is held out: TRL's evaluation, and answers.

Every policy is measured by one protocol: a greedy and several sampled answers to each prompt. Greedy alone hides what
preference and RL stages do (it flips with the likeliest style); sampled alone rewards mere sharpening.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.answers.generation import answering, generate
from llmrl.answers.judging import share
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.training import loop, processes, rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from llmrl.measuring.figures import Figures
    from llmrl.progress import Progress
    from llmrl.training.run import Run
    from llmrl.training.settings import Settings

HELD_OUT_PROMPTS = Path("data/prompts/eval.parquet")
Table = list[dict[str, Any]]


def before_and_after(
    run: Run, build: loop.Build, figures: Figures, folder: str, phase: Callable[[str], AbstractContextManager[Progress]]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Table]]:
    """The figures before training and of the model in `folder`, under our names, and all answers, by "before" and
    "after".

    What a stage made was measured by its answers then, and is not again. Of several processes the first measures these.
    """
    with phase("measuring after"):
        evaluation = loop.evaluation(run, build, folder, "after")
    before: dict[str, Any] = figures.named(figures.seen.before)
    after: dict[str, Any] = figures.named(figures.tracked(evaluation))
    tables = {}
    if STAGES[run.settings.stage].answers and processes.first():
        init = run.settings.own.init
        made_here = Path(init) in (Path("models", stage) for stage in STAGES)
        first = {} if made_here else {"before": (init, before)}
        for when, (policy, into) in (first | {"after": (folder, after)}).items():
            with phase(f"answering {when}") as shown:
                asked = answerable(run.settings, run.tokenizer)
                into["answers"], tables[when] = measure(run, policy, *asked, shown.counting)
                gc.collect()  # a model with Liger's kernels refers to itself
    return before, after, tables


def answerable(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, counting: rows.Counting = rows.unseen
) -> tuple[Dataset, int]:
    """The held-out prompts, and how many the model's chat template refuses, which are left out. Raises InputError where
    these are more than may be.
    """
    prompts = rows.read(HELD_OUT_PROMPTS)
    sizes = rows.sizes_of(prompts, tokenizer, False, counting)
    refused = {row: size for row, size in enumerate(sizes) if isinstance(size, str)}
    if len(refused) > settings.max_refused * len(prompts):
        row, reason = next(iter(refused.items()))
        raise InputError(
            f"{HELD_OUT_PROMPTS}: {len(refused)} of {len(prompts)} prompts are refused, and data.max_defective in "
            f"params.yaml allows a share of {settings.max_refused:g}: {reason} (first: row {row + 1}). Leave such rows "
            "out of the data, or change chat_template.jinja in the model's folder."
        )
    kept = [row for row in range(len(prompts)) if row not in refused]
    return prompts.select(kept) if refused else prompts, len(refused)


def measure(
    run: Run, folder: str, prompts: Dataset, refused: int = 0, counting: rows.Counting = rows.unseen
) -> tuple[dict[str, float], Table]:
    """Greedy and sampled answers of the policy in a folder to each prompt, a row a prompt, and how many of them are
    right: figures over all prompts but those that were `refused`, and the rows.
    """
    protocol, policy = run.settings.answers, run.policy(folder)
    with answering(policy, run.hardware.answers, protocol.seed):
        counted = counting(len(prompts) * (1 + protocol.samples), "answers")
        given = (policy, run.tokenizer, prompts["prompt"], protocol.batch, counted)
        longest: dict[str, Any] = {"max_new_tokens": protocol.max_new_tokens}
        greedy = generate(*given, **longest, do_sample=False)
        sampling = longest | {"do_sample": True, "temperature": float(protocol.temperature), "top_k": 0, "top_p": 1.0}
        sampled = generate(*given, **sampling, num_return_sequences=protocol.samples)
    table = [
        {
            "prompt": prompt[-1]["content"],
            "solution": solution,
            "greedy": one[0].text,
            "greedy_right": share([one[0].text], solution, protocol.marks),
            "sampled": [answer.text for answer in several],
            "sampled_right": share([answer.text for answer in several], solution, protocol.marks),
            "ended": statistics.mean(answer.ended for answer in several),
            "tokens": statistics.mean(answer.tokens for answer in several),
        }
        for prompt, solution, one, several in zip(prompts["prompt"], prompts["solution"], greedy, sampled, strict=True)
    ]
    return summary(table) | ({"refused": refused} if refused else {}), table


def summary(table: Table) -> dict[str, float]:
    """The figures of a table of answers. Accuracy is over the prompts that have a solution.

    Half-widths of the 95 % interval are over prompts (the samples of one prompt are not independent).
    """
    judged = [row for row in table if row["solution"] is not None]
    figures = {}
    for way in ("greedy", "sampled") if judged else ():
        values = [row[f"{way}_right"] for row in judged]
        figures[way] = statistics.mean(values)
        figures[f"{way}_ci95"] = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 1.0
    figures["n"] = len(judged)
    figures["ended"] = statistics.mean(row["ended"] for row in table)
    figures["tokens"] = statistics.mean(row["tokens"] for row in table)
    return figures
