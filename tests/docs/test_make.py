"""The Makefile: what it tells of itself, and where it may lie."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from clone import ROOT


def test_help_lists_every_target() -> None:
    """`make help` tells of each target but the environment's own mark."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert targets == {line.split()[1] for line in said.splitlines()}


def test_a_path_with_a_space(tmp_path: Path) -> None:
    """`make` sets the environment up in a folder whose name has a space; one that shall lie in such is refused."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (folder / "requirements.lock").touch()  # of no packages
    environment = {"PATH": os.defpath, "PYTHON": sys.executable}
    subprocess.run(["make", "setup"], cwd=folder, env=environment, check=True)
    refused = subprocess.run(
        ["make", "VENV=another place", "setup"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (folder / ".venv/bin/python").exists()
    assert (folder / ".venv/.ready").exists()
    assert "VENV=another place: must be a path without spaces" in refused.stderr


# --- an environment that clones share --------------------------------------------------------------------------------


def locked(folder: Path, version: str) -> str:
    """A lock of one small package, which lies in a folder."""
    wheel, info = folder / f"small-{version}-py3-none-any.whl", f"small-{version}.dist-info"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("small.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: small\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"small @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def clone(folder: Path, lock: str) -> Path:
    """A clone with the Makefile and a lock."""
    folder.mkdir()
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (folder / "requirements.lock").write_text(lock)
    return folder


def made(folder: Path, venv: str, target: str = "setup", python: str = sys.executable) -> tuple[int, str, str]:
    """What `make` ends with, and says on its two streams."""
    command = ["make", "--no-print-directory", f"VENV={venv}", target]
    environment = {"PATH": os.defpath, "PYTHON": python, "PIP_NO_INDEX": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def installed(environment: Path) -> list[str]:
    """The versions of the package that are there."""
    return [path.name for path in environment.glob("lib/*/site-packages/small-*")]


def test_a_shared_environment(tmp_path: Path) -> None:
    """It is set up once. To a clone that has the same lock it is ready, in silence; one that has another is refused,
    until it is told to bring it up to that, and then the first is.
    """
    first, second = (locked(tmp_path, version) for version in ("1.0", "2.0"))
    shared, one, other = tmp_path / "shared", clone(tmp_path / "one", first), clone(tmp_path / "other", first)

    assert (0, f"setting up {shared}: some 6 GB of packages, once\n", "") == made(one, str(shared))
    assert ["small-1.0.dist-info"] == installed(shared)
    nothing = "make: Nothing to be done for 'setup'.\n"
    assert (0, nothing, "") == made(one, str(shared))
    assert (0, nothing, "") == made(other, str(shared))

    (other / "requirements.lock").write_text(second)
    code, said, refused = made(other, str(shared), "params")
    assert (2, "") == (code, said)
    assert f"{shared} was made from another requirements.lock, and other clones may need it: `make setup`" in refused
    assert ["small-1.0.dist-info"] == installed(shared)
    assert (0, nothing, "") == made(one, str(shared))

    told = f"bringing {shared}, made from another requirements.lock, up to this one\n"
    assert (0, told, "") == made(other, str(shared))
    assert ["small-2.0.dist-info"] == installed(shared)
    assert 2 == made(one, str(shared), "params")[0]


@pytest.mark.slow
def test_a_clone_s_own_environment(tmp_path: Path) -> None:
    """It follows the lock by itself, and says so; a lock that is merely newer is no other. What is gone from it comes
    back by the command that is then told. Half-made, it is not ready.
    """
    first, second = (locked(tmp_path, version) for version in ("1.0", "2.0"))
    folder = clone(tmp_path / "clone", first)
    made(folder, ".venv")
    (folder / "requirements.lock").write_text(first)
    unchanged = made(folder, ".venv")[1]
    (folder / "requirements.lock").write_text(second)
    code, said, _ = made(folder, ".venv", "params")  # which goes on to what is not here

    assert "make: Nothing to be done for 'setup'.\n" == unchanged
    assert 2 == code
    assert "bringing .venv, made from another requirements.lock, up to this one\n" == said
    assert ["small-2.0.dist-info"] == installed(folder / ".venv")

    shutil.rmtree(next((folder / ".venv").glob("lib/*/site-packages/small-2.0.dist-info")))
    python, environment = (
        folder / ".venv/bin/python",
        {"PYTHONPATH": str(ROOT), "PATH": os.defpath, "PIP_NO_INDEX": "1"},
    )
    lacking = subprocess.run(
        [python, "-m", "llmrl.params"], env=environment, capture_output=True, text=True, check=False
    )
    (command,) = re.findall("`(rm .+ make setup)`", lacking.stderr)
    subprocess.run(["sh", "-c", command], cwd=folder, env=environment | {"PYTHON": sys.executable}, check=True)

    assert ["small-2.0.dist-info"] == installed(folder / ".venv")

    (folder / "requirements.lock").write_text("small==3.0\n")  # which is nowhere
    assert 2 == made(folder, ".venv")[0]
    assert not (folder / ".venv/.ready").exists()


def test_an_older_python(tmp_path: Path) -> None:
    """Set-up with one is refused before anything is made."""
    python = tmp_path / "python3.8"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 8); $2"\n')
    python.chmod(0o755)
    folder = clone(tmp_path / "clone", "")
    code, _, said = made(folder, ".venv", python=str(python))

    assert 2 == code
    assert f"PYTHON={python}: Python 3.11 or newer is needed, as in `PYTHON=python3.11 make setup`" in said
    assert not (folder / ".venv").exists()
