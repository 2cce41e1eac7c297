"""What went in: the rows of each data set, from its source to what is trained on and held out; what of the held-out
prompts stands in the text to train on; how long the texts are; some of them to read.

`prepare` counts rows and overlap (metrics/data/, source.json), the stages what they leave out for its length. Lengths
are counted here, in characters: tokens are a tokenizer's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrl import repository
from llmrl.data.held_out import HELD_OUT, policies
from llmrl.data.overlap import HeldOut, N
from llmrl.data.settings import DATA_SETS
from llmrl.data.spool import COLUMNS
from llmrl.graph import STAGES
from llmrl.pairs.summary import WITHOUT
from llmrl.report.curves import COLOURS
from llmrl.report.document import Block, Chart, Command, Grid, Heading, Quote, Quotes, Section, Tone, Words
from llmrl.report.recorded import WORKSPACE, Recorded, bringing, kept
from llmrl.sources import SAMPLED

TITLE = "What went in"
MOST = 100_000  # rows of which lengths are counted, from all over a file: a second or two
LOOKED = 20_000  # rows in which examples of overlap are looked for: two seconds
OVERLAP = 0.05  # data.max_overlap as the profiles have it
LEFT_OUT = 0.1  # of a stage's rows: more, and it does not train on what was prepared
BINS = 30
SHOWN = 3  # examples of a kind
LONG = 1000  # characters of an example
NONE = "–"
# What else than being too long keeps a row out of a stage, as metrics/ calls it.
REASONS = {
    "rows_too_long": "too long",
    "rows_refused": "refused",
    "rows_too_easy": "too easy",
    "rows_too_hard": "too hard",
}

# What is counted of a policy's answers, as metrics/ calls it.
PAIRED = {
    "prompts": "prompts asked",
    **WITHOUT,
    "answers": "answers",
    "right": "right",
    "cut_off": "cut off, in no pair",
    "empty": "empty, in no pair",
    "pairs": "pairs",
    "chosen_tokens": "tokens of a chosen answer",
    "rejected_tokens": "tokens of a rejected one",
    "shorter_right": "the shorter is the chosen one (ties count half)",
    "longer_right": "the longer is the chosen one (ties count half)",
}
BY_LENGTH = 0.6  # of pairs, ranked right by their lengths alone: worth a look

Files = dict[str, Path]


def what_went_in(experiment: Recorded) -> Section:
    """The section."""
    files = {name: found for name, found in data_files(experiment).items() if found}
    sources = {
        name: json.loads(found["source.json"].read_text(encoding="utf-8"))
        for name, found in files.items()
        if "source.json" in found
    }
    prepared = [name for name in DATA_SETS if experiment.data.get(name)]
    blocks: list[Block] = [*unprepared(experiment, files)]
    blocks += overlapping(experiment, prepared, files)
    blocks += [*rows_read(experiment, sources), *rows_kept(experiment, prepared, sources), *kept_out(experiment)]
    blocks += answers_paired(experiment)
    trained = {name: files[name]["train.parquet"] for name in prepared if "train.parquet" in files.get(name, {})}
    blocks += how_long(experiment, trained)
    if trained:
        blocks.append(Heading("Rows to train on"))
    blocks += [Quotes(folder_of(experiment, name), samples(name, path)) for name, path in trained.items()]
    return Section("inputs", TITLE, blocks)


def data_files(experiment: Recorded) -> dict[str, Files | None]:
    """The files of each data set by their names, here or in DVC's cache; None where they are in neither."""
    here = experiment.revision == WORKSPACE
    with repository.caches() as repo:
        found = {name: kept(repo, experiment.locks, folder_of(experiment, name), here) for name in DATA_SETS}
        pairs = found["preference"]
        if pairs and HELD_OUT not in pairs and (beside := kept(repo, experiment.locks, "data/preference", here)):
            found["preference"] = pairs | {HELD_OUT: beside[HELD_OUT]} if HELD_OUT in beside else pairs
    return found


def folder_of(experiment: Recorded, name: str) -> str:
    """Where the rows of a data set lie: those of a policy's answers apart, as it was trained in between."""
    return "data/pairs" if name == "preference" and paired_answers(experiment) else f"data/{name}"


def paired_answers(experiment: Recorded) -> dict[str, Any]:
    """By side what became of the answers that pairs were made of; nothing where these are of other data."""
    return {key: value for key, value in experiment.data.get("preference", {}).items() if key in ("train", "eval")}


def unprepared(experiment: Recorded, files: dict[str, Files]) -> Iterator[Block]:
    """What is missing, and the command that brings it."""
    place = "" if experiment.revision == WORKSPACE else f"in a checkout of {experiment.revision} "
    missing = [folder_of(experiment, name) for name in DATA_SETS if name not in files and experiment.data.get(name)]
    if missing:
        yield Words(
            f"Neither here nor in this machine's cache: {enumerated(missing)}. What was read and dropped, lengths and "
            "rows are not shown.",
            "note",
        )
        yield bringing(experiment, missing)
    unknown = [f"data/{name}" for name in DATA_SETS if not experiment.data.get(name)]
    if unknown:
        yield Words(f"Of {enumerated(unknown)} metrics/data/ records nothing.", "note")
        yield Command("dvc repro data/dvc.yaml", f"{place}prepares the data")


def enumerated(names: list[str]) -> str:
    """Names, in words."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# --- held-out prompts in the text to train on ------------------------------------------------------------------------


def overlapping(experiment: Recorded, prepared: list[str], files: dict[str, Files]) -> Iterator[Block]:
    """How many of the prompts that policies are measured by stand in each data set's text to train on, and some."""
    limit = experiment.params.get("data", {}).get("max_overlap", OVERLAP)
    clean: dict[int, list[str]] = {}  # by how many were looked for
    for name in prepared:
        overlap, folder = experiment.data[name].get("overlap", {}), folder_of(experiment, name)
        asked, exact, shared = (overlap.get(key, 0) for key in ("held_out_prompts", "exact", "shared"))
        if not shared:
            clean.setdefault(asked, []).append(folder)
            continue
        tone: Tone = "bad" if exact or shared > min(limit, OVERLAP) * asked else "note"
        said = (
            f"{shared:,} of the {asked:,} held-out prompts ({shared / asked:.1%}) stand in the text to train on of "
            f"{folder}: {exact or 'none'} word for word, {shared - exact or 'none'} for the most part (over half of "
            f"the words, in runs of {N} or more, and all numbers)."
        )
        if tone == "bad":
            said += (
                " Answers to these may have been learnt by heart: right answers are no measure of what it can do there."
            )
        if limit > OVERLAP:
            said += f" `data.max_overlap` allows {limit:g}; the profiles stop at {OVERLAP:g}."
        yield Words(said, tone)
        if found := examples(name, files.get(name, {})):
            yield Quotes(f"Held-out prompts, each with a text to train on in {folder} that has it", found)
    for asked, names in clean.items():
        where = f"the text to train on of {enumerated(names)}"
        if asked:
            yield Words(f"None of the {asked:,} held-out prompts stands in {where}.", "good")
        else:
            yield Words(f"There were no held-out prompts to look for in {where}.", "note")


def examples(name: str, files: Files) -> list[Quote]:
    """Held-out prompts with a text that they stand in, as far as the first rows have such; none where files are not
    here.
    """
    if not {HELD_OUT, "train.parquet"} <= files.keys():
        return []
    prompts = [*policies(files[HELD_OUT])]
    index, found = HeldOut(prompts), list[Quote]()
    for table in pieces(files["train.parquet"], COLUMNS[name][0], every=1):
        for column in COLUMNS[name][0]:
            before, texts = index.num_texts, contents(table.column(column))
            index.look_up(texts)
            for prompt, text in index.examples[len(found) :]:
                found.append(Quote(beginning(texts[text - before].as_py()), beginning(prompts[prompt])))
        if len(found) >= SHOWN or index.num_texts > LOOKED:
            break
    return found[:SHOWN]


# --- rows ------------------------------------------------------------------------------------------------------------


def rows_read(experiment: Recorded, sources: dict[str, dict[str, Any]]) -> Iterator[Block]:
    """What was read of each source, and dropped, with the reason."""
    yield Heading("Rows")
    rows, notes = [], list[Words]()
    for name in DATA_SETS:
        section = experiment.params.get("data", {}).get(name, {})
        for part in sources[name]["sources"] if name in sources else sources_of(section):
            cells = ["not known"] * 3
            if name in sources:
                first = part.get("first_dropped", {})
                dropped = [f"{why}: {n:,} (first: {first.get(why, '?')})" for why, n in part["rows"]["dropped"].items()]
                cells = [*(f"{part['rows'][key]:,}" for key in ("read", "kept")), "; ".join(dropped) or "none"]
                notes += unused(name, part)
            rows.append([source_named(name, part), part.get("revision") or NONE, *cells])
    caption = "A built-in task has no end: as many of its rows are made as are wanted, and repeat themselves."
    yield Grid(["source", "commit", "rows read", "usable", "dropped"], rows, caption)
    yield from notes


def sources_of(section: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources of a data set, as params.yaml has them: one, or those it is mixed from."""
    several = section.get("source")
    return [one for one in several if isinstance(one, dict)] if isinstance(several, list) else [section]


def source_named(name: str, part: dict[str, Any]) -> str:
    """A source, with what was asked of it beside."""
    more = [part["subset"]] if part.get("subset") else []
    more += [f"split {part['split']}"] if part.get("split", "train") != "train" else []
    more += [f"weight {part['weight']:g}"] if part.get("weight", 1) != 1 else []
    more += [f"format {part['format']}"] if part.get("format") else []
    more += [key for key in ("system", "template") if part.get(key)]
    more += [f"answers of {part['policy']}"] if part.get("source") == SAMPLED else []
    return f"{name}: {part.get('source', 'not known')}" + (f" ({', '.join(more)})" if more else "")


def unused(name: str, part: dict[str, Any]) -> Iterator[Words]:
    """What of a source was there and was not used."""
    about = {
        "files not read": [f"{file} ({why})" for file, why in part.get("files_not_read", {}).items()],
        "never trained on, by its name": part.get("held_out_files", []),
        "columns and fields not used": [f"{one} ({number:,} rows)" for one, number in part.get("not_used", {}).items()],
        "not handed on to rewards": [f"{one} ({why})" for one, why in part.get("left_out", {}).items()],
    }
    for what, found in about.items():
        if found:
            more = f" and {len(found) - SHOWN:,} more (data/{name}/source.json)" if len(found) > SHOWN else ""
            yield Words(f"{name}: {what}: {', '.join(found[:SHOWN])}{more}.", "note")


def rows_kept(experiment: Recorded, prepared: list[str], sources: dict[str, dict[str, Any]]) -> Iterator[Block]:
    """What became of the usable rows."""
    if not prepared:
        return
    counts = {name: experiment.data[name].get("rows", {}) for name in prepared}
    reasons = [*dict.fromkeys(why for one in sources.values() for why, number in one["rows"].items() if number)]
    rows = [
        [called, *(f"{counts[name][key]:,}" if key in counts[name] else NONE for name in prepared)]
        for called, key in (("to train on", "train"), ("held out", "eval"))
    ]
    for why in reasons:
        if why not in ("read", "train", "eval"):
            found = [sources[name]["rows"].get(why, 0) if name in sources else None for name in prepared]
            rows.append([f"not used: {why}", *("not known" if number is None else f"{number:,}" for number in found)])
    yield Grid(["usable rows", *prepared], rows)


def answers_paired(experiment: Recorded) -> Iterator[Block]:
    """What became of the policy's answers of which pairs were made, and what their lengths alone tell."""
    if not (told := paired_answers(experiment)):
        return
    yield Heading("Pairs from the policy's own answers")
    names = [name for name in PAIRED if any(counts.get(name) is not None for counts in told.values())]
    rows = [[PAIRED[name], *(as_counted(counts.get(name)) for counts in told.values())] for name in names]
    yield Grid(["", *({"train": "to train on", "eval": "held out"}[side] for side in told)], rows)
    share = max(told["train"][name] for name in ("shorter_right", "longer_right"))
    kind = "longer" if told["train"]["longer_right"] == share else "shorter"
    yield Words(
        f"Who saw lengths alone would choose rightly in {share:.0%} of the pairs to train on, by the {kind} answer.",
        "note" if share > BY_LENGTH else "plain",
    )


def as_counted(value: float | None) -> str:
    """A count, a mean or a share."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.0%}" if value <= 1 else f"{value:,.1f}"


def kept_out(experiment: Recorded) -> Iterator[Block]:
    """The rows that the stages did without, most of all those that are too long."""
    rows, notes = [], []
    for stage, table in STAGES.items():
        figures = experiment.figures.get(stage, {})
        if "rows" not in figures:
            continue
        settings = experiment.provenance.get(stage, {}).get("settings", {}) | experiment.params.get(stage, {})
        limit = settings.get("max_prompt_length" if table.generates else "max_length")
        found = {called: int(figures[key]) for key, called in REASONS.items() if figures.get(key)}
        used, lost = int(figures["rows"]), sum(found.values())
        whole = sum(experiment.data.get(table.data, {}).get("rows", {}).values()) or used + lost
        said = ", ".join(f"{why}: {number:,}" for why, number in found.items())
        rows.append(
            [
                stage,
                folder_of(experiment, table.data),
                f"{used:,}",
                said or "none",
                f"{limit:,} tokens" if limit else NONE,
            ]
        )
        if lost > LEFT_OUT * whole:
            notes.append(Words(f"{stage} did without {lost:,} of {whole:,} rows ({lost / whole:.0%}), {said}.", "bad"))
        if refused := figures.get("answers", {}).get("refused"):
            notes.append(
                Words(f"{stage} was not asked {refused:,} held-out prompts: the chat template refuses them.", "bad")
            )
    if rows:
        columns = ["stage", "of", "rows trained on", "left out", "longest"]
        yield Grid(columns, rows, "Rows left out are those to train on and those held out together.")
    yield from notes


# --- lengths and samples ---------------------------------------------------------------------------------------------


def pieces(path: Path, columns: tuple[str, ...], every: int) -> Iterator[pa.Table]:
    """Each so-manieth piece of a file's rows, 1,000 of them as `prepare` writes them."""
    with pq.ParquetFile(path) as file:
        for place in range(0, file.num_row_groups, every):
            yield file.read_row_group(place, columns=list(columns))


def contents(conversations: pa.ChunkedArray) -> pa.Array:
    """The texts of all turns."""
    return pc.fill_null(pc.struct_field(turns(conversations), "content"), "")


def turns(conversations: pa.ChunkedArray) -> pa.Array:
    return pc.list_flatten(conversations.combine_chunks())


def characters_of(conversations: pa.ChunkedArray, assistant: bool | None = None) -> np.ndarray:
    """The characters of each conversation's texts: of all turns, of the assistant's, or of the others."""
    whole = conversations.combine_chunks()
    characters = pc.utf8_length(contents(conversations)).to_numpy()
    if assistant is not None:
        spoken = pc.equal(pc.struct_field(turns(conversations), "role"), "assistant").to_numpy(zero_copy_only=False)
        characters = characters * (spoken == assistant)
    return np.bincount(pc.list_parent_indices(whole).to_numpy(), characters, len(whole))


def of_parts(name: str, table: pa.Table) -> dict[str, np.ndarray]:
    """The lengths of what is asked and what is answered, a number a row."""
    if name == "sft":
        both = table.column("messages")
        return {"prompts": characters_of(both, assistant=False), "answers": characters_of(both, assistant=True)}
    names = {column: "prompts" if column == "prompt" else column for column in COLUMNS[name][0]}
    return {called: characters_of(table.column(column)) for column, called in names.items()}


def how_long(experiment: Recorded, trained: dict[str, Path]) -> Iterator[Block]:
    """How long the rows to train on are: charts, and the numbers."""
    rows, charts, some = [], [], False
    for name, path in trained.items():
        with pq.ParquetFile(path) as file:
            every = math.ceil(file.metadata.num_rows / MOST) or 1
        found = [of_parts(name, table) for table in pieces(path, COLUMNS[name][0], every)]
        some |= every > 1
        values = {part: np.concatenate([one[part] for one in found]) for part in (found[0] if found else {})}
        for part, of_rows in values.items():
            middle, high, most = np.quantile(of_rows, [0.5, 0.95, 1])
            rows.append([f"{name}: {part}", f"{len(of_rows):,}", *(f"{value:,.0f}" for value in (middle, high, most))])
        if values:
            charts.append(drawn(folder_of(experiment, name), values))
    if rows:
        yield Heading("Lengths")
        yield from charts
        caption = f"Characters a row to train on{', of rows from all over the file' * some}; a stage counts tokens."
        yield Grid(["characters", "rows", "median", "95 %", "longest"], rows, caption)


def drawn(folder: str, values: dict[str, np.ndarray]) -> Chart:
    """The shares of rows by length, up to the longest but for one in a hundred."""
    top = max(float(np.quantile(of_rows, 0.99)) for of_rows in values.values())
    width = max(1, math.ceil((top + 1) / BINS))
    edges = np.arange(0, width * (math.ceil((top + 1) / width) + 1), width)
    points = []
    for part, of_rows in values.items():
        counts, _ = np.histogram(np.minimum(of_rows, edges[-1] - 1), edges)
        shares = (counts / len(of_rows)).tolist()
        points += [
            {"characters": int(edge), "share": round(share, 5), "of": part}
            for edge, share in zip(edges, [*shares, shares[-1]], strict=True)
        ]
    drawing = {
        "data": {"values": points},
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": {"field": "characters", "type": "quantitative", "title": "characters"},
            "y": {"field": "share", "type": "quantitative", "title": "share of rows", "axis": {"format": "%"}},
            "color": {
                "field": "of",
                "type": "nominal",
                "title": None,
                "sort": [*values],
                "scale": {"domain": [*values], "range": COLOURS[: len(values)]},
            },
        },
    }
    words = "; ".join(f"{part}: half are up to {np.median(found):,.0f} characters" for part, found in values.items())
    title = f"{folder}: length of the rows to train on"
    return Chart(title, drawing, f"{words}. The last step has all that are longer.")


def samples(name: str, path: Path) -> list[Quote]:
    """The first rows."""
    with pq.ParquetFile(path) as file:
        rows = next(file.iter_batches(SHOWN), pa.RecordBatch.from_pylist([])).to_pylist()
    return [row_shown(name, row) for row in rows]


def row_shown(name: str, row: dict[str, Any]) -> Quote:
    """A row, to read."""
    if name == "sft":
        return Quote(told(row["messages"][-1:]), told(row["messages"][:-1]))
    asked = told(row["prompt"])
    if name == "preference":
        return Quote("\n\n".join(f"[{side}]\n{told(row[side])}" for side in ("chosen", "rejected")), asked)
    return Quote(asked, facts=f"solution: {beginning(row['solution'])}" if row["solution"] else "no solution")


def told(conversation: list[dict[str, Any]]) -> str:
    """Turns, each with who speaks."""
    more = (f"\n{turn['more']}" if turn.get("more") else "" for turn in conversation)
    said = (f"{turn['role']}: {turn['content'] or ''}" for turn in conversation)
    return beginning("\n\n".join(map("".join, zip(said, more, strict=True))))


def beginning(text: str) -> str:
    """A text, or its beginning with how much more there is."""
    return text if len(text) <= LONG else f"{text[:LONG]} … {len(text) - LONG:,} characters more"
