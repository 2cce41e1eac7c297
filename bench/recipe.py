"""What a recipe gave: `python -m bench.recipe sums-smollm2-135m [REVISION …]`, in a project that has run it.

    params.yaml, metrics/, runs/, dvc.lock  ->  bench/results/<recipe>.json  ->  the tables of docs/recipes.md

Of further revisions, experiments with other seeds, the gains alone. Without a recipe the tables are made anew from what
bench/results/ has. `python -m llmrl.report` shows the same figures and much more; this keeps them in git.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench.tables import with_rows
from llmrl import devices, params
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.memory import formula
from llmrl.memory.shape import Shape
from llmrl.report import recorded
from llmrl.report.measures import difference, gain_in, measured, with_ends
from llmrl.report.recorded import Recorded
from llmrl.report.statistics import Gain
from llmrl.session.records import Record, records

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs/recipes.md", ROOT / "bench/results"
WAYS = {"greedy": "greedy", "sampled": "sampled"}
TOLD = ("greedy", "sampled", "pass_at_4", "marked", "ended", "tokens")  # of each policy
TITLES = {"sums-smollm2-135m": "Chain sums", "gsm8k-smollm2-135m": "GSM8K"}  # of the page's sections
Found = dict[str, Any]
Rows = list[list[str]]


def gathered(recipe: str) -> Found:
    """What lies in the project that one stands in. Raises InputError where a stage has not run, or is outdated."""
    experiment = recorded.experiment_at()
    if late := [stage for stage in STAGES if stage in experiment.outdated or not experiment.figures.get(stage)]:
        raise InputError(f"{', '.join(late)}: no figures of what lies here; `dvc repro` first.")
    policies, _ = measured(experiment)
    runs = {stage: last_run(stage) for stage in STAGES}
    return {
        "recipe": recipe,
        "changed": changed(recipe, experiment.params),
        "device": runs["sft"]["device"],
        "versions": runs["sft"]["versions"],
        "models": {name: experiment.hash(f"models/{name}") for name in ("base", *STAGES)},
        "policies": {
            name: {what: list(one.figure(what)) for what in TOLD if len(one.known(what))} | {"n": len(one.asked)}
            for name, one in policies.items()
        },
        "gains": gains(experiment),
        "pairs": json.loads(Path("data/pairs/source.json").read_text(encoding="utf-8")),
        "ranked": {
            stage: [experiment.figures[stage][name] for name in ("accuracy", "accuracy_low", "accuracy_high", "n")]
            for stage in STAGES
            if STAGES[stage].sides == 2
        },
        "runs": {
            stage: {
                "seconds": {phase: round(took, 1) for phase, took in run["phases"].items()},
                "resident_gib": max(one["resident"] for one in run["phase_gib"].values()),
                "planned_gib": round(planned(stage) / 2**30, 2),
            }
            for stage, run in runs.items()
        },
    }


def gains(experiment: Recorded) -> dict[str, dict[str, list[float]]]:
    """Of each policy over the one that it started from, prompt by prompt: difference, ends of its interval, prompts."""
    policies, _ = measured(experiment)
    return {
        stage: {way: list(gain_in(policies[experiment.init(stage)], policies[stage], way)) for way in WAYS}
        for stage in STAGES
        if stage in policies
    }


def last_run(stage: str) -> Record:
    """The last run of a stage that trained and ended well."""
    for run in reversed(records().values()):
        if run and run["stage"] == stage and run.get("exit") == 0 and "training" in run["phases"]:
            return run
    raise InputError(f"runs/ has no whole run of {stage}.")


def planned(stage: str) -> int:
    """Bytes of tensors that the formula expects of a stage as params.yaml has it, on this machine."""
    settings = params.experiment().stages[stage]
    shape = Shape.of(json.loads(Path(settings.own.init, "config.json").read_text(encoding="utf-8")))
    if shape is None:
        raise InputError(f"{settings.own.init}: a model of sizes that are not known.")
    return formula.needed(formula.on_machine(devices.machine(), settings, shape))


def changed(recipe: str, given: Found) -> dict[str, Any]:
    """The settings that are others than the profile's, by their dotted names."""
    profile = YAML(typ="safe").load(ROOT / f"profiles/{recipe}.yaml")
    theirs, ours = flat(profile), flat(given)
    return {name: value for name, value in ours.items() if theirs.get(name, ...) != value}


def flat(tree: Found, before: str = "") -> dict[str, Any]:
    """A tree of maps as one, by dotted names; an empty map and a list are values.

    >>> flat({"train": {"lr": 0.1, "betas": [1, 2]}, "columns": {}})
    {'train.lr': 0.1, 'train.betas': [1, 2], 'columns': {}}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) and value else {f"{before}{name}": value}
    return found


# --- the page --------------------------------------------------------------------------------------------------------


def answers(found: Found) -> Rows:
    """A row a figure, a column a policy."""
    policies = found["policies"]
    names = [name for name in TOLD if any(name in one for one in policies.values())]
    return [
        [name, *(with_ends(name, tuple(one.get(name, [math.nan] * 3))) for one in policies.values())] for name in names
    ]


def gained(found: Found) -> Rows:
    """A row a stage, of each seed."""
    rows = []
    for seed, stages in {"": found["gains"], **found.get("seeds", {})}.items():
        for stage, ways in stages.items():
            told = [difference(way, Gain(*ways[way])) for way in WAYS]
            rows.append([f"{stage}{f', {seed}' if seed else ''}", *told])
    return rows


def took(found: Found) -> Rows:
    """Minutes and memory of a stage."""
    rows = []
    for stage, run in found["runs"].items():
        seconds = run["seconds"]
        rest = sum(seconds.values()) - seconds["training"]
        minutes = [f"{one / 60:.1f}" for one in (seconds["training"], rest)]
        rows.append([stage, *minutes, f"{run['planned_gib']:.1f}", f"{run['resident_gib']:.1f}"])
    return rows


TABLES = {"What came of it": answers, "What each stage gained": gained, "Time and memory": took}


def written(page: str) -> str:
    """The page with the tables of each recipe that is on record, made anew under the heads that they have there."""
    for recipe, title in TITLES.items():
        if not (file := RESULTS / f"{recipe}.json").exists():
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        before, section = page.split(f"\n## {title}\n")
        section, *others = section.split("\n## ")
        for head, rows in TABLES.items():
            if f"\n### {head}\n" not in section:
                continue
            start, table = section.split(f"\n### {head}\n")
            section = f"{start}\n### {head}\n{with_rows(table, rows(found))}"
        page = f"{before}\n## {title}\n" + "\n## ".join([section, *others])
    return page


def main() -> None:
    with reported():
        if sys.argv[1:]:
            recipe, *revisions = sys.argv[1:]
            if recipe not in TITLES:
                raise InputError(f"{recipe} is no recipe of docs/recipes.md, which has {', '.join(TITLES)}.")
            found = gathered(recipe)
            for revision in revisions:
                found.setdefault("seeds", {})[revision] = gains(recorded.experiment_at(revision))
            (RESULTS / f"{recipe}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
