"""Whether each product here is what DVC recorded, made of what it recorded: hashes, all the way down.

The lock of a stage has what it was made of and what it made. So the bytes of each product are compared with the lock,
what a lock has as an input with what the lock above has as made, settings and code with those that lie here, and what a
model says of itself (provenance.json) with all of these.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llmrl import params, repository
from llmrl.base.record import what_made_it
from llmrl.base.settings import FOLDERS
from llmrl.errors import InputError
from llmrl.folders import PROVENANCE
from llmrl.graph import STAGES
from llmrl.lineage.outdated import differing
from llmrl.lineage.products import Fault, Files, Product, product_hash
from llmrl.lineage.recount import miscounted, of_others, tables_of
from llmrl.memory import auto
from llmrl.plan.workspace import BASE, IN_ORDER, PAIRS
from llmrl.progress import Progress
from llmrl.session import provenance
from llmrl.session.commit import git, head

NAMED = 4


@dataclass
class Link:
    """A stage, or a file that `dvc add` tracks: one link of the chain."""

    name: str
    stage: Any  # DVC's
    products: list[Product]
    inputs: list[Fault] = field(default_factory=list)  # of what it was made of
    claims: list[Fault] = field(default_factory=list)  # of what its model says of itself, and its figures
    notes: list[str] = field(default_factory=list)  # what could not be checked of these

    @property
    def faults(self) -> list[Fault]:
        return [*self.inputs, *(one.fault for one in self.products if one.fault), *self.claims]

    @property
    def unchecked(self) -> list[str]:
        return [*(said for one in self.products for said in one.unchecked), *self.notes]


class Chain:
    """All links of this workspace, each looked at once, what others are made of first."""

    def __init__(self, repo: Any, shown: Progress) -> None:
        import networkx  # DVC's graph is one of its

        self.files, self.experiment = Files(repo, shown), params.experiment()
        place = {name: number for number, name in enumerate(IN_ORDER)}
        stages = networkx.lexicographical_topological_sort(
            repo.index.graph.reverse(), key=lambda stage: (place.get(stage.addressing, -1), stage.addressing)
        )
        self.made: dict[str, Product] = {}
        self.links = [self.link(stage) for stage in stages]
        self.notes = [*not_committed()]

    def link(self, stage: Any) -> Link:
        file = Path(self.files.relative(stage.path))
        lock = file.as_posix() if stage.is_data_source else file.with_name("dvc.lock").as_posix()
        products = [self.files.product(out, lock) for out in stage.outs]
        link = Link(lock if stage.is_data_source else stage.name, stage, products)
        self.made |= {one.path: one for one in products}
        if any(one.recorded for one in products) and not stage.is_data_source:
            link.inputs = [*self.inputs(link, lock)]
            link.claims = [*self.claims(link), *self.figures(link)]
        return link

    def inputs(self, link: Link, lock: str) -> Iterator[Fault]:
        """What a stage was made of, by its lock, and is not what was made above it, or what lies here now."""
        from dvc.dependency.param import ParamsDependency

        if link.stage.cmd_changed:
            yield Fault(f"the command of {link.name} is another than {lock} recorded")
        for dep in {str(dep): dep for dep in link.stage.deps}.values():
            recorded = dep.hash_info.value if dep.hash_info else None
            if isinstance(dep, ParamsDependency):
                if names := differing(recorded or {}, dep.read_params()):
                    yield Fault(f"params.yaml: {some(names)} changed since {link.name} was made")
                continue
            path = self.files.relative(dep.fs_path)
            if recorded is None:
                yield Fault(f"{path} is an input of {link.name} of which {lock} has no record")
                continue
            if above := self.above(path):
                name = path[len(above.path) + 1 :]
                made = above.listed.get(name) if name else above.recorded
                if made is None:  # of a folder that is not here, or not as it was, DVC's cache may have no list
                    above.below |= {link.name: None}
                elif made and made != recorded:
                    yield Fault(f"{link.name} was made of another {path}: {lock} has {recorded}, {above.lock} {made}")
                continue
            now = self.files.hashes(path)
            lacking = [one.path for one in self.made.values() if one.path.startswith(f"{path}/") and one.absent]
            if lacking or (not now and not (self.files.root / path).exists()):
                link.notes.append(f"{', '.join(lacking) or path}: not here, and not checked")
            elif product_hash(now) != recorded:
                kind = "code" if path.startswith(("llmrl", "stages")) else "input"
                yield Fault(f"{path}: {kind} changed since {link.name} was made")

    def above(self, path: str) -> Product | None:
        """The product that a path is, or is a part of."""
        return next((made for made in self.made.values() if f"{path}/".startswith(f"{made.path}/")), None)

    def claims(self, link: Link) -> Iterator[Fault]:
        """What a model's provenance.json says of it, and its lock, or what lies here, does not.

        Of the held-out rows that TRL evaluated it has a hash that only a tokenizer could compute anew; the file that
        they are from is an input.
        """
        model = next((one for one in link.products if one.path.startswith(("models/", "data/pairs"))), None)
        own = link.stage.addressing in (BASE, PAIRS) or link.name in STAGES
        if not own or not model or PROVENANCE not in model.files:
            return
        kind = "the pairs" if link.stage.addressing == PAIRS else "the model"
        name, anew = f"{model.path}/{PROVENANCE}", f"`dvc repro --force {link.stage.addressing}` makes {kind} anew"
        try:
            said = json.loads(model.files[PROVENANCE].read_bytes())
            if link.stage.addressing == PAIRS:
                right = {"inputs": {path: self.locked(link)[path] for path in said["inputs"]}}
            else:
                right = self.base(link, name) if link.stage.addressing == BASE else self.trained(link, name, said)
            names = {part: differing(said[part], right[part]) for part in right}
        except (ValueError, KeyError, TypeError) as error:
            yield Fault(f"{name} is not what a stage writes: {error!r}", anew)
            return
        if differs := "; ".join(f"{part} ({some(names[part])})" for part in names if names[part]):
            yield Fault(f"{name} is not what the locks and the files here say: {differs}", anew)

    def figures(self, link: Link) -> Iterator[Fault]:
        """What the figures of a stage say, and the answers and scores that they were counted from do not; and whose
        those are, by what they say.
        """
        made = {one.path: one for one in link.products}
        folder, file = f"metrics/{link.name}/held_out", f"metrics/{link.name}/metrics.json"
        held_out, metrics, model = (made.get(path) for path in (folder, file, f"models/{link.name}"))
        if link.name not in STAGES or not held_out or not metrics or held_out.fault or not metrics.files:
            return
        if not held_out.files or held_out.files.keys() < held_out.listed.keys():
            link.notes.append(f"{file}: not counted anew, as {folder} is not here")
            return
        deps = self.locked(link)
        hashes = {path: one.recorded for path, one in self.made.items() if one.recorded}
        own = self.experiment.stages[link.name]
        try:
            record = json.loads(model.files[PROVENANCE].read_bytes()) if model and not model.absent else {}
            in_float32 = record.get("device") == "cpu" and record["settings"].get("precision") in ("auto", "fp32")
            tables, figures = tables_of(held_out.files), json.loads(metrics.files[""].read_bytes())[link.name]
            others = [*of_others(link.name, tables, deps, hashes, None if link.inputs else own.answers)]
            said = [f"{file}: {what}" for what in miscounted(link.name, figures, tables, in_float32)]
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            others, said = [], [f"{file} and {folder} are not what a stage writes: {error!r}"]
        for what in others:
            yield Fault(what, f"`dvc repro --force {link.stage.addressing}` makes the model anew, and measures it")
        for what in said:
            yield Fault(what, f"`rm {file} && dvc repro {link.stage.addressing}` measures anew")

    def locked(self, link: Link) -> dict[str, Any]:
        """The hashes that a stage's lock has of what it was made from."""
        return {self.files.relative(dep.fs_path): dep.hash_info.value for dep in link.stage.deps if dep.hash_info}

    def base(self, link: Link, name: str) -> dict[str, Any]:
        """What provenance.json of models/base should say, of what can be told here."""
        model = self.experiment.model
        if link.inputs:  # said already
            return {}
        if folder := FOLDERS.get(model.source):
            return what_made_it(model, self.files.root / folder)
        link.notes.append(f"{name}: the hashes of the Hub's files are not compared, as these are not here")
        return {"settings": {"model": asdict(model)}}

    def trained(self, link: Link, name: str, said: dict[str, Any]) -> dict[str, Any]:
        """What provenance.json of a stage's model should say, of what can be told here."""
        own, stage = self.experiment.stages[link.name], STAGES[link.name]
        deps = self.locked(link)
        inputs = [path for path in deps if path.startswith("models/") or path == f"{stage.folder}/train.parquet"]
        right = {"inputs": said["inputs"] | {path: deps[path] for path in inputs}}
        if link.inputs:  # settings and code may be others, as is said already
            return right
        right["settings"] = json.loads(json.dumps(own.deciding))
        right["settings"] |= {name: said["settings"][name] for name in auto.left_open(own)}  # what it became there
        then, now = said["versions"]["python"].split(".")[:2], platform.python_version_tuple()[:2]
        if then == [*now]:
            return right | {"code": provenance.code(own)}
        link.notes.append(f"{name}: code is not compared, as Python {'.'.join(then)} writes it down in another way")
        return right


def some(names: list[str]) -> str:
    """The first few of them, and how many there are besides."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def not_committed() -> Iterator[str]:
    """Of each lock the stages that the last commit has otherwise, in words; nothing where there is no commit."""
    for lock in repository.LOCKS if head() else ():
        then = yaml.load(git("show", f"HEAD:./{lock}") or "{}", yaml.CSafeLoader).get("stages", {})
        now = repository.load(lock).get("stages", {})
        if names := sorted(name for name in then | now if then.get(name) != now.get(name)):
            yield f"{lock}: what it has of {some(names)} is not what the last commit has"


@contextmanager
def looked_at() -> Iterator[Chain]:
    """The workspace, every byte of it read. Raises InputError where DVC cannot read what it recorded."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo  # its import costs a quarter of a second

    try:
        with Repo() as repo:
            with Progress("verify") as shown:
                chain = Chain(repo, shown)
            yield chain
    except DvcException as error:
        raise InputError(f"DVC cannot read what it recorded: {error}") from None
