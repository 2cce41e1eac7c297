"""What a run's phases take of memory and energy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from small import settings

from llmrl.session import record
from llmrl.session.meters import Energy

FULL = 262_143_328_850  # µJ, as an Intel package has it


def package(folder: Path, number: int, name: str, taken: int) -> Path:
    """A zone as Linux lays it out; its counter."""
    zone = folder / f"intel-rapl:{number}"
    (zone / f"intel-rapl:{number}:0").mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text(f"{FULL}\n")
    (zone / "energy_uj").write_text(f"{taken}\n")
    return zone / "energy_uj"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count the peak of the whole process alone")
def test_memory_of_each_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase that takes little after one that took much is on record with its own, the run with the most."""
    monkeypatch.chdir(tmp_path)
    with record.opened(settings("sft")) as folder:
        for name, mib in (("little", 1), ("much", 500), ("little again", 1)):
            with folder.phase(name):
                bytearray(mib * 2**20)
    run = json.loads((folder.path / "run.json").read_text())
    taken = {name: sizes["resident"] for name, sizes in run["phase_gib"].items()}

    assert taken["much"] - taken["little"] > 0.4
    assert taken["much"] - taken["little again"] > 0.4
    assert {"resident": max(taken.values())} == run["peak_gib"]
    assert run["phases"].keys() == taken.keys()


def test_energy_of_packages(tmp_path: Path) -> None:
    """The joules of all packages, also of one whose counter begins anew; those of the whole system are not added."""
    one, other = package(tmp_path, 0, "package-0", FULL - 2_000_000), package(tmp_path, 1, "package-1", 5)
    whole = package(tmp_path, 2, "psys", 0)
    energy = Energy(tmp_path)
    try:
        before = energy.read()["cpu"]
        one.write_text("3000000")
        other.write_text("500005")
        whole.write_text("90000000")
        assert 5.5 == pytest.approx(energy.read()["cpu"] - before)
        one.write_text("4000000")
        assert 6.5 == pytest.approx(energy.read()["cpu"] - before)
    finally:
        energy.close()


@pytest.mark.parametrize("left", [None, "", "no number"])
def test_a_counter_that_cannot_be_read(tmp_path: Path, left: str | None) -> None:
    """It tells nothing, from its beginning or from then on, and stops nothing."""
    file = package(tmp_path, 0, "package-0", 7)

    def spoil() -> None:
        file.unlink() if left is None else file.write_text(left)

    energy = Energy(tmp_path)
    assert energy.read()["cpu"] == 0
    spoil()
    assert "cpu" not in energy.read()
    assert "cpu" not in Energy(tmp_path).read()
    energy.close()
