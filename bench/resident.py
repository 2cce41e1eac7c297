"""Memory on a CPU, planned against measured, of a real model: `python -m bench.resident --model FOLDER`.

    a save_pretrained folder  ->  bench/results/memory-cpu-2026-11-27.json  ->  the table of docs/memory.md

Each stage runs as `python -m stages.<stage>` in a copy of this repository: two steps, all rows as long as they may be,
in a precision, whole or with adapters. Beside what the plan says of the training, and of the stage, is the most that
was resident less the process as it is before it loads a model. A call measures what is missing on record; without
`--model` it writes the table alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench import inputs
from bench.clone import cloned
from bench.gpu_jobs import ROOT
from bench.tables import with_rows
from llmrl import devices, params
from llmrl.graph import STAGES
from llmrl.memory import formula
from llmrl.memory.shape import Shape
from llmrl.plan import fit

PAGE, RESULTS = ROOT / "docs/memory.md", ROOT / "bench/results/memory-cpu-2026-11-27.json"
TITLE = "Resident on a CPU"
BEFORE = "tokenising"  # the last phase before a model is loaded
AFTER = ("measuring", "answering", "judging prompts")  # moments of the formula that are not of the training
LENGTH, ROWS = 96, 8  # tokens of a row, half of them a completion's; rows at once
CHANGES: dict[str, dict[str, Any]] = {
    "model": {"source": "raw"},
    "train": {"threads": 1, "batch": ROWS, "micro_batch": ROWS, "per_device_eval_batch_size": ROWS, "max_steps": 2}
    | {"eval_strategy": "no", "logging_steps": 1, "lr": 1e-5},
    **{stage: {"init": "models/base", "max_length": LENGTH} for stage in ("sft", "reward", "dpo")},
    "grpo": {"init": "models/base", "max_prompt_length": LENGTH // 2, "max_completion_length": LENGTH // 2}
    | {"batch": ROWS, "micro_batch": ROWS, "num_generations": 4, "per_device_eval_batch_size": ROWS, "eval_rows": 4},
    "answers": {"samples": 1, "batch": ROWS, "max_new_tokens": 16},
    "run": {"min_signal": 0},
}
WAYS = [("fp32", None, False), ("bf16", fit.LORA, False), ("bf16", None, False), ("fp32", fit.LORA, False)]
WAYS += [("fp32", None, True)]
Found = dict[str, Any]


def changed(folder: Path, stage: str, precision: str, lora: Any, twice: bool) -> None:
    """The params.yaml of a measurement, from this repository's."""
    yaml = YAML()
    tree = yaml.load(ROOT / "params.yaml")
    for one, name in itertools.product(STAGES, CHANGES["train"]):
        tree[one].pop(name, None)
    for section, values in CHANGES.items():
        tree[section].update(values)
    tree[stage].update({"precision": precision, "lora": lora, "gradient_checkpointing": twice})
    yaml.dump(tree, folder / "params.yaml")


def run(folder: Path, module: str, *arguments: str) -> None:
    """A module of the copy; it must succeed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run((sys.executable, "-m", module, *arguments), cwd=folder, env=environment, check=True)


def filled(folder: Path, model: Path) -> Path:
    """A copy of this repository with the model as models/base, and data sets of rows that are all as long."""
    from llmrl.models.loading import load_tokenizer

    cloned(folder, products=False)
    for file in ("dvc.lock", "data/dvc.lock", "models/dvc.lock"):
        (folder / file).unlink(missing_ok=True)
    for words in (("init",), ("-c", "user.name=bench", "-c", "user.email=", "commit", "--allow-empty", "-m", "empty")):
        subprocess.run(("git", *words), cwd=folder, check=True, capture_output=True)
    shutil.copytree(model, folder / "models/raw", dirs_exist_ok=True)
    changed(folder, "sft", "fp32", None, False)
    run(folder, "llmrl.base")
    limits = {"sft": LENGTH, "preference": LENGTH, "prompts": LENGTH // 2}
    inputs.ROWS.update(train=2 * ROWS, eval=ROWS)
    inputs.rows(limits, load_tokenizer(str(folder / "models/base")), folder / "data")
    return folder


def planned(folder: Path, stage: str) -> formula.Planned:
    settings = params.experiment(folder / "params.yaml").stages[stage]
    shape = Shape.of(json.loads((folder / "models/base/config.json").read_text()))
    assert shape is not None
    return formula.on_machine(devices.Machine("cpu", "CPU", "fp32"), settings, shape)


def measured(folder: Path, stage: str) -> Found:
    """GiB that are expected, and that were resident less the process's own."""
    moments = {name: formula.total(parts) for name, parts in formula.moments(planned(folder, stage)).items()}
    shutil.rmtree(folder / "runs", ignore_errors=True)
    shutil.rmtree(folder / ".llmrl", ignore_errors=True)  # or a model that is trained already is measured alone
    run(folder, f"stages.{stage}")
    (record,) = (json.loads(file.read_text()) for file in (folder / "runs").glob("*/run.json"))
    phases = {name: taken["resident"] for name, taken in record["phase_gib"].items()}
    process = phases[BEFORE]
    train = max(size for name, size in moments.items() if name not in AFTER)
    return {
        "process": process,
        "expected": {"training": round(train / fit.GIB, 2), "stage": round(max(moments.values()) / fit.GIB, 2)},
        "resident": {name: round(size - process, 2) for name, size in phases.items()},
        "seconds": record["phases"],
    }


def named(row: Found) -> tuple[str, str, bool, bool]:
    return row["stage"], row["precision"], row["lora"], row["twice"]


def rows(found: list[Found]) -> list[list[str]]:
    """A measurement each: what is expected and was resident, while it trained and at most, and how many times that is
    the plan's.
    """
    made = []
    for row in sorted(
        found, key=lambda row: ([*STAGES].index(row["stage"]), row["precision"] != "fp32", *named(row)[2:])
    ):
        way = ("LoRA" if row["lora"] else "full") + (", checkpointing" if row["twice"] else "")
        most = {"training": row["resident"]["training"], "stage": max(row["resident"].values())}
        cells = [
            f"{row['expected'][name]:.2f} | {size:.2f} | {size / row['expected'][name]:.2f}"
            for name, size in most.items()
        ]
        made.append([row["stage"], f"{row['precision']}, {way}", *cells])
    return made


def written(page: str, found: list[Found]) -> str:
    """The page with its table, the first below its title, made anew under the head that it has there."""
    before, section = page.split(f"\n## {TITLE}\n")
    return f"{before}\n## {TITLE}\n{with_rows(section, rows(found))}"


def on_record() -> Found:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"measured": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a folder as save_pretrained writes it")
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=[*STAGES])
    parser.add_argument("--work", type=Path, default=ROOT / ".llmrl/bench/resident", help="where it runs")
    arguments = parser.parse_args()
    found = on_record()
    known = {named(row) for row in found["measured"]}
    for way, stage in itertools.product(WAYS, arguments.stage) if arguments.model else ():
        about = (stage, way[0], way[1] is not None, way[2])
        if about in known:
            continue
        folder = arguments.work if arguments.work.exists() else filled(arguments.work, arguments.model)
        changed(folder, stage, *way)
        row = dict(zip(("stage", "precision", "lora", "twice"), about, strict=True))
        found["measured"].append(row | measured(folder, stage))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found["measured"]), encoding="utf-8")


if __name__ == "__main__":
    main()
