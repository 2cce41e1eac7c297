"""Which prompts GRPO can learn from: those that the policy it starts from answers neither always nor never rightly.

    data/prompts -> the rows of it within grpo.pass_rate

Where all completions of a group are right, or all are wrong, none is better than another and nothing is learned. So
each prompt is answered a few times as training will answer it, and the share of right answers decides. A prompt
with neither a solution nor a scorer cannot be judged so; it stays, for the rewards that need none.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trl

from llmrl.answers import generation, tasks
from llmrl.errors import InputError
from llmrl.training.rows import Counting, unseen

if TYPE_CHECKING:
    from llmrl.training.run import Run


def choose(run: Run, bounds: list[float], table: list[dict[str, Any]]) -> tuple[Run, dict[str, int]]:
    """The run on the prompts within the bounds of grpo.pass_rate alone, by the table of all that were judged; these and
    the others counted. Raises InputError where the rest is no batch.
    """
    own, args, (low, high) = run.settings.own, trl.GRPOConfig(**run.arguments), bounds
    rates = [row["right"] for row in table]
    easy = sum(rate is not None and rate > high for rate in rates)
    hard = sum(rate is not None and rate < low for rate in rates)
    rows = [row for row, rate in enumerate(rates) if rate is None or low <= rate <= high]
    if len(rows) < (needed := args.generation_batch_size // args.num_generations):
        ended = sum(row["ended"] for row in table) / len(table)
        raise InputError(
            f"params.yaml: grpo.pass_rate: {len(rows)} of {len(table)} prompts are left, and a batch needs {needed}: "
            f"to {own.init} {easy} are too easy and {hard} too hard, by {own.pass_samples} answers each, of which "
            f"{1 - ended:.0%} were cut off at grpo.max_completion_length. Widen the range, take more or other prompts "
            "(data.prompts), or start from a better policy (grpo.init)."
        )
    run = replace(run, train_rows=run.train_rows.select(rows))
    return run, {"rows": len(rows), "rows_too_easy": easy, "rows_too_hard": hard}


def judged(run: Run, counting: Counting = unseen) -> list[dict[str, Any]]:
    """Answers to each prompt, sampled as GRPO's trainer samples its completions by the same arguments, and the share of
    them that is right.
    """
    own, policy, args = run.settings.own, run.policy(run.settings.own.init), trl.GRPOConfig(**run.arguments)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    sampling = {name: value for name in names if (value := getattr(args, name)) is not None}
    sampling |= {"do_sample": True, "max_new_tokens": args.max_completion_length} | (args.generation_kwargs or {})
    sampling["num_return_sequences"] = own.pass_samples
    prompts, solutions, extras = (run.train_rows[name] for name in ("prompt", "solution", "extra"))
    counted = counting(len(prompts) * own.pass_samples, "answers")
    given = (policy, run.tokenizer, prompts, run.settings.answers.batch, counted)
    with generation.answering(policy, run.hardware.answers, own.seed):
        several = generation.generate(*given, engine=run.hardware.engine, **sampling)
    del policy, given
    gc.collect()  # with Liger's kernels it refers to itself, and a trainer is about to be loaded
    return [
        {
            "prompt": prompt[-1]["content"],
            "solution": solution,
            "sampled": [answer.text for answer in found],
            "right": tasks.share_right([answer.text for answer in found], solution, extra, run.settings.answers.marks),
            "ended": sum(answer.ended for answer in found) / len(found),
        }
        for prompt, solution, extra, found in zip(prompts, solutions, extras, several, strict=True)
    ]
