"""Kills the whole pipeline at random; a record of a longer run is kills.json."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from clone import STAGES
from kills import torment


@pytest.mark.slow
def test_killed_anywhere_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """Ten kills at random instants, with random signals, of whoever: the products are those of an undisturbed run."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    assert 10 == len(torment(tmp_path, kills=10, seed=seed))


def test_record() -> None:
    """The recorded runs killed each stage, with each signal, and lost nothing."""
    runs = json.loads((Path(__file__).parent / "kills.json").read_text())
    kills = [kill for run in runs for kill in run["kills"]]

    assert not any(run["lost"] for run in runs)
    assert 100 <= len(kills)
    assert {*STAGES} <= {kill["stage"] for kill in kills}
    assert {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"} == {kill["signal"] for kill in kills}
