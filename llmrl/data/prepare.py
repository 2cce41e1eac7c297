"""Makes one data set: `python -m llmrl.data.prepare sft`.

    its sources (built in, the user's files, repositories of the Hub)
      -> data/<name>/{train,eval}.parquet, source.json, sample.txt, held_out.jsonl; metrics/data/<name>.json

A defective row is dropped and counted by reason, up to a stated share; a defective file stops the run. Rows pass
through one by one into a file of their own, and of each a few bytes are kept, by which it is decided what is used. The
folder appears whole, by rename, once everything is written.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmrl.data import spool
from llmrl.data.held_out import HELD_OUT, policies, without_near, write_held_out
from llmrl.data.mixing import quotas, shares
from llmrl.data.overlap import HeldOut
from llmrl.data.settings import DATA_SETS, Data, Preference, Source
from llmrl.data.sieve import NEAR, OVER, UNUSED_FOR, Sieve
from llmrl.data.spool import CHUNK, EVAL, TRAIN, Distinct, Written
from llmrl.data.summary import closing_lines, shortened
from llmrl.errors import InputError, reported
from llmrl.progress import Progress
from llmrl.repository import replaced

SIDES = ("train", "eval")
MORE = 1.02  # of rows are made, where they are, than are wanted: some may be near-duplicates of held-out prompts


def prepare(name: str, data: Data, out: Path) -> tuple[dict[str, Any], str]:
    """Write the data set into `out`; the figures of it, and what it is in words. Raises InputError where a source is
    not what it must be.
    """
    source: Source = getattr(data, name)
    if isinstance(source, Preference) and source.sampled:
        return without_rows(name, out)
    with Progress(f"data/{name}") as progress, tempfile.TemporaryDirectory(dir=out, prefix=".rows-") as folder:
        sieves = sifted(name, data, source, progress, Path(folder))
        reports = [sieve.report() for sieve in sieves]
        held_out, weights = out / HELD_OUT, [sieve.part.weight for sieve in sieves]
        chosen = {"eval": used_rows(sieves, EVAL, shares(rows_on(sieves, EVAL), weights, source.eval_rows))}
        write_held_out(sieves, name, chosen["eval"], held_out)
        rows = sum(len(sieve.spool.side) for sieve in sieves if sieve.task is None)
        without_near(sieves, held_out, progress.counting(rows, "rows compared with held-out prompts"))
        chosen["train"] = used_rows(sieves, TRAIN, quotas(rows_on(sieves, TRAIN), weights, source.rows))
        require_rows(name, data, sieves, chosen)
        measured = HeldOut(policies(held_out))
        rows = sum(int(mask.sum()) for masks in chosen.values() for mask in masks)
        written = write(name, sieves, chosen, out, measured, progress.counting(rows, "rows written"))
    write_text(out / "sample.txt", "\n".join(text for sieve in sieves for text in sieve.samples))
    counts = {"read": sum(sieve.read for sieve in sieves), **written}
    counts |= {reason: sum(sieve.counts[reason] for sieve in sieves) for reason in UNUSED_FOR}
    overlap = {"held_out_prompts": measured.num_prompts, "exact": measured.exact, "shared": measured.shared}
    report = {"sources": reports, "rows": counts, "overlap": overlap}
    write_text(out / "source.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if measured.shared > data.max_overlap * measured.num_prompts:
        asked = [*policies(held_out)]
        some = "; ".join(repr(shortened(asked[one.prompt])) for one in measured.examples[:3])
        raise InputError(
            f"data/{name}: {measured.shared} of {measured.num_prompts} held-out prompts stand in the text to train on, "
            f"{measured.exact} of them word for word, more than data.max_overlap in params.yaml allows "
            f"({data.max_overlap:g}): {some}. Leave those rows out, or raise it."
        )
    return {"rows": written, "overlap": overlap}, closing_lines(name, report, sieves)


def without_rows(name: str, out: Path) -> tuple[dict[str, Any], str]:
    """The same of a set whose rows a policy's answers become, once there is one (llmrl/pairs): what is held out of what
    it is prepared after is handed on.
    """
    write_held_out([], name, [], out / HELD_OUT)
    rows, asked = dict.fromkeys(SIDES, 0), sum(1 for _ in policies(out / HELD_OUT))
    overlap = {"held_out_prompts": asked, "exact": 0, "shared": 0}
    report = {"sources": [], "rows": {"read": 0, **rows}, "overlap": overlap}
    write_text(out / "source.json", json.dumps(report, indent=2) + "\n")
    return {"rows": rows, "overlap": overlap}, "no rows: data/pairs is made of a policy's answers"


def sifted(name: str, data: Data, source: Source, progress: Progress, folder: Path) -> list[Sieve]:
    """The sources with all that is usable of them: those whose rows are made last, as they have no end."""
    seen = Distinct()
    sieves = [
        Sieve(name, data, part, seen, progress, folder / f"{number}.arrow") for number, part in enumerate(source.parts)
    ]
    ends = [sieve for sieve in sieves if not sieve.made]
    for sieve in ends:
        sieve.take()
    total = sum(sieve.part.weight for sieve in sieves)
    for sieve in sieves:
        if sieve.made:
            scales = [one.counts["train"] / one.part.weight for one in ends]
            scales += [] if source.rows is None else [source.rows / total]
            limits = {"train": min(scales) * sieve.part.weight * MORE + 10}
            if source.eval_rows is not None:
                limits["eval"] = source.eval_rows * sieve.part.weight / total
            sieve.take(limits)
    return sieves


def rows_on(sieves: list[Sieve], side: int) -> list[int]:
    """How many rows of each source are on a side."""
    return [int((sieve.spool.side == side).sum()) for sieve in sieves]


def used_rows(sieves: list[Sieve], side: int, most: list[int]) -> list[np.ndarray]:
    """Which rows of each source are used on a side (bool), at most so many; the others are counted."""
    found = [sieve.spool.chosen(side, some, sample=not sieve.made) for sieve, some in zip(sieves, most, strict=True)]
    for sieve, chosen, count in zip(sieves, found, rows_on(sieves, side), strict=True):
        sieve.counts[OVER] += count - int(chosen.sum())
    return found


def require_rows(name: str, data: Data, sieves: list[Sieve], chosen: dict[str, list[np.ndarray]]) -> None:
    """Raise InputError where a side has no rows, with the reason."""
    for side, masks in sorted(chosen.items(), reverse=True):
        if any(mask.any() for mask in masks):
            continue
        read, near = sum(sieve.read for sieve in sieves), sum(sieve.counts[NEAR] for sieve in sieves)
        questions = set().union(*(sieve.questions for sieve in sieves))
        needs = f"it needs more rows, or another data.eval_share in params.yaml (now {data.eval_share:g})"
        if len(questions) == 1 and read > 1:
            needs = (
                f"all begin with one user turn ({shortened(questions.pop())!r}), which decides the side of the split, "
                "so all fall on one. It needs rows that begin otherwise, or an evaluation set that "
                f"data.{name}.eval names"
            )
        elif side == "train" and near:
            needs = f"{near} of them are near-duplicates of held-out prompts; it needs others"
        raise InputError(f"data/{name}/{side}.parquet would have no rows, of {read} read; {needs}.")


def write(
    name: str,
    sieves: list[Sieve],
    chosen: dict[str, list[np.ndarray]],
    out: Path,
    measured: HeldOut,
    counted: Callable[[int], None],
) -> dict[str, int]:
    """Write the rows of both sides, one after the other, and count them: those to train on in the order of the sources,
    those held out in that of their hashes, so that the first of them are a sample. Texts to train on are looked up in
    what is `measured`; `counted` is told how many more are written.
    """
    more, tools = (
        any(
            sieve.spool.need(what, mask) for masks in chosen.values() for sieve, mask in zip(sieves, masks, strict=True)
        )
        for what in ("more", "tools")
    )
    files = {side: Written(out / f"{side}.parquet", spool.schema(name, more=more, tools=tools)) for side in SIDES}
    for sieve, masks in zip(sieves, chosen["train"], strict=True):
        for place, batch in sieve.spool.batches():
            training = batch.filter(pa.array(masks[place]))
            for column in spool.COLUMNS[name][0] if sieve.task is None else ():
                measured.look_up(training.column(column).flatten().field("content"))
            if sieve.asking.changes and sieve.task is None:  # and as the data has it, without a template
                measured.look_up(training.column("question"))
            files["train"].write(files["train"].fitted(training))
            counted(len(training))
    columns = list(dict.fromkeys(column for sieve in sieves for column in sieve.extra_columns))
    metadata = {"extra_columns": json.dumps(columns)} if columns else {}
    files["train"].close(metadata)
    held_out, orders = list[pa.Table](), list[int]()
    for sieve, masks in zip(sieves, chosen["eval"], strict=True):
        for place, batch in sieve.spool.batches():
            held_out.append(files["eval"].fitted(batch.filter(pa.array(masks[place]))))
            as_made = sieve.made and len(sieves) == 1
            orders += [0] * len(held_out[-1]) if as_made else sieve.spool.order[place][masks[place]].tolist()
    starts = np.cumsum([0, *map(len, held_out)])
    places = np.argsort(np.array(orders, np.int64), kind="stable")
    for start in range(0, len(places), CHUNK):  # all at once, or from one table, they would take twice the memory
        some = places[start : start + CHUNK]
        tables = np.searchsorted(starts, some, "right") - 1
        single = (held_out[table].slice(place, 1) for table, place in zip(tables, some - starts[tables], strict=True))
        files["eval"].write(pa.concat_tables(single))
        counted(len(some))
    files["eval"].close(metadata)
    return {side: file.rows for side, file in files.items()}


def write_text(path: Path, text: str) -> None:
    """Write a text of the user's data, in which there may be half a character."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def main(name: str) -> None:
    """Prepare data/<name>, whole or not at all, and write its figures into metrics/."""
    from llmrl import params

    data = params.experiment().data
    gc.disable()  # which rows do not need: they refer to no row; to look for circles takes a twentieth of the time
    try:
        with replaced(Path("data", name)) as unfinished:
            figures, said = prepare(name, data, unfinished)
    finally:
        gc.enable()
    metrics = Path("metrics/data", f"{name}.json")
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps({"data": {name: figures}}, indent=2) + "\n", encoding="utf-8")
    print(f"data/{name}: {said}".encode(errors="backslashreplace").decode())  # half a character is no UTF-8


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m llmrl.data.prepare", description="Prepare one data set, data/<name>.")
    parser.add_argument("name", choices=DATA_SETS)
    with reported():
        main(parser.parse_args().name)
