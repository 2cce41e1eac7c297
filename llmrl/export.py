"""A whole model folder in another precision, bfloat16 say, to use or to publish: models/ stays as it is.

    python -m llmrl.export models/grpo ../grpo-bf16 --dtype bfloat16

What comes of it loads with plain `from_pretrained`, which computes in the precision of the weights: the answers are
nearly the same, not the same (docs/publishing.md has by how much).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llmrl import repository
from llmrl.errors import InputError, reported
from llmrl.folders import PROVENANCE, architecture, is_kind

PRECISIONS = ("bfloat16", "float16", "float32")
EXPORT = "export"  # in provenance.json: what was done, by which libraries, to the product of which hash
# Of a project: what DVC makes, keeps or depends on.
OURS = ("data", "models", "metrics", "runs", "llmrl", "stages", "docs", "tests", "bench", "profiles")


def not_ours(folder: Path) -> Path:
    """The path of a folder to write into, resolved. Raises InputError where it is a project's own, of this or another:
    in most of them DVC would take what is written for a change of a product or of the code.
    """
    found = folder.resolve()
    for root in (found, *found.parents):
        inner = found.relative_to(root).parts
        if not any((root / mark).exists() for mark in (".dvc/config", "dvc.yaml")):
            continue
        if not inner or inner[0] in OURS or inner[0].startswith("."):
            raise InputError(
                f"{folder} lies in a folder of a project, {root}, which holds what git and DVC put there: name "
                "another, ../published for one."
            )
    return found


def empty(folder: Path) -> Path:
    """The path of a folder that is to appear whole, resolved. Raises InputError where something would be lost by it."""
    found = not_ours(folder)
    if found.exists() and (not found.is_dir() or any(found.iterdir())):
        raise InputError(f"{folder} exists and is not empty: name a folder that is not there yet.")
    if (unfinished := found.with_name(f".{found.name}")).exists():
        raise InputError(
            f"{unfinished} is where the model is written until it is whole, and exists: it is left by an export that "
            "was killed, or is something of yours. Delete it, or name another folder."
        )
    return found


def record_of(folder: Path) -> dict[str, Any]:
    """The record of what made a model that is to be exported, empty where it has none. Raises InputError where there is
    no whole model, or one that is an export itself.
    """
    architecture(str(folder))
    try:
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(
            f"{folder / PROVENANCE} is no JSON: {error}. `rm -r {folder} && dvc checkout {folder}` brings back what "
            "was made."
        ) from None
    if EXPORT in record:
        raise InputError(
            f"{folder} is itself exported, in {record[EXPORT]['dtype']}: what it was rounded from is no longer in it. "
            "Export the model that it was made of."
        )
    return dict(record)


def export(folder: Path, out: Path, dtype: str) -> list[str]:
    """Write the model of a folder into another, in a precision by torch's name; what is to be said of it, a line each.

    Raises InputError where there is no such model, where `out` holds anything or is no place for it, and where a weight
    is beyond what the precision holds.
    """
    into, record, kind = empty(out), record_of(folder), architecture(str(folder))
    classes = {"ForCausalLM": "AutoModelForCausalLM", "ForSequenceClassification": "AutoModelForSequenceClassification"}
    auto = next((name for ending, name in classes.items() if is_kind(kind, ending)), None)
    if auto is None:
        raise InputError(f"{folder} holds a {kind}: only policies and reward models are exported.")
    import torch
    import transformers

    from llmrl.models.loading import LOADING
    from llmrl.models.saving import save

    model = getattr(transformers, auto).from_pretrained(str(folder), **LOADING | {"dtype": dtype})
    for name, weight in model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise InputError(f"{folder}: {name} has weights beyond what {dtype} holds; bfloat16 holds them.")
    digest = repository.digest(folder)
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    record |= {EXPORT: {"of": digest, "dtype": dtype, "versions": versions}}
    with repository.replaced(into) as unfinished:
        save(model, str(folder), unfinished, {PROVENANCE: record})
    return [
        f"{out}: {kind} in {dtype}, {megabytes(into):.1f} MB; {folder} has {megabytes(folder):.1f} MB",
        *remarks(folder, digest),
    ]


def remarks(folder: Path, digest: str) -> list[str]:
    """What whoever gets the export should know of the folder it is of."""
    said = []
    here = Path.cwd().resolve()
    product = folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder
    if digest != repository.recorded().get(product, digest):
        said.append(
            f"{folder} is not what dvc.lock recorded when it was made, so its {PROVENANCE} tells of another model: "
            f"`rm -r {product} && dvc checkout {product}` brings that back."
        )
    if not (folder / PROVENANCE).exists():
        said.append(f"{folder} has no {PROVENANCE}: what made it is not known.")
    if left := sorted(path.name for path in folder.iterdir() if path.is_dir()):
        said.append(f"left behind: {', '.join(f'{name}/' for name in left)}, of which the model needs nothing.")
    return said


def megabytes(folder: Path) -> float:
    """Of the files directly in it, in megabytes of 1,000,000 bytes."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llmrl.export", description="A model in another precision.")
    parser.add_argument("model", type=Path, help="a model's folder, models/grpo for one")
    parser.add_argument("out", type=Path, help="the folder to write: not there yet, or empty")
    parser.add_argument("--dtype", choices=PRECISIONS, default=PRECISIONS[0], help="of the weights (%(default)s)")
    arguments = parser.parse_args()
    with reported():
        said, *further = export(arguments.model, arguments.out, arguments.dtype)
        print(said)
        sys.stderr.writelines(f"  {line}\n" for line in further)


if __name__ == "__main__":
    main()
