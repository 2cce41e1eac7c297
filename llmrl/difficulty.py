"""Which prompts GRPO can learn from: those that the policy it starts from answers neither always nor never rightly.

    data/prompts -> the rows of it within grpo.pass_rate

Where all completions of a group are right, or all are wrong, none is better than another and nothing is learned. So
each prompt is answered a few times as training will answer it, and the share of right answers decides. A prompt
without a solution cannot be judged so; it stays, for the rewards that need none.
"""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import trl

from llmrl import answers, launch
from llmrl.errors import InputError

if TYPE_CHECKING:
    from llmrl.checkpoints import Store
    from llmrl.runs import Folder
    from llmrl.training import Run

TABLE = "prompts.parquet"


def choose(run: Run, store: Store, folder: Folder) -> tuple[Run, dict[str, int]]:
    """The run on the prompts within grpo.pass_rate alone; these and the others counted.

    How they were judged is kept with the checkpoints, so that a run that goes on need not judge again. Raises
    InputError where no row has the solution that is asked for, and where the rest is no batch.
    """
    own = run.settings.own
    needs = {"rewards.accuracy": "accuracy" in own.rewards, "pass_rate": own.pass_rate is not None}
    if (asked := [name for name in needs if needs[name]]) and not any(run.train_rows["solution"]):
        raise InputError(f"grpo.{asked[0]} in params.yaml needs solutions, and no row of data/prompts has one.")
    if own.pass_rate is None:
        return run, {}
    args = trl.GRPOConfig(**run.arguments)
    kept = store.folder / "judged"
    if launch.first() and not kept.exists():
        with folder.phase("judging prompts"):
            written = store.unfinished / kept.name
            written.mkdir()
            pq.write_table(pa.Table.from_pylist(judged(run, args)), written / TABLE)
            store.keep(written, kept.name, {})
    launch.wait()
    shutil.copyfile(kept / TABLE, folder.path / TABLE)
    table = pq.read_table(kept / TABLE)
    easy, hard, rows = sides(table["right"].to_pylist(), own.pass_rate)
    if len(rows) < (needed := args.generation_batch_size // args.num_generations):
        ended = sum(table["ended"].to_pylist()) / len(table)
        raise InputError(
            f"params.yaml: grpo.pass_rate: {len(rows)} of {len(table)} prompts are left, and a batch needs {needed}: "
            f"to {own.init} {easy} are too easy and {hard} too hard, by {own.pass_samples} answers each, of which "
            f"{1 - ended:.0%} were cut off at grpo.max_completion_length. Widen the range, take more or other prompts "
            "(data.prompts), or start from a better policy (grpo.init)."
        )
    counts = {"rows": len(rows), "rows_too_easy": easy, "rows_too_hard": hard}
    return replace(run, train_rows=run.train_rows.select(rows)), counts


def sides(rates: list[float | None], bounds: list[float]) -> tuple[int, int, list[int]]:
    """How many rows are too easy and too hard, and the numbers of the others.

    >>> sides([0.0, 0.5, 1.0, None], [0.1, 0.9])
    (1, 1, [1, 3])
    """
    low, high = bounds
    easy = sum(rate is not None and rate > high for rate in rates)
    hard = sum(rate is not None and rate < low for rate in rates)
    return easy, hard, [row for row, rate in enumerate(rates) if rate is None or low <= rate <= high]


def judged(run: Run, args: trl.GRPOConfig) -> list[dict[str, Any]]:
    """Answers to each prompt, sampled as GRPO's trainer samples its completions by the same arguments, and the share of
    them that is right.
    """
    own, policy = run.settings.own, run.policy(run.settings.own.init)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    sampling = {name: value for name in names if (value := getattr(args, name)) is not None}
    sampling |= {"do_sample": True, "max_new_tokens": args.max_completion_length} | (args.generation_kwargs or {})
    prompts, solutions = run.train_rows["prompt"], run.train_rows["solution"]
    with answers.answering(policy, run.hardware.answers, own.seed):
        several = answers.generate(
            policy,
            run.tokenizer,
            prompts,
            run.settings.answers.batch,
            args.chat_template_kwargs,
            num_return_sequences=own.pass_samples,
            **sampling,
        )
    del policy
    gc.collect()  # with Liger's kernels it refers to itself, and a trainer is about to be loaded
    return [
        {
            "prompt": prompt[-1]["content"],
            "solution": solution,
            "sampled": [answer.text for answer in found],
            "right": answers.share(found, solution),
            "ended": sum(answer.ended for answer in found) / len(found),
        }
        for prompt, solution, found in zip(prompts, solutions, several, strict=True)
    ]
