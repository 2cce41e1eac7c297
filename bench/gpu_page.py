"""The tables of docs/gpu.md that bench.speed and bench.generation measure: `python -m bench.gpu_page [FOLDER]`.

    speed.jsonl, generation.jsonl of FOLDER  ->  bench/results/h100-2026-11-27.json  ->  the tables, in their places

Without a folder the tables alone, from what bench/results/ has; with one, what was measured there is added to it, or
takes the place of what was measured before. Hours are arithmetic from these figures: of the card
that was measured, and of one of 6 GB.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from math import isnan, nan
from pathlib import Path
from typing import Any

from bench import gpu_jobs, inputs
from bench.gpu_jobs import AUTO, CAP, EQUAL, NEW, PROFILE, PROFILES, ROOT, TRL
from bench.tables import with_rows
from llmrl import params
from llmrl.devices import Machine
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.memory import auto, formula
from llmrl.memory.shape import Shape
from llmrl.plan import costs
from llmrl.training.settings import Settings

PAGE = ROOT / "docs/gpu.md"
RESULTS = ROOT / "bench/results/h100-2026-11-27.json"
FORMER = ROOT / "bench/results/h100-2026-11-26.json"
TRIED = ROOT / "bench/results/h100-2026-11-27-tried.json"
SMALL = Machine("cuda", "a card of 6 GB", "bf16", total=6 * 2**30, generation=8)
MISSING = "not measured"
WAY = ("profile", "way", "lora", "rows")  # what a measurement of generating is named by
Found = dict[str, Any]
Rows = list[list[str]]


def gathered(folder: Path) -> Found:
    """What the two wrote, as one: of each call its first line is about it."""
    found: Found = {}
    for name in ("speed", "generation"):
        lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        found |= {key: value for key, value in lines[0].items() if key != "command"}
        found.setdefault("commands", {})[name] = lines[0]["command"].partition(" --out")[0]
        found[name] = lines[1:]
    return found


def joined(old: Found, new: Found) -> Found:
    """What is on record with what was measured since: of what was measured twice, the later. Raises InputError where it
    is of another card or other libraries, beside which it would say nothing.
    """
    if other := [name for name in ("device", "versions") if name in old and old[name] != new[name]]:
        raise InputError(f"{RESULTS.name} is of another {' and '.join(other)}: move it away to begin anew.")
    found = dict(new)
    for name, keys in {"speed": ("profile", "stage", "side", "cap"), "generation": WAY}.items():
        rows = {tuple(row[key] for key in keys): row for row in (*old[name], *new[name])}
        found[name] = [*rows.values()]
    return found


@cache
def results(path: Path) -> Found:
    """Those on record, or none."""
    return json.loads(path.read_text()) if path.exists() else {"speed": [], "generation": []}


def one(found: list[Found], **named: Any) -> Found | None:
    """The measurement that is named so, and gave figures."""
    return next((row for row in found if named.items() <= row.items() and "failed" not in row), None)


def training() -> Rows:
    """Tokens a second, each beside TRL's, with the sequences at once."""
    found, made = results(RESULTS)["speed"], []
    for profile in PROFILES:
        for stage in STAGES:
            all_of_it = {"profile": profile, "stage": stage}
            theirs = one(found, **all_of_it, side=TRL)
            if theirs is None:
                continue
            ways = [(EQUAL, theirs["cap"]), (AUTO, CAP), (AUTO, None), (PROFILE, CAP)]
            cells = [cell(one(found, **all_of_it, side=side, cap=cap), theirs) for side, cap in ways]
            made.append([profile, stage, f"{theirs['tokens_per_second']:,.0f}", *cells])
    return made


def cell(row: Found | None, theirs: Found) -> str:
    if row is None:
        return MISSING
    if not row["fits"]:
        return "out of memory"
    times = row["tokens_per_second"] / theirs["tokens_per_second"]
    how = f"{row['micro_batch']}{', twice' if row['twice'] else ''}"
    return f"{row['tokens_per_second']:,.0f} ({times:.2f}; {how})"


def generating() -> Rows:
    """Milliseconds a token, and how many times the reading's."""
    made = []
    for row in sorted(results(RESULTS)["generation"], key=lambda row: (PROFILES.index(row["profile"]), row["lora"])):
        if "failed" in row:
            continue
        way = (TRL if row["way"] == TRL else f"`{row['way']}`") + (", LoRA" if row["lora"] else "")
        times = row["ms"] / row["reading_ms"]
        figures = [f"{row['ms']:.2f}", f"{row['reading_ms']:.2f}", f"{times:.1f}", f"{row['first_s']:.1f}"]
        made.append([row["profile"], str(row["rows"]), way, *figures, f"{row['gib']:.2f}"])
    return made


def hours() -> Rows:
    """Hours of each stage's training: of the card that was measured, then of a card of 6 GB; of GRPO also those of
    them in which it generates.
    """
    made = []
    for profile in PROFILES:
        totals, chosen = [0.0, 0.0], params.experiment(gpu_jobs.file(profile))
        for stage in STAGES:
            settings, count = chosen.stages[stage], sequences(profile, stage)
            if count is None or not results(RESULTS)["speed"]:
                break
            steps, pairs = count / settings.own.batch, (measured(profile, settings), reckoned(profile, settings))
            hours = [pair and (steps * pair[0] / 3600, steps * pair[1] / 3600) for pair in pairs]
            totals = [total + sum(two) if two else nan for total, two in zip(totals, hours, strict=True)]
            made.append([profile, stage, *(spelled(*two) if two else MISSING for two in hours)])
        else:
            made.append([profile, "all four", *(MISSING if isnan(total) else f"{total:.1f}" for total in totals)])
    return made


def sequences(profile: str, stage: str) -> int | None:
    """How many a profile's training takes, pairs and completions as one each; None where its rows are not counted."""
    experiment = params.experiment(gpu_jobs.file(profile))
    settings = experiment.stages[stage]
    if (steps := settings.option("max_steps")) > 0:
        return steps * settings.own.batch
    each = settings.option("num_generations") if STAGES[stage].generates else 1
    rows = getattr(experiment.data, STAGES[stage].data).rows
    return rows and round(settings.option("num_train_epochs") * rows * each)


def spelled(train: float, generate: float) -> str:
    return f"{train + generate:.2f}" + (f" ({generate:.2f})" if generate else "")


def measured(profile: str, settings: Settings) -> tuple[float, float] | None:
    """The seconds of a step on the card that was measured, training and generating; GRPO's of longer completions than
    were measured, whose tokens take as long each.
    """
    found = results(RESULTS)
    row = one(found["speed"], profile=profile, stage=settings.stage, side=AUTO, cap=None)
    if row is None or not row["fits"]:
        return None
    seconds = settings.own.batch / row["sequences_per_second"]
    if not STAGES[settings.stage].generates:
        return seconds, 0.0
    if (token := recorded(profile, settings, row["batch"])) is None:
        return None
    new = settings.option("max_completion_length")
    rest = seconds - NEW * token["ms"] / 1000  # all completions of a step are generated at once
    longer = formula.length(settings) / (settings.own.max_prompt_length + NEW)
    return rest * longer, new * token["ms"] / 1000


def recorded(profile: str, settings: Settings, at_once: int) -> Found | None:
    """The measurement of a token by cuda_graphs, of so many completions at once; where it was not measured with
    adapters, without: they are added to the matrices, which are then multiplied as any others.
    """
    tokens, named = results(RESULTS)["generation"], {"profile": profile, "way": "cuda_graphs", "rows": at_once}
    return one(tokens, **named, lora=settings.own.lora is not None) or one(tokens, **named, lora=False)


def reckoned(profile: str, settings: Settings) -> tuple[float, float] | None:
    """The same of a card of 6 GB, by arithmetic: its operations, as llmrl/plan/costs.py counts them, at what it assumes
    of such a card; a token's reading, and what the card that was measured took beyond that.
    """
    config = inputs.MODELS[profile]
    shape = Shape.of(config)
    assert shape is not None
    planned = formula.on_machine(SMALL, auto.resolved(settings, config, SMALL), shape)
    train = costs.operations(planned) / costs.GPU
    if not planned.stage.generates:
        return train, 0.0
    if (token := recorded(profile, settings, planned.generated)) is None:
        return None
    new, rounds = settings.option("max_completion_length"), settings.own.batch // planned.generated
    cached = settings.own.max_prompt_length + new / 2
    reading = read(shape, planned.parameters, planned.generated, cached) / costs.READ
    beyond = (token["ms"] - token["reading_ms"]) / 1000
    return train, rounds * new * (reading + beyond)


def read(shape: Shape, parameters: int, rows: int, cached: float) -> float:
    """The bytes that one more token of each row reads at least: the weights, and the keys and values of so many tokens,
    all of two bytes.
    """
    return 2 * (parameters + rows * cached * 2 * shape.layers * shape.kv_heads * shape.head)


def tried_generating() -> Rows:
    """The ways of both days, by profiles."""
    former = [
        {
            "profile": profile,
            "what": row["way"],
            "ms": row["ms_a_token"],
            "first_s": row["first_s"],
            "gib": row["peak_gib"],
        }
        for profile, ways in results(FORMER)["generating"]["ways"].items()
        for row in ways
    ]
    made = []
    for row in sorted(former + results(TRIED)["generating"], key=lambda row: PROFILES.index(row["profile"])):
        gib = f"{row['gib']:.2f}" if "gib" in row else ""
        figures = [f"{row['ms']:.2f}", f"{row['first_s']:.1f}", gib] if "ms" in row else ["failed", "", ""]
        made.append([row["profile"], row["what"], *figures])
    return made


def tried_training() -> Rows:
    return [
        [row["what"], str(row["micro_batch"]), f"{row['ms']:.0f}", f"{row['tokens_per_second']:,}", f"{row['gib']:.2f}"]
        for row in results(TRIED)["training"]
    ]


TABLES = {
    "Training": training,
    "Generating": generating,
    "Hours": hours,
    "What was tried: generating": tried_generating,
    "What was tried: training": tried_training,
}


def written(page: str) -> str:
    """The page with its tables, each the first below its title, made anew under the heads that they have there."""
    for title, rows in TABLES.items():
        before, section = page.split(f"\n## {title}\n")
        page = f"{before}\n## {title}\n{with_rows(section, rows())}"
    return page


def main() -> None:
    with reported():
        for folder in sys.argv[1:]:
            found = joined(results(RESULTS), gathered(Path(folder)))
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            results.cache_clear()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
