"""What a model was made of, all the way down, and which figures are of it: found by the hashes of products.

provenance.json names what a model was made from, each with its hash; DVC's cache has the record of that one, or the
folder where it lies. Figures are those of a model where dvc.lock has both as products of one run of its stage: so they
stay its own whatever is edited since, and those of another run, or edited by hand, are told apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import repository
from llmrl.errors import InputError
from llmrl.export import EXPORT
from llmrl.folders import PROVENANCE
from llmrl.graph import STAGES
from llmrl.lineage.runs import commits
from llmrl.session.commit import git
from llmrl.session.records import records

if TYPE_CHECKING:
    from dvc.repo import Repo

HELD_OUT = "data/prompts/eval.parquet"


@dataclass
class Made:
    """A model of the chain, by what it recorded."""

    place: str  # models/grpo
    hash: str
    record: dict[str, Any] | None  # its provenance.json; None where that is not here
    figures: dict[str, Any] = field(default_factory=dict)  # of its stage, those of this very model alone

    @property
    def stage(self) -> str | None:
        """The stage that trained it; None of a base model."""
        code = (self.record or {}).get("code", {})
        return next((Path(file).stem for file in code if file.startswith("stages/")), None)

    @property
    def settings(self) -> dict[str, Any]:
        return dict((self.record or {}).get("settings", {}))

    @property
    def data(self) -> list[str]:
        """The data sets that it was trained on, a file each."""
        return [name for name in (self.record or {}).get("inputs", {}) if name.endswith("/train.parquet")]


@dataclass
class Facts:
    """What there is to say of a model, its makers first, and what is left out of the card, a sentence each."""

    chain: list[Made]
    reports: dict[str, dict[str, Any]]  # by file of rows: source.json beside it
    measured: dict[str, Any]  # how the answers to the held-out prompts were given: `answers` of params.yaml
    commit: str | None  # that has it, 40 digits
    dtype: str
    missing: list[str]

    @property
    def model(self) -> Made:
        return self.chain[-1]

    @property
    def answers(self) -> bool:
        """Whether it is a policy, and no reward model."""
        return STAGES[str(self.model.stage)].answers

    def sources(self, file: str) -> list[dict[str, Any]]:
        """Where the rows of a file came from; empty where that is not known."""
        return list(self.reports.get(file, {}).get("sources", ()))


def read(path: Path) -> dict[str, Any]:
    """A record of ours. Raises InputError where it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


class Lineage:
    """What is recorded here, found by the hashes of products: in DVC's cache, else where they lie."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.lock = repository.load(Path("dvc.lock")).get("stages", {})

    def file(self, product: str, place: Path, name: str) -> Path | None:
        """A file of a product, or None where the product is not here."""
        try:
            entries = repository.listed(product, self.repo)
            found = Path(self.repo.cache.local.oid_to_path(entries[name]))
            if found.exists():
                return found
        except (FileNotFoundError, KeyError):
            pass
        found = place / name
        return found if found.exists() and repository.digest(place) == product else None

    def chain(self, made: Made) -> list[Made]:
        """A model, after those that it was made of, each once, the one it starts from first."""
        inputs = (made.record or {}).get("inputs", {})
        init = (made.record or {}).get("settings", {}).get("init")
        above = sorted((name for name in inputs if inputs[name].endswith(".dir")), key=lambda name: name != init)
        found: dict[str, Made] = {}
        for place in above:
            file = self.file(inputs[place], Path(place), PROVENANCE)
            below = self.chain(Made(place, inputs[place], read(file) if file else None))
            found |= {one.hash: one for one in below}
        return [*found.values(), made]

    def figures(self, made: Made) -> dict[str, Any] | str:
        """The figures of a model's stage, or why they are not those of this model."""
        outs = repository.locked(self.lock.get(str(made.stage), {}), "outs")
        file = Path("metrics", str(made.stage), "metrics.json")
        if outs.get(f"models/{made.stage}") != made.hash:
            return f"{file} is of another models/{made.stage} than this one was made of"
        if not file.exists() or repository.digest(file) != outs.get(str(file)):
            return f"{file} is not what dvc.lock recorded when it was measured"
        return dict(read(file)[str(made.stage)])

    def measured_on(self, made: Made) -> dict[str, Any]:
        """On which prompts, and how, a policy's answers were given."""
        entry = self.lock.get(made.stage, {})
        prompts = repository.locked(entry, "deps").get(HELD_OUT)
        return {"prompts": prompts, **entry.get("params", {}).get("params.yaml", {}).get("answers", {})}

    def report(self, name: str, file: str, digest: str | None) -> dict[str, Any] | None:
        """What was recorded of a data set that has a file of this hash; None where that is not here."""
        folder = Path("data", name)
        product = repository.recorded().get(folder)
        if product and (listing := self.file(product, folder, "source.json")):
            held = self.file(product, folder, file)
            if held and repository.digest(held) == digest:
                return read(listing)
        return None


def facts(folder: Path, out: Path) -> Facts:
    """What there is to say of the model in a folder, of which `out` may hold an export.

    Raises InputError where no stage made it, nothing here knows it, or `out` holds another.
    """
    record = read(folder / PROVENANCE)
    exported = record.pop(EXPORT, None)
    made = Made(str(folder), exported["of"] if exported else repository.digest(folder), record)
    if made.stage not in STAGES:
        raise InputError(f"{folder} was made by no stage of this project: cards are of what {', '.join(STAGES)} make.")
    weights = out if (out / "config.json").exists() else folder
    theirs = read(weights / PROVENANCE)
    if theirs.pop(EXPORT, {"of": made.hash})["of"] != made.hash or theirs != record:
        raise InputError(f"{out} holds another model than {folder}: name the folder of its export, or a new one.")
    with repository.caches() as repo:
        found = Lineage(repo)
        known = commits(made.hash)
        made_here = any(one and one.get("model") == made.hash for one in records().values())
        missing: list[str] = []
        if not known and not made_here and made.hash not in repository.recorded().values():
            raise InputError(
                f"{folder}: nothing here has recorded a model of the hash {made.hash}. Either a file in it was "
                "changed, or it was made elsewhere: `git fetch` and `dvc exp pull origin` bring commits and "
                "experiments."
            )
        back = next((back for _, back in known if back.startswith("git checkout")), None)
        chain, measured = found.chain(made), found.measured_on(made)
        for one in chain:
            if one.record is None:
                missing.append(f"what made {one.place} is not here: `dvc pull` brings it")
            if one.stage is None:
                continue
            figures = found.figures(one)
            if isinstance(figures, str):
                missing.append(f"the figures of {one.place} are left out: {figures}")
                if one is made and known:
                    missing.append(f"`{known[0][1]}` brings back those of this one")
            elif STAGES[one.stage].answers and found.measured_on(one) != measured and STAGES[str(made.stage)].answers:
                missing.append(
                    f"the figures of {one.place} are left out: they are of other prompts or settings of answers"
                )
            else:
                one.figures = figures
        reports = {}
        files = {name: str((one.record or {})["inputs"][name]) for one in chain for name in one.data}
        if measured.get("prompts"):
            files[HELD_OUT] = measured["prompts"]
        for name, digest in files.items():
            if report := found.report(Path(name).parent.name, Path(name).name, digest):
                reports[name] = report
            else:
                missing.append(f"where {name} came from is left out: the one that it was made of is not here")
    commit = git("rev-parse", back.split()[2]) if back else None
    return Facts(chain, reports, measured, commit, str(read(weights / "config.json").get("dtype")), missing)
