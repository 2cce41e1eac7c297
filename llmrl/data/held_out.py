"""What is held out: written down by each set, and kept out of what it and the next ones train on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrl.data.asking import Opening
from llmrl.data.overlap import COMMON, HeldOut
from llmrl.data.sieve import NEAR, Sieve
from llmrl.data.spool import EVAL, TESTED, TRAIN, UNUSED

HELD_OUT = "held_out.jsonl"
# What is held out here, and by what this one is prepared after, is kept out of a set's training rows, as it is measured
# after these were trained on.
AFTER = {"sft": "preference", "preference": "prompts"}


def write_held_out(sieves: list[Sieve], name: str, measured: list[np.ndarray], path: Path) -> None:
    """Write the prompts that this set holds out, with whether they are `measured` by (of each source which rows, bool),
    and those of the sets that it is prepared after.
    """
    with path.open("w", encoding="utf-8") as file:
        for sieve, mask in zip(sieves, measured, strict=True):
            for place, batch in sieve.spool.batches():
                alone = np.isin(sieve.spool.side[place], (EVAL, TESTED))
                prompts = batch.select([*Opening._fields]).filter(pa.array(alone)).to_pylist()
                for one, used in zip(prompts, mask[place][alone].tolist(), strict=True):
                    file.write(json.dumps({"set": name, "measured": used, **one}, ensure_ascii=False) + "\n")
        if name in AFTER:
            others = Path("data", AFTER[name], HELD_OUT)
            if others.exists():
                file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in prompts_in(others))
            else:  # `dvc repro` prepares it before
                print(f"data/{AFTER[name]} is not prepared: what it holds out is not kept out of data/{name}.")


def prompts_in(path: Path) -> Iterator[dict[str, Any]]:
    """Prompts that are held out: of which set, whether they are measured by, the question and what stands before it.
    Read anew by whoever needs them, as there may be any number.
    """
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def policies(held_out: Path) -> Iterator[str]:
    """The questions that policies are measured by."""
    return (one["question"] for one in prompts_in(held_out) if one["set"] == "prompts" and one["measured"])


def questions(held_out: Path) -> Iterator[str]:
    """The held-out questions by themselves: under another system text it is the same question. But not such as begin
    many conversations ("Hi"), which what stands before tells apart.
    """
    before: dict[int, set[int]] = {}  # hashes, as there may be many
    for one in prompts_in(held_out):
        before.setdefault(hash(one["question"]), set()).add(hash(one["before"]))
    yield from (one["question"] for one in prompts_in(held_out) if len(before[hash(one["question"])]) <= COMMON)


def without_near(sieves: list[Sieve], held_out: Path, compared: Callable[[int], None]) -> None:
    """Take what is a near-duplicate of a held-out prompt out of the rows to train on; `compared` is told of how many
    more that is known. Questions that a task of reasoning-gym makes are all alike, and none is another: the same one is
    on the same side in all sets.
    """
    index = HeldOut(f"{one['before']}\n{one['question']}" for one in prompts_in(held_out))
    # Where nothing stands before any question, that is all.
    bare = HeldOut(questions(held_out)) if any(one["before"] for one in prompts_in(held_out)) else None
    for sieve in sieves:
        for place, batch in sieve.spool.batches() if sieve.task is None else ():
            training = sieve.spool.side[place] == TRAIN
            some = batch.filter(pa.array(training))
            asked = pc.binary_join_element_wise(some.column("before"), some.column("question"), "\n")
            found = index.near(asked)
            if bare is None and any(some.column("before").to_pylist()):
                bare = HeldOut(questions(held_out))
            if bare is not None:
                found |= bare.near(some.column("question"))
            (near,) = np.nonzero(training)
            near = near[found]
            sieve.spool.side[place.start + near] = UNUSED
            sieve.counts[NEAR] += len(near)
            sieve.counts["train"] -= len(near)
            compared(len(batch))
