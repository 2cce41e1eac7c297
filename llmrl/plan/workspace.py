"""What of this workspace is the experiment's: what DVC would make anew, and by which model sizes are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.base.settings import FOLDERS, Model
from llmrl.data.settings import DATA_SETS
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.training.settings import Settings

BASE = "models/dvc.yaml:base"
PREPARE = {name: f"data/dvc.yaml:prepare@{name}" for name in DATA_SETS}
PAIRS = "data/dvc.yaml:pairs"
IN_ORDER = (BASE, *PREPARE.values(), "sft", PAIRS, *(name for name in STAGES if name != "sft"))

Reasons = dict[str, list[str]]  # the stages that would run, each with why


def reasons() -> Reasons:
    """Which of its stages DVC would run, and why. Raises InputError where DVC refuses."""
    import networkx  # DVC's graph is one of its
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    found: Reasons = {}
    try:
        with Repo() as repo:
            changes, graph = repo.status(), repo.index.graph
            for stage in graph:
                above = {one.addressing for one in networkx.descendants(graph, stage)} & changes.keys()
                own = [words(entry) for entry in changes.get(stage.addressing, ())]
                if own or above:
                    found[stage.addressing] = own or [f"follows {', '.join(sorted(above))}"]
    except DvcException as error:
        raise InputError(f"dvc status: {error}") from None
    return found


def words(entry: Any) -> str:
    """DVC's nested changes on one line: what happened, and to what."""
    if isinstance(entry, str):
        return entry
    ((kind, changed),) = entry.items()
    grouped: dict[str, list[str]] = {}
    for name, how in changed.items():
        each = {f"{name} {key}": one for key, one in how.items()} if isinstance(how, dict) else {name: how}
        for what, happened in each.items():
            grouped.setdefault(happened, []).append(what)
    return f"{kind}: " + "; ".join(f"{happened} {', '.join(names)}" for happened, names in grouped.items())


def starts_from(name: str, stages: Mapping[str, Settings]) -> str:
    """The folder of the model that a stage starts from, by way of those that other stages make."""
    init = stages[name].own.init
    made = next((one for one in stages if init == f"models/{one}"), None)
    return starts_from(made, stages) if made else init


def config_file(folder: str, model: Model, why: Reasons) -> Path | None:
    """The config.json of the model that such a folder will hold; None where it is not here yet."""
    file = Path(folder, "config.json")
    if folder == "models/base" and BASE in why:
        if model.source in FOLDERS:
            file = Path(FOLDERS[model.source], file.name)
        elif any("params.yaml model" in one or one.startswith("changed outs") for one in why[BASE]):
            from huggingface_hub import try_to_load_from_cache  # its import costs a tenth of a second

            found = model.revision and try_to_load_from_cache(model.source, file.name, revision=model.revision)
            return Path(found) if isinstance(found, str) else None
    return file if file.exists() else None
