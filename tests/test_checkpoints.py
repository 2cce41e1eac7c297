"""Where a run resumes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from llmrl import checkpoints, locks, resume
from llmrl.errors import InputError


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

    assert older == store.newest()


def test_another_device_begins_anew(store):
    """Its last bits would differ."""
    keep(store, 1)

    assert checkpoints.Store(store.folder, "cuda").newest() is None


def test_what_was_left_unfinished_is_cleared(store):
    """Whatever a process was writing when it was killed."""
    (store.unfinished / "checkpoint-3").mkdir()
    store.open()

    assert [] == list(store.unfinished.iterdir())


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
    with locks.held(locks.of(store.folder), {}):
        checkpoints.clean()
        left = list(checkpoints.all_of_them().glob("*/*/"))

    assert store.folder in left
    assert checkpoints.ABANDONED + 1 >= len(left) >= checkpoints.ABANDONED


@pytest.mark.parametrize("name", resume.ATTRIBUTES)
def test_a_version_that_moves_what_is_restored_is_refused(name):
    """Rather than to resume inexactly."""
    trainer = SimpleNamespace(**{other: None for other in resume.ATTRIBUTES if other != name})
    with pytest.raises(InputError, match=f"has no {name}"):
        resume.require(trainer, None)
