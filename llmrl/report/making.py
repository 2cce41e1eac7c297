"""What made it: commit, settings, inputs, versions, and what each training took; each with the command that brings it
back.

A model is found by its hash: in the runs of this clone, which know seconds, memory and energy, and in the commits and
experiments that have recorded it, which go back to it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from llmrl import repository
from llmrl.data.settings import DATA_SETS
from llmrl.graph import STAGES
from llmrl.lineage.outdated import differing
from llmrl.lineage.runs import began, commits
from llmrl.report.document import Block, Command, Grid, Heading, Section, Words
from llmrl.report.recorded import WORKSPACE, Recorded, bringing
from llmrl.session import commit
from llmrl.session.commit import git
from llmrl.session.records import Record, records

TITLE = "What made it"
NONE = "–"
FOLDED = 20  # rows, more than which are shown when asked for
NAMED = 5
TITLE_WIDTH = 60  # of a commit's title
MADE = ("base", *STAGES)


def what_made_it(experiment: Recorded) -> Section:
    """The section."""
    blocks = [
        *revision(experiment),
        *of_other_runs(experiment),
        *from_profile(experiment),
        *products(experiment),
        *made_with(experiment),
        *what_it_took(experiment),
    ]
    return Section("making", TITLE, blocks)


# --- commit and experiment -------------------------------------------------------------------------------------------


def revision(experiment: Recorded) -> Iterator[Block]:
    """The commit, the experiment that it is, and what was changed since; and the way back."""
    if experiment.revision != WORKSPACE and experiment.commit:
        if name := experiment_name(experiment.commit):
            yield Words(f"Experiment {name}, on commit {called(f'{experiment.commit}^') or 'not known'}.")
        else:
            yield Words(f"Commit {called(experiment.commit) or experiment.commit}.")
        yield Command(back_to(experiment.commit), "brings back settings, figures, data and models")
        return
    if not (head := commit.head()):
        yield Words("There is no commit yet: nothing leads back here once something is changed.", "bad")
        return
    changed = commit.uncommitted()
    said = f"The workspace, on commit {called(head)}"
    if changed is None:
        yield Words(f"{said}; git does not tell what was changed since.", "note")
    elif changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        yield Words(f"{said}, with changes that are not committed in {', '.join(changed[:NAMED])}{more}.", "note")
    else:
        yield Words(f"{said}; no setting, code or file was changed since.")
    yield Command(back_to(head), "brings back what was committed, and its models")


def called(at: str) -> str | None:
    """A commit in words: its short hash, day and title; None where git has none of it."""
    said = git("log", "-1", f"--format=%h of %cs (%<({TITLE_WIDTH},trunc)%s", at)
    return f"{said.rstrip()})" if said else None


def experiment_name(at: str) -> str | None:
    """The name of the experiment that a commit is."""
    names = git("for-each-ref", "--points-at", at, "--format=%(refname:lstrip=-1)", "refs/exps/??/*/*")
    return names.splitlines()[0] if names else None


def back_to(at: str) -> str:
    """The command that goes back to a commit or experiment, with its data and models."""
    name = experiment_name(at)
    return f"dvc exp apply {shlex.quote(name)}" if name else f"git checkout {at[:7]} && dvc checkout"


def of_other_runs(experiment: Recorded) -> Iterator[Block]:
    """The stages whose figures are of another run than what lies beside them."""
    for stage, why in experiment.outdated.items():
        yield Words(f"What is recorded of {stage} is {why}.", "bad")
    if experiment.outdated:
        place = "" if experiment.revision == WORKSPACE else f"in a checkout of {experiment.revision} "
        yield Command("dvc repro", f"{place}makes what it is made of and its figures agree again")


# --- settings --------------------------------------------------------------------------------------------------------


def from_profile(experiment: Recorded) -> Iterator[Block]:
    """Those that differ from the nearest profile."""
    yield Heading("Settings")
    profiles, at = profiles_of(experiment)
    if not profiles:
        yield Words("There is no profile here to compare the settings with.", "note")
        return
    names = {profile: differing(found, experiment.params) for profile, found in profiles.items()}
    nearest = min(names, key=lambda profile: len(names[profile]))
    if not (apart := names[nearest]):
        yield Words(f"Every setting is as in {nearest}{at}.")
        return
    number = "One setting differs" if len(apart) == 1 else f"{len(apart)} settings differ"
    yield Words(f"{number} from {nearest}{at}, which of all profiles is nearest.")
    rows = [[name, *(value_of(found, name) for found in (profiles[nearest], experiment.params))] for name in apart]
    yield Grid(["setting", "profile", "here"], rows, folded=len(rows) > FOLDED)


def profiles_of(experiment: Recorded) -> tuple[dict[str, dict[str, Any]], str]:
    """The profiles as the revision has them, else as they are now; and which of both, in words."""
    at, reader = experiment.commit, YAML(typ="safe")
    if experiment.revision != WORKSPACE and at:
        listed = git("ls-tree", "--name-only", at, "profiles/") or ""
        texts = {name: git("show", f"{at}:./{name}") for name in listed.splitlines() if name.endswith(".yaml")}
        if texts:
            return {name: reader.load(text or "{}") or {} for name, text in texts.items()}, " of that commit"
    found = {str(path): reader.load(path.read_text(encoding="utf-8")) or {} for path in Path("profiles").glob("*.yaml")}
    return dict(sorted(found.items())), "" if experiment.revision == WORKSPACE else " as it is here now"


def value_of(params: dict[str, Any], name: str) -> str:
    """A setting's value, by its dotted name."""
    found: Any = params
    for key in name.split("."):
        if not isinstance(found, dict) or key not in found:
            return "not set"
        found = found[key]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)


# --- data and models -------------------------------------------------------------------------------------------------


def products(experiment: Recorded) -> Iterator[Block]:
    """Each data set and model: from what it was made, its hash, and where that is recorded."""
    yield Heading("Data and models")
    paths = [*(f"data/{name}" for name in (*DATA_SETS, "pairs")), *(f"models/{name}" for name in MADE)]
    outs = {out["path"]: out for entry in experiment.locks.values() for out in entry.get("outs", ())}
    committed = hashes_at(experiment.commit or "HEAD")
    rows, apart = [], dict[str, list[str]]()
    unrecorded = []
    for path in paths:
        if not (digest := outs.get(path, {}).get("md5")):
            rows.append([path, NONE, "not made yet", NONE, NONE])
            continue
        found = commits(digest)
        size = f"{outs[path].get('size', 0) / 1e6:,.1f} MB"
        first = " ".join(found[0][0].split(" ")[:2]) if found else "none"
        rows.append([path, made_from(experiment, path), digest.removesuffix(".dir"), size, first])
        if not found:
            unrecorded.append(path)
        elif digest not in committed:  # where it is, the first command brings it
            apart.setdefault(found[0][1], []).append(path)
    yield Grid(["product", "made from", "hash (MD5, DVC's)", "size", "first recorded in"], rows)
    for back, there in apart.items():
        yield Command(back, f"brings back {', '.join(there)}, which that commit or experiment has recorded first")
    if unrecorded:
        kept = '`git commit -am "Figures of this machine"` keeps the way back to them'
        yield Words(f"In no commit or experiment yet: {', '.join(unrecorded)}. {kept}.", "note")
    if missing := [path for path in experiment.missing if path in paths]:
        yield Words(f"Neither here nor in this machine's cache: {', '.join(missing)}.", "note")
        for folder in ("data", "models"):
            if gone := [path for path in missing if path.startswith(f"{folder}/")]:
                yield bringing(experiment, gone)


def hashes_at(at: str) -> set[str]:
    """The hashes of all products that a commit's locks have."""
    locks = (yaml.load(git("show", f"{at}:./{lock}") or "{}", yaml.CSafeLoader) for lock in repository.LOCKS)
    entries = (entry for lock in locks for entry in lock.get("stages", {}).values())
    return {digest for entry in entries for digest in repository.locked(entry, "outs").values()}


def made_from(experiment: Recorded, path: str) -> str:
    """The source of a data set or of the base model, with its commit; of a stage's model those that it was made of."""
    folder, name = path.split("/")
    if path == "data/pairs" or (folder == "models" and name in STAGES):
        deps = repository.locked(experiment.locks.get(name, {}), "deps")
        if "data/preference" in deps:  # which data/pairs has as it stands
            return "data/preference"
        return ", ".join(
            dep for dep in deps if dep.startswith(("data/", "models/")) and not dep.endswith("eval.parquet")
        )
    section = (
        experiment.params.get("data", {}).get(name, {}) if folder == "data" else experiment.params.get("model", {})
    )
    several = section.get("source")
    said = []
    for one in several if isinstance(several, list) else [section]:
        at = f" at {one['revision']}" if one.get("revision") else ""
        raw = raw_hash(experiment, path) if one.get("source") == "raw" else None
        said.append(f"{one.get('source', 'not known')}{at}" + (f" ({raw})" if raw else ""))
    return ", ".join(said)


def raw_hash(experiment: Recorded, path: str) -> str | None:
    """The hash of the user's own files that a data set or the base model was made of."""
    folder, name = path.split("/")
    raw = f"data/raw/{name}" if folder == "data" else "models/raw"
    found = (repository.locked(entry, "deps").get(raw) for entry in experiment.locks.values())
    return next((digest.removesuffix(".dir") for digest in found if digest), None)


# --- versions --------------------------------------------------------------------------------------------------------


def made_with(experiment: Recorded) -> Iterator[Block]:
    """Versions and device by which each model was made, as its provenance.json has them."""
    found = {
        stage: {"device": str(made.get("device", "not known"))} | made.get("versions", {})
        for stage in STAGES
        if (made := experiment.provenance.get(stage))
    }
    yield Heading("Versions and device")
    if unknown := [stage for stage in STAGES if stage not in found and experiment.hash(f"models/{stage}")]:
        yield Words(f"Not known of {', '.join(unknown)}: the models are not here.", "note")
    if not found:
        return
    names = [*dict.fromkeys(name for one in found.values() for name in one)]
    unlike = [name for name in names if len({one.get(name) for one in found.values()}) > 1]
    if not unlike:
        device = next(iter(found.values()))["device"]
        yield Words(f"{', '.join(found)} were made by the same versions, on {device}.")
        columns, shown = ["", "all stages"], {"all": next(iter(found.values()))}
    else:
        yield Words(f"The stages were not made by the same: {', '.join(unlike)}.", "note")
        columns, shown = ["", *found], found
    rows = [[name, *(one.get(name, NONE) for one in shown.values())] for name in names]
    yield Grid(columns, rows, "Versions of Python and of the libraries that decide bytes.", folded=not unlike)


# --- what it took ----------------------------------------------------------------------------------------------------


def what_it_took(experiment: Recorded) -> Iterator[Block]:
    """Seconds, memory and energy of the run that made each model."""
    yield Heading("What it took")
    every = [record for record in records().values() if record]
    rows, phases, energy = [], [], False
    unknown = []
    for stage in STAGES:
        digest = experiment.hash(f"models/{stage}")
        made = [record for record in every if digest and record.get("model") == digest]
        trained = [record for record in made if "training" in record["phases"]]
        if not made:
            unknown += [stage] if digest else []
            continue
        run = (trained or made)[-1]
        how = "" if trained else ", which measured alone"
        seconds = f"{run['seconds']:,.1f}" if "seconds" in run else NONE
        joules = summed(run)
        energy |= bool(joules)
        device = str(run.get("device", NONE)).partition(";")[0]
        rows.append(
            [stage, f"{run['id']}{how}", began(run), device, seconds, in_gib(run.get("peak_gib")), kilo(joules)]
        )
        for phase, lasted in run["phases"].items():
            gib, by_device = (run.get(name, {}).get(phase) for name in ("phase_gib", "phase_joules"))
            phases.append([f"{stage}: {phase}", f"{lasted:,.1f}", in_gib(gib), kilo(by_device)])
        again = [record["id"] for record in made if record is not run]
        if again:
            yield Words(f"{stage} was measured, or trained, by other runs too: {', '.join(again[-3:])}.", "note")
    if unknown:
        yield Words(
            f"Of {', '.join(unknown)} seconds, memory and energy are not known on this machine: no run here made them "
            "(runs/ stays where it was written).",
            "note",
        )
    if not rows:
        return
    columns = ["stage", "run", "from", "device", "seconds", "peak, GiB", "energy, kJ"]
    caption = "Of the run that trained it, measuring included; one that went on from a checkpoint counts from there on."
    if not energy:
        rows, columns = [row[:-1] for row in rows], columns[:-1]
        phases = [row[:-1] for row in phases]
        caption += " No energy was recorded: no counter of the device could be read."
    else:
        caption += " Energy: of the cards that train (gpu), of the processors with all that runs there (cpu)."
    yield Grid(columns, rows, caption)
    yield Grid(["phase", "seconds", "peak, GiB", *(["energy, kJ"] if energy else [])], phases, "By phase.", folded=True)


def summed(run: Record) -> dict[str, float]:
    """The joules of all phases, by device."""
    every = [joules for phase in run.get("phase_joules", {}).values() for joules in phase.items()]
    return {name: sum(value for other, value in every if other == name) for name, _ in every}


def in_gib(gib: dict[str, float] | None) -> str:
    return ", ".join(f"{size:.2f} {name}" for name, size in (gib or {}).items()) or NONE


def kilo(joules: dict[str, float] | None) -> str:
    return ", ".join(f"{value / 1e3:,.2f} {name}" for name, value in (joules or {}).items()) or NONE
