"""The project as if its stages had run: products with nothing in them, curves, and what the real DVC records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clone import Clone, toy_clone
from dvc.repo import Repo
from ruamel.yaml import YAML


def charts(root: Path) -> dict[str, dict[str, Any]]:
    """Those of dvc.yaml, by their names."""
    plots = YAML(typ="safe").load((root / "dvc.yaml").read_text())["plots"]
    return {name: chart for plot in plots for name, chart in plot.items()}


def curves(clone: Clone, scale: float, *stages: str) -> None:
    """Curves of all stages, or of some."""
    for name, chart in charts(clone.folder).items():
        for path, curve in chart["y"].items() if not stages or name.split()[0] in stages else ():
            (clone.folder / path).parent.mkdir(parents=True, exist_ok=True)
            lines = f"step\t{curve}\n0\t{scale}\n5\t{scale * 0.5}\n10\t{scale * 0.25}\n"
            (clone.folder / path).write_text(lines)


def unrun_clone(folder: Path) -> Clone:
    """The project in a new folder, with products and curves of every stage; DVC has recorded and git committed them."""
    clone = toy_clone(folder)
    curves(clone, 1)
    with Repo(str(folder)) as repo:
        stages = repo.index.stages
        for one in (*(out for stage in stages for out in stage.outs), *(dep for stage in stages for dep in stage.deps)):
            path = Path(one.fs_path)
            if not path.exists():
                file = path if path.suffix else path / "whole"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("{}")
    clone.run("dvc", "commit", "-q", "-f")
    clone.commit("a run")
    return clone
