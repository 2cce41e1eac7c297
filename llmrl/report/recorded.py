"""What the pipeline recorded of an experiment, at any revision: settings, figures, curves, locks, provenance, and every
answer to the held-out prompts, which DVC's cache keeps as a product of the stage that gave it.

A revision is what `dvc exp show` lists: `workspace`, a commit, a branch, an experiment. Of another than the workspace
nothing is checked out: git has the small files, DVC's cache the large ones, by the hashes that the locks have.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import yaml
from ruamel.yaml import YAML, YAMLError

from llmrl import folders, repository
from llmrl.errors import InputError
from llmrl.fields import meant
from llmrl.graph import STAGES
from llmrl.lineage.found import found_elsewhere
from llmrl.lineage.outdated import why_outdated
from llmrl.measuring.answers import made_of, policy_name
from llmrl.report.document import Block, Command, Words
from llmrl.session.commit import git

if TYPE_CHECKING:
    import pyarrow as pa
    from dvc.repo import Repo

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Recorded:
    """An experiment as one revision has it."""

    revision: str
    commit: str | None  # 40 digits; of the workspace None
    params: dict[str, Any]
    figures: dict[str, dict[str, Any]]  # by stage, as metrics/<stage>/metrics.json has them
    data: dict[str, dict[str, Any]]  # by data set, as metrics/data/<name>.json has them
    curves: dict[str, dict[str, list[tuple[int, float]]]]  # by stage and figure
    locks: dict[str, dict[str, Any]]  # by stage: its entry in a dvc.lock
    tables: dict[str, dict[str, pa.Table]]  # by stage: before, after, pairs, scores of metrics/<stage>/held_out
    provenance: dict[str, dict[str, Any]]  # by stage, and base
    missing: list[str] = field(default_factory=list)  # products that neither lie here nor in the cache
    outdated: dict[str, str] = field(default_factory=dict)  # stages whose figures are of another run, and why
    remote: bool = False  # whether DVC has one, from which what is missing may be fetched

    def hash(self, product: str) -> str | None:
        """The hash that the locks have for a product, models/grpo say."""
        return hash_of(self.locks, product)

    def init(self, stage: str) -> str:
        """The policy that a stage's model was trained from: as its answers tell, else its lock, else the settings,
        which may have been edited since.
        """
        locked = self.locks.get(stage, {}).get("params", {}).get("params.yaml", {})
        known = (locked.get(stage) or {}, self.params.get(stage) or {})
        folders = [self.told(stage).get("init"), *(one.get("init") for one in known), "models/base"]
        return policy_name(next(filter(None, folders)))

    def is_from(self, stage: str, policy: str) -> bool:
        """Whether a stage's model was trained from the very one whose answers are here as that policy's, as far as is
        known: another may have been called so.
        """
        deps = {dep["path"]: dep.get("md5") for dep in self.locks.get(stage, {}).get("deps", ())}
        began = self.told(stage).get("init_model") or deps.get(f"models/{policy}")
        here = made_of(self.policies()[policy]).get("model") or self.hash(f"models/{policy}")
        return not began or not here or began == here

    def told(self, stage: str) -> dict[str, Any]:
        """What the answers of a stage's policy were made of; empty of those that do not tell."""
        table = self.tables.get(stage, {}).get("after")
        return {} if table is None else made_of(table)

    def policies(self) -> dict[str, pa.Table]:
        """The answers of each policy that there are, in the order of training: base, sft, dpo, grpo."""
        found: dict[str, pa.Table] = {}
        for _, policy, table in self.answers():
            found.setdefault(policy, table)
        return found

    def namesakes(self) -> dict[str, str]:
        """By file, the policy of each table of answers that `policies` has not: another model was called so before."""
        first = self.policies()
        models = {policy: made_of(table).get("model") for policy, table in first.items()}
        return {file: policy for file, policy, table in self.answers() if made_of(table).get("model") != models[policy]}

    def answers(self) -> Iterator[tuple[str, str, pa.Table]]:
        """Each table of answers that there is, in the order of training, with its file and its policy."""
        for stage in [stage for stage in STAGES if STAGES[stage].answers]:
            for when in ("before", "after"):
                if (table := self.tables.get(stage, {}).get(when)) is not None and len(table):
                    yield f"metrics/{stage}/held_out/{when}.parquet", table["policy"][0].as_py(), table


def not_here(experiment: Recorded, what: str, products: list[str]) -> list[Block]:
    """That something to show is missing, in words, as these products of stages are, and the commands that bring them:
    metrics/sft/held_out, models/sft.
    """
    gone = [product for product in products if product in experiment.missing]
    stages = [product.split("/")[1] for product in products if product not in gone]
    older = [stage for stage in stages if experiment.locks.get(stage)]
    unrun = [stage for stage in stages if stage not in older]
    why: list[tuple[str, Command]] = []
    if gone:
        said = f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} neither here nor in this machine's cache"
        why.append((said, bringing(experiment, gone)))
    if older:
        said = f"{', '.join(older)} {'was' if len(older) == 1 else 'were'} measured before they were kept"
        why.append((said, measured_anew(experiment, older)))
    if unrun:
        said = f"{', '.join(unrun)} {'has' if len(unrun) == 1 else 'have'} not run"
        why.append((said, Command(f"dvc repro {' '.join(unrun)}", f"{in_checkout(experiment)}trains and measures")))
    blocks: list[Block] = [Words(f"{what} are missing: {'; '.join(said for said, _ in why)}.", "note")]
    return [*blocks, *(command for _, command in why)]


def bringing(experiment: Recorded, products: list[str]) -> Command:
    """What brings products of one folder (metrics, models, data) that are neither here nor in this machine's cache,
    with all of that folder that are not: so sections that lack different ones name the same command. Models are by far
    the largest, and answers are read without them.
    """
    if not experiment.remote:
        if experiment.revision != WORKSPACE:
            return measured_anew(experiment, [])
        return Command("dvc repro", "makes here what is missing: DVC has no remote to fetch it from")
    name = shlex.quote(experiment.revision)
    if experiment.commit and not git("rev-parse", "--verify", "-q", f"{experiment.revision}^{{commit}}"):
        return Command(f"dvc exp pull origin {name}", "fetches the experiment with what it made, where it was pushed")
    folder = products[0].partition("/")[0]
    gone = [product for product in experiment.missing if product.startswith(f"{folder}/")]
    gone = [*dict.fromkeys([*gone, *products])]
    told = f"{in_checkout(experiment)}fetches what was pushed; `dvc repro` makes what was not"
    return Command(f"dvc pull {' '.join(gone)}", told)


def in_checkout(experiment: Recorded) -> str:
    """Where a command is meant, before what it does."""
    return "" if experiment.revision == WORKSPACE else f"in a checkout of {experiment.revision} "


def measured_anew(experiment: Recorded, stages: list[str]) -> Command:
    """What measures stages with this code; the code of an older revision keeps no answers."""
    if experiment.revision == WORKSPACE:
        return Command(f"dvc repro {' '.join(stages)}", "measures anew")
    # An experiment's name is none to git.
    settings = f"git checkout {(experiment.commit or '')[:7] or shlex.quote(experiment.revision)} -- params.yaml"
    return Command(f"{settings} && dvc repro", "makes and measures anew, with the code that is here")


def experiment_at(revision: str = WORKSPACE) -> Recorded:
    """What is recorded at a revision. Raises InputError where DVC cannot read it, or nothing is recorded there."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from scmrepo.exceptions import SCMError

    try:
        with Repo() as repo, repo.switch(revision):
            return read(repo, revision)
    except (DvcException, SCMError) as error:
        raise InputError(f"{revision}: {str(error).rstrip('.')}.{meant(revision, revisions())}") from None


def revisions() -> list[str]:
    """The names that a revision can have here: of the workspace, the last commit, branches, tags and experiments."""
    listed = git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/remotes", "refs/exps/??/*/*")
    # refs/heads/<branch>, refs/exps/<two>/<the other 38 digits of the commit it began from>/<experiment>
    parts = [name.split("/", 4 if name.startswith("refs/exps/") else 2) for name in (listed or "").splitlines()]
    return [WORKSPACE, "HEAD", *(one[-1] for one in parts)]


def read(repo: Repo, revision: str) -> Recorded:
    """The same, of the revision that DVC has switched to."""
    from dvc.scm import resolve_rev

    fs, here = repo.fs, revision == WORKSPACE
    root = Path(repo.root_dir)

    def text(path: str) -> str | None:
        place = fs.join(str(root), path)
        return fs.read_text(place, encoding="utf-8") if fs.exists(place) else None

    def parsed(path: str) -> dict[str, Any]:
        found = text(path)
        try:
            return json.loads(found) if found else {}
        except ValueError:
            raise InputError(f"{path} at {revision} is no JSON: `git checkout {path}` brings it back.") from None

    locks: dict[str, dict[str, Any]] = {}
    for lock in repository.LOCKS:
        locks |= (yaml.load(text(str(lock)) or "{}", yaml.CSafeLoader) or {}).get("stages", {})
    if not locks:
        raise InputError(f"{revision}: no dvc.lock has recorded anything there: `dvc repro` makes the models.")
    figures = {stage: parsed(f"metrics/{stage}/metrics.json").get(stage, {}) for stage in STAGES}
    data = {
        name: parsed(f"metrics/data/{name}.json").get("data", {}).get(name, {})
        for name in ("sft", "preference", "prompts")
    }
    pairs = parsed("metrics/data/pairs.json").get("data", {}).get("pairs", {})
    if pairs.keys() - {"rows", "overlap"}:  # of a policy's own answers, which data/preference has not
        data["preference"] = pairs
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for stage in STAGES:
        folder = fs.join(str(root), f"metrics/{stage}/plots/metrics/{stage}")
        names = [Path(name).name for name in fs.ls(folder, detail=False)] if fs.exists(folder) else []
        curves[stage] = {
            Path(name).stem: curve(text(f"metrics/{stage}/plots/metrics/{stage}/{name}") or "")
            for name in sorted(names)
        }
    tables: dict[str, dict[str, pa.Table]] = {}
    provenance: dict[str, dict[str, Any]] = {}
    missing = [f"data/{name}" for name in (*data, "pairs") if hash_of(locks, f"data/{name}")]
    missing = [product for product in missing if not kept(repo, locks, product, here)]
    for stage in ("base", *STAGES):
        made, answers = f"models/{stage}", f"metrics/{stage}/held_out"
        files = kept(repo, locks, made, here)
        if files and folders.PROVENANCE in files:
            provenance[stage] = json.loads(files[folders.PROVENANCE].read_text(encoding="utf-8"))
        elif hash_of(locks, made):
            missing.append(made)
        if stage in STAGES:
            files = kept(repo, locks, answers, here) or found_elsewhere(repo, stage, locks.get(stage, {}))
            tables[stage] = {Path(name).stem: pq.read_table(path) for name, path in sorted((files or {}).items())}
            if files is None and hash_of(locks, answers):
                missing.append(answers)
    commit = None if here else resolve_rev(repo.scm, revision)
    try:
        params = YAML(typ="safe").load(text("params.yaml") or "{}") or {}
    except YAMLError:
        raise InputError(f"params.yaml at {revision} is no YAML: `make params` says where.") from None
    return Recorded(
        revision,
        commit,
        params,
        figures,
        data,
        curves,
        locks,
        tables,
        provenance,
        missing,
        outdated=why_outdated(repo.index),
        remote=bool(repo.config["core"].get("remote")),
    )


def hash_of(locks: dict[str, dict[str, Any]], product: str) -> str | None:
    """The hash of a product in the locks."""
    return next((made[product] for one in locks.values() if product in (made := repository.locked(one, "outs"))), None)


def kept(repo: Repo, locks: dict[str, dict[str, Any]], product: str, here: bool) -> dict[str, Path] | None:
    """The files of a folder that is a product, by their names in it: of the workspace those that lie there, else those
    of DVC's cache; None where they are in neither.
    """
    folder = Path(product)
    if here and folder.is_dir():
        return {path.relative_to(folder).as_posix(): path for path in repository.files(folder)}
    if not (digest := hash_of(locks, product)):
        return None
    try:
        found = {name: Path(repo.cache.local.oid_to_path(md5)) for name, md5 in repository.listed(digest, repo).items()}
    except FileNotFoundError:
        return None
    return {name: path for name, path in found.items() if path.exists()}


def curve(text: str) -> list[tuple[int, float]]:
    """A file of DVCLive's: the step and the value of each point."""
    rows = csv.DictReader(io.StringIO(text), delimiter="\t")
    points = [list(row.values()) for row in rows]
    names = rows.fieldnames or []
    at, value = (
        names.index("step"),
        next(place for place, name in enumerate(names) if name not in ("step", "timestamp")),
    )
    return [(int(point[at]), float(point[value])) for point in points]
