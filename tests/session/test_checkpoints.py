"""Where a run resumes from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmrl import environment
from llmrl.errors import InputError
from llmrl.folders import PROVENANCE, TRAINING
from llmrl.session import checkpoints, locks, resume


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> checkpoints.Store:
    """A store of a repository without any product."""
    monkeypatch.chdir(tmp_path)
    store = checkpoints.Store(checkpoints.place("sft", {"settings": 1}), "cpu")
    store.open()
    return store


def keep(store: checkpoints.Store, step: int) -> Path:
    written = store.unfinished / "checkpoint"
    (written / "deep").mkdir(parents=True)
    (written / "deep/weights").write_text("1234")
    return store.keep(written, f"step-{step}", {"loss": 0.1})


def test_the_newest_is_found_with_its_state(store):
    """By its number, not its name."""
    keep(store, 9)
    newest = keep(store, 10)

    assert newest == store.newest()
    assert 0.1 == checkpoints.state(newest)["loss"]


@pytest.mark.parametrize("damage", [lambda f: f.write_text("12"), lambda f: f.unlink()], ids=["cut", "gone"])
def test_a_damaged_one_is_passed_over(store, damage):
    """The one before it is taken."""
    older = keep(store, 1)
    damage(keep(store, 2) / "deep/weights")
    store.open()

    assert older == store.newest()


def test_another_device_begins_anew(store):
    """Its last bits would differ. What the first has left stays, and the run on either is told where it stands."""
    keep(store, 400).rename(store.trained)
    keep(store, 500)
    for folder in (store.folder, *store.folder.iterdir()):
        os.utime(folder, (0, 0))
    other = checkpoints.Store(store.place, "NVIDIA H200, bf16; adamw_torch_fused, layers by liger")
    other.open()
    assert "begins this stage anew" == checkpoints.progress(store.place)
    for step in (10, 20):
        keep(other, step)
        other.limit(1)

    assert "step-20" == other.newest().name
    assert "goes on from step 20" == checkpoints.progress(store.place)
    assert "step-500" == store.newest().name
    assert not checkpoints.usable(other.trained)
    assert checkpoints.usable(store.trained)


def test_what_was_left_unfinished_is_cleared(store):
    """Whatever a process was writing when it was killed."""
    (store.unfinished / "checkpoint-3").mkdir()
    store.open()

    assert [] == list(store.unfinished.iterdir())


def test_a_damaged_one_takes_no_room(store):
    """The run that begins anew keeps its own, and is said to go on from there."""
    for step in (400, 500):
        (keep(store, step) / "deep/weights").write_text("12345")
    store.open()
    assert "begins this stage anew" == checkpoints.progress(store.place)
    for step in (10, 20):
        keep(store, step)
        store.limit(1)

    assert ["step-20"] == [path.name for path in store.steps()]
    assert "goes on from step 20" == checkpoints.progress(store.place)


def test_only_the_last_are_kept(store):
    """As many as are asked for."""
    for step in (1, 2, 3):
        keep(store, step)
    store.limit(2)

    assert ["step-2", "step-3"] == [path.name for path in store.steps()]


def test_places_differ_by_all_that_decides_the_bytes():
    """And are the same for the same."""
    places = {checkpoints.place("sft", {"settings": value}) for value in (1, 2, 1)}

    assert 2 == len(places)


def test_abandoned_experiments_are_bounded(store):
    """The last ones worked at stay, and whatever a process works on."""
    folders = [checkpoints.place("dpo", {"settings": number}) for number in range(6)]
    for folder in folders:
        folder.mkdir(parents=True)
    with locks.held(locks.of(store.place), None):
        checkpoints.clean()
        left = list(checkpoints.all_of_them().glob("*/*/"))

    assert store.place in left
    assert checkpoints.ABANDONED + 1 >= len(left) >= checkpoints.ABANDONED


def test_what_another_process_has_removed_is_gone(store, monkeypatch):
    """Whoever comes second finds nothing, and nothing wrong."""
    shutil.rmtree(store.place)
    assert 0 == checkpoints.last_change(store.place)
    assert not checkpoints.is_recorded(store.place)

    store.open()
    monkeypatch.setattr(checkpoints, "is_recorded", lambda place: shutil.rmtree(place) or True)
    checkpoints.clean()
    assert not store.place.exists()


def test_a_start_waits_while_its_checkpoints_are_removed(store):
    """It is not refused: nobody runs the same."""
    with ExitStack() as removing:
        removing.enter_context(locks.held(locks.of(store.place), None))
        threading.Timer(0.2, removing.pop_all().close).start()
        with locks.alone_in(store.place, "sft"):
            assert os.getpid() == json.loads(Path(".llmrl/locks", locks.of(store.place)).read_text())["pid"]


def test_what_dvc_records_is_removed(store):
    """When DVC's cache has the very model, and not before; what the end of `make repro` runs does it."""
    made_by = {"settings": {}, "inputs": {}, "code": {}}
    Path("dvc.yaml").write_text(
        "stages: {sft: {cmd: mkdir -p models && cp -r given models/sft, deps: [given], outs: [models/sft]}}"
    )
    for folder in (Path("given"), store.unfinished / "trained/model"):
        folder.mkdir(parents=True)
        for name, content in {PROVENANCE: made_by, TRAINING: {}}.items():
            (folder / name).write_text(json.dumps(content))
    store.keep(store.unfinished / "trained", "trained", {})
    subprocess.run(("dvc", "init", "-q", "--no-scm"), check=True)
    checkpoints.clean()
    assert store.trained.exists()

    subprocess.run(("dvc", "repro", "-q"), check=True)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run((sys.executable, "-m", "llmrl.session.checkpoints"), env=environment, check=True)
    assert not store.place.exists()


@pytest.mark.parametrize("name", resume.ATTRIBUTES)
def test_a_version_that_moves_what_is_restored_is_refused(name):
    """Rather than to resume inexactly."""
    trainer = SimpleNamespace(**{other: None for other in resume.ATTRIBUTES if other != name})
    with pytest.raises(InputError, match=f"has no {name}"):
        resume.require_restorable(trainer, None)


def test_what_to_do_about_such_a_version(monkeypatch, tmp_path):
    """As where a package is missing: no mark is to be removed of an environment that `make` has not set up."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(InputError) as raised:
        resume.require_restorable(SimpleNamespace(), None)
    assert str(raised.value).endswith(environment.remedy())
    assert ".ready" not in str(raised.value)

    (tmp_path / ".ready").touch()
    with pytest.raises(InputError, match=f"`rm {tmp_path}/.ready && VENV={tmp_path} make setup`"):
        resume.require_restorable(SimpleNamespace(), None)
