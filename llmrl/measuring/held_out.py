"""Measuring a stage's model, as it was saved and is loaded again, by what is held out: TRL's evaluation, and answers.

Every policy is measured by one protocol: a greedy and several sampled answers to each prompt. Greedy alone hides what
preference and RL stages do (it flips with the likeliest style); sampled alone rewards mere sharpening.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl import repository
from llmrl.answers import gym
from llmrl.answers.generation import answering, generate
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.measuring import intervals, scoring
from llmrl.measuring.answers import (
    HELD_OUT_PROMPTS,
    SCHEMA,
    Tables,
    made_of,
    mean_scores,
    policy_name,
    summary,
    tabled,
    with_origin,
)
from llmrl.training import loop, processes, rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from llmrl.measuring.figures import Figures
    from llmrl.progress import Progress
    from llmrl.training.run import Run
    from llmrl.training.settings import Settings

    Phase = Callable[[str], AbstractContextManager[Progress]]

HELD_OUT, BEFORE, AFTER = "held_out", "before.parquet", "after.parquet"
MADE_HERE = [Path("models", name) for name, stage in STAGES.items() if stage.answers]


def before_and_after(
    run: Run, build: loop.Build, figures: Figures, folder: str, phase: Phase
) -> tuple[dict[str, Any], dict[str, Any], Tables]:
    """The figures before training and of the model in `folder`, under our names, and what they were counted from: the
    tables of metrics/<stage>/held_out by name.

    What a stage made was measured by its answers then, and is not again. Of several processes the first measures these.
    """
    stage = STAGES[run.settings.stage]
    with phase("measuring after"):
        evaluation = loop.evaluation(run, build, folder, "after")
    before: dict[str, Any] = figures.named(figures.seen.before)
    after: dict[str, Any] = figures.named(figures.tracked(evaluation))
    tables: Tables = {}
    if stage.sides == 2 and "accuracy" in after:
        low, high = intervals.wilson(after["accuracy"], len(run.eval_rows))
        after |= {"accuracy_low": low, "accuracy_high": high, "n": len(run.eval_rows)}
    if not processes.first():
        return before, after, tables
    if not stage.answers:
        with phase("scoring pairs") as shown:
            tables["pairs"] = scoring.pairs(run, folder, shown.counting)
    else:
        init = run.settings.own.init
        first = {} if Path(init) in MADE_HERE else {"before": (init, before, policy_name(init))}
        for when, (policy, into, name) in (first | {"after": (folder, after, run.settings.stage)}).items():
            with phase(f"answering {when}") as shown:
                asked = answerable(run.settings, run.tokenizer)
                into["answers"], tables[when] = measure(run, policy, name, *asked, shown.counting)
                gc.collect()  # a model with Liger's kernels refers to itself
    if "reward_model" in stage.models:
        with phase("scoring answers") as shown:
            earlier = reversed([*ancestors(run.settings)])
            tables["scores"] = scoring.answers(run, [*earlier, *tables.values()], shown.counting)
        after["scores"] = mean_scores(tables["scores"])
    return before, after, tables


def ancestors(settings: Settings) -> Iterator[pa.Table]:
    """The answers of the policies that a stage's own comes from, the nearest first, as the stages that made them have
    kept them.

    No dependency of the stage names these files, as it may start from any model. But which they are, and each byte of
    them, follows from what does: raises InputError where they are not here, or of another model or other settings. A
    model that lies there by hand, of which DVC has recorded no answers, has none.
    """
    folder, model = Path(settings.own.init), ""
    prompts = dict(enumerate(prompt[-1]["content"] for prompt in rows.read(HELD_OUT_PROMPTS)["prompt"]))
    while folder in MADE_HERE:
        kept = Path("metrics", folder.name, HELD_OUT)
        if not (kept / AFTER).exists() and kept not in repository.recorded():
            return
        table = pq.read_table(kept / AFTER) if (kept / AFTER).exists() else SCHEMA.empty_table()
        known, asked = made_of(table), zip(table["row"].to_pylist(), table["prompt"].to_pylist(), strict=True)
        faults = {
            "not here": not (kept / AFTER).exists(),
            "of another model": known.get("model") != (model or repository.digest(folder)),
            "by other settings of `answers`": known.get("answers") != asdict(settings.answers),
            "to other prompts": any(prompts.get(row) != prompt for row, prompt in asked),
        }
        if fault := next((fault for fault, found in faults.items() if found), None):
            every = [str(Path("metrics", path.name, HELD_OUT)) for path in MADE_HERE if path.name != settings.stage]
            raise InputError(
                f"{kept}: {settings.stage} comes from {folder}, whose answers the reward model is to score beside its "
                f"own, and these are {fault}. `dvc pull {' '.join(every)}` brings them, where they were pushed; else "
                f"`dvc repro {folder.name}` gives them anew, and trains only what changed."
            )
        yield table
        if (kept / BEFORE).exists():
            yield pq.read_table(kept / BEFORE)
        folder, model = Path(known["init"]), known["init_model"]


def answerable(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, counting: rows.Counting = rows.unseen
) -> tuple[Dataset, int]:
    """The held-out prompts, with their place in the file as `row`, and how many the model's chat template refuses,
    which are left out. Raises InputError where these are more than may be.
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
    return (prompts.select(kept) if refused else prompts).add_column("row", kept), len(refused)


def measure(
    run: Run, folder: str, name: str, prompts: Dataset, refused: int = 0, counting: rows.Counting = rows.unseen
) -> tuple[dict[str, Any], pa.Table]:
    """Greedy and sampled answers of the policy in a folder, by its name, to each prompt, a row a prompt, and how many
    of them are right: figures over all prompts but those that were `refused`, and the rows.
    """
    protocol, policy = run.settings.answers, run.policy(folder)
    with answering(policy, run.hardware.answers, protocol.seed):
        counted = counting(len(prompts) * (1 + protocol.samples), "answers")
        given = (policy, run.tokenizer, prompts["prompt"], protocol.batch, counted)
        longest: dict[str, Any] = {"max_new_tokens": protocol.max_new_tokens, "engine": run.hardware.engine}
        greedy = generate(*given, **longest, do_sample=False)
        sampling = longest | {"do_sample": True, "temperature": float(protocol.temperature), "top_k": 0, "top_p": 1.0}
        sampled = generate(*given, **sampling, num_return_sequences=protocol.samples)
    init = Path(run.settings.own.init)
    known: dict[str, Any] = {"init": str(init), "init_model": repository.digest(init), "answers": asdict(protocol)}
    table = tabled(name, prompts, greedy, sampled, protocol.marks)
    if table["task"].null_count < len(table):
        known["reasoning_gym"] = gym.version()
    table = with_origin(table, model=repository.digest(Path(folder)), **known)
    return summary(table) | ({"refused": refused} if refused else {}), table
