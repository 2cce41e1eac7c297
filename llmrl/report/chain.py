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

from llmrl import params
from llmrl.base.record import what_made_it
from llmrl.base.settings import FOLDERS
from llmrl.errors import InputError
from llmrl.folders import PROVENANCE
from llmrl.graph import STAGES
from llmrl.plan.workspace import BASE, IN_ORDER
from llmrl.progress import Progress
from llmrl.report.outdated import differing
from llmrl.report.products import Fault, Files, Product, product_hash
from llmrl.session import provenance

NAMED = 4


@dataclass
class Link:
    """A stage, or a file that `dvc add` tracks: one link of the chain."""

    name: str
    stage: Any  # DVC's
    products: list[Product]
    inputs: list[Fault] = field(default_factory=list)  # of what it was made of
    claims: list[Fault] = field(default_factory=list)  # of what its model says of itself
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

    def link(self, stage: Any) -> Link:
        file = Path(self.files.relative(stage.path))
        lock = file.as_posix() if stage.is_data_source else file.with_name("dvc.lock").as_posix()
        products = [self.files.product(out, lock) for out in stage.outs]
        link = Link(lock if stage.is_data_source else stage.name, stage, products)
        self.made |= {one.path: one for one in products}
        if any(one.recorded for one in products) and not stage.is_data_source:
            link.inputs = [*self.inputs(link, lock)]
            link.claims = [*self.claims(link)]
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
        model = next((one for one in link.products if one.path.startswith("models/")), None)
        own = link.stage.addressing == BASE or link.name in STAGES
        if not own or not model or PROVENANCE not in model.files:
            return
        name, anew = f"{model.path}/{PROVENANCE}", f"`dvc repro --force {link.stage.addressing}` makes the model anew"
        try:
            said = json.loads(model.files[PROVENANCE].read_bytes())
            right = self.base(link, name) if link.stage.addressing == BASE else self.trained(link, name, said)
            names = {part: differing(said[part], right[part]) for part in right}
        except (ValueError, KeyError, TypeError) as error:
            yield Fault(f"{name} is not what a stage writes: {error!r}", anew)
            return
        if differs := "; ".join(f"{part} ({some(names[part])})" for part in names if names[part]):
            yield Fault(f"{name} is not what the locks and the files here say: {differs}", anew)

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
        deps = {self.files.relative(dep.fs_path): dep.hash_info.value for dep in link.stage.deps if dep.hash_info}
        inputs = [path for path in deps if path.startswith("models/") or path == f"data/{stage.data}/train.parquet"]
        right = {"inputs": said["inputs"] | {path: deps[path] for path in inputs}}
        if link.inputs:  # settings and code may be others, as is said already
            return right
        right["settings"] = json.loads(json.dumps(own.deciding))
        then, now = said["versions"]["python"].split(".")[:2], platform.python_version_tuple()[:2]
        if then == [*now]:
            return right | {"code": provenance.code(own)}
        link.notes.append(f"{name}: code is not compared, as Python {'.'.join(then)} writes it down in another way")
        return right


def some(names: list[str]) -> str:
    """The first few of them, and how many there are besides."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


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
