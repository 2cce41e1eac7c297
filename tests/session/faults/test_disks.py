"""Disks that are full or read-only, and files that are not what they were: one message, and nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import imports
import pytest
from clone import Clone

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mounts a file system over a folder until `undone`, or the end of the test."""
    mounted: list[Path] = []

    def over(folder: Path, *options: str) -> Callable[[], None]:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(("mount", *options, str(folder)), check=True)
        mounted.append(folder)
        return lambda: undo(folder)

    def undo(folder: Path) -> None:
        mounted.remove(folder)
        subprocess.run(("umount", str(folder)), check=True)

    yield over
    for folder in list(mounted):
        undo(folder)


def refused(clone: Clone, *said: str) -> str:
    """Run sft, which must fail with these words and no traceback."""
    output = clone.run("dvc", "repro", "sft", check=False)
    assert "ERROR" in output
    assert "Traceback" not in output
    for part in said:
        assert part in output
    return output


def test_no_room_for_a_checkpoint(clone, completes, mount) -> None:
    """A checkpoint that finds no room stops the stage."""
    undo = mount(clone.folder / ".llmrl", "-t", "tmpfs", "-o", "size=2M", "tmpfs")
    refused(clone, "no space is left on the disk; free some", "`dvc repro sft` goes on")
    assert not list((clone.folder / ".llmrl").glob("checkpoints/sft/*/*/step-*"))
    assert not (clone.folder / "models/sft").exists()
    undo()
    completes()


@pytest.mark.slow
def test_no_room_for_the_second_checkpoint(clone, completes, mount) -> None:
    """Where room ends later, the run goes on from the checkpoint that is whole."""
    clone.params(run={"save_total_limit": 5})
    mount(clone.folder / ".llmrl", "-t", "tmpfs", "-o", "size=7M", "tmpfs")
    refused(clone, "no space is left on the disk")
    assert ["step-3"] == [path.name for path in (clone.folder / ".llmrl").glob("checkpoints/sft/*/*/step-*")]
    subprocess.run(("mount", "-o", "remount,size=90M", str(clone.folder / ".llmrl")), check=True)
    completes("from step 3")


def test_no_room_for_the_product(clone, completes, mount) -> None:
    """A model that finds no room is not there at all, and need not be trained again."""
    base = (clone.folder / "models/base").rename(clone.folder / "base")
    undo = mount(clone.folder / "models", "-t", "tmpfs", "-o", "size=2500k", "tmpfs")
    for name in ("tiny", "raw", "dvc.yaml", "dvc.lock"):
        clone.run("git", "checkout", "-q", "--", f"models/{name}", check=False)
    subprocess.run(("cp", "-r", str(base), str(clone.folder / "models/base")), check=True)
    said = clone.run("python", "-m", "stages.sft", check=False)
    assert "no space is left on the disk" in said
    assert "Traceback" not in said
    assert not (clone.folder / "models/sft").exists()
    undo()
    base.rename(clone.folder / "models/base")
    completes("the model is trained")


@pytest.mark.slow
def test_dvc_finds_no_room(clone, completes, mount) -> None:
    """Where DVC cannot put the product into its cache, the stage need not train again."""
    clone.run("rm", "-rf", ".dvc/cache")  # which has what an undisturbed run made
    clone.run("dvc", "config", "--local", "cache.dir", str(clone.folder / "cache"))
    mount(clone.folder / "cache", "-t", "tmpfs", "-o", "size=1M", "tmpfs")
    said = clone.run("dvc", "repro", "-s", "sft", check=False)
    assert "ERROR" in said
    assert list((clone.folder / ".llmrl").glob("checkpoints/sft/*/*/trained"))
    clone.run("dvc", "config", "--local", "--unset", "cache.dir")
    completes("the model is trained")
    clone.run("python", "-m", "llmrl.session.checkpoints")
    assert not list((clone.folder / ".llmrl").glob("checkpoints/sft/*"))


@pytest.mark.parametrize("folder", ["models", "metrics/sft", "runs", ".llmrl"])
def test_a_folder_that_cannot_be_written(clone, mount, folder: str) -> None:
    """It is said before anything is loaded."""
    path = clone.folder / folder
    path.mkdir(parents=True, exist_ok=True)
    mount(path, "--bind", str(path))
    subprocess.run(("mount", "-o", "remount,ro,bind", str(path)), check=True)
    names, said = imports.told(clone.run("python", *imports.LISTED, "-m", "stages.sft", check=False))

    assert folder in said
    assert "the file system is read-only; make it writable" in said
    assert "Traceback" not in said
    assert "torch" not in names


@pytest.mark.slow
def test_inputs_that_were_changed(clone, completes) -> None:
    """A file cut short is named, and what DVC did not record is refused; `dvc repro` makes both anew."""
    weights, rows = clone.folder / "models/base/model.safetensors", clone.folder / "data/sft/train.parquet"
    rows.write_bytes(rows.read_bytes() + b" ")
    said = clone.run("python", "-m", "stages.sft", check=False)
    os.truncate(weights, weights.stat().st_size // 2)
    said += clone.run("python", "-m", "stages.sft", check=False)

    assert "data/sft is not what dvc.lock recorded when it was made" in said
    assert "models/base/model.safetensors is missing or not whole" in said
    assert "Traceback" not in said
    completes()
