"""Data, models and experiments on their way from one clone to another, through the real dvc and git.

The micro experiment is run once; what a remote and a bare repository then hold must do for a clone that has nothing.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clone import STAGES, Clone, micro_clone

SETS = ["data/sft", "data/preference", "data/pairs", "data/prompts"]
PRODUCTS = [*SETS, "models/base", *(f"models/{stage}" for stage in STAGES)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has run and committed its experiment, pushed to a bare repository, with a folder as DVC's remote."""
    place = tmp_path_factory.mktemp("sharing")
    clone = micro_clone(place / "ada")
    clone.run("dvc", "repro")
    clone.run("dvc", "remote", "add", "-d", "store", str(place / "store"))
    clone.commit("the experiment")
    clone.run("git", "init", "-q", "--bare", "-b", "main", str(place / "origin.git"))
    clone.run("git", "remote", "add", "origin", str(place / "origin.git"))
    clone.run("git", "push", "-q", "origin", "main")
    clone.run("dvc", "push")
    return clone


def another(made: Clone, folder: Path) -> Clone:
    """A clone of what was pushed: no cache, no products."""
    origin = made.run("git", "remote", "get-url", "origin").strip()
    subprocess.run(["git", "clone", "-q", origin, str(folder)], check=True)
    return Clone(folder)


@pytest.fixture(scope="module")
def with_s3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are of an environment of its own: `dvc[s3]` does not fit beside what is locked."""
    folder = tmp_path_factory.mktemp("s3") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    required = Path(__file__).parent / "s3-requirements.txt"
    subprocess.run([folder / "bin/pip", "install", "-q", "--require-hashes", "-r", str(required)], check=True)
    return folder / "bin"


@pytest.fixture
def store(with_s3: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a store that speaks S3's protocol, with a bucket in it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    bucket = f"import boto3; boto3.client('s3', endpoint_url={address!r}).create_bucket(Bucket='llmrl')"
    with subprocess.Popen([with_s3 / "moto_server", "-p", str(port)], stderr=subprocess.DEVNULL) as server:
        end = time.monotonic() + 300
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < end:
            time.sleep(0.1)
        subprocess.run([with_s3 / "python", "-c", bucket], check=True)
        yield address
        server.terminate()


def contents(clone: Clone, product: str) -> dict[str, bytes]:
    """The files of a product."""
    folder = clone.folder / product
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_what_was_pushed_is_pulled_and_nothing_is_left_to_do(made: Clone, tmp_path: Path) -> None:
    """`dvc push` to a folder, a fresh clone, `dvc pull`: all products are the same bytes; `dvc repro` runs nothing."""
    clone = another(made, tmp_path / "ben")
    assert not any((clone.folder / product).exists() for product in PRODUCTS)
    clone.run("dvc", "pull")

    assert [] == clone.stages("dvc", "repro")
    assert "" == clone.run("git", "status", "--porcelain")
    for product in PRODUCTS:
        assert contents(made, product)
        assert contents(made, product) == contents(clone, product)


@pytest.mark.slow
def test_one_model_is_pulled_alone(made: Clone, tmp_path: Path) -> None:
    """`dvc pull models/grpo` brings this model and no other product."""
    clone = another(made, tmp_path / "ben")
    clone.run("dvc", "pull", "models/grpo")

    assert contents(made, "models/grpo") == contents(clone, "models/grpo")
    assert ["models/grpo"] == [product for product in PRODUCTS if (clone.folder / product).exists()]


@pytest.mark.slow
def test_without_the_products_only_the_changed_stage_runs(made: Clone, tmp_path: Path) -> None:
    """`dvc repro --pull` in a fresh clone brings what a changed grpo depends on, and runs grpo alone; the answers that
    its reward model scores are pulled before, as the stage says.
    """
    clone = another(made, tmp_path / "ben")
    clone.params(grpo={"temperature": 0.9})
    said = clone.run("dvc", "repro", "--pull", "--allow-missing", "grpo", check=False)
    assert "metrics/dpo/held_out: grpo comes from models/dpo" in said
    clone.run(*re.search("`(dvc pull [^`]+)`", " ".join(said.split()))[1].split())

    assert ["grpo"] == clone.stages("dvc", "repro", "--pull", "--allow-missing", "grpo")


@pytest.mark.slow
def test_an_experiment_that_is_no_commit_is_pulled(made: Clone, tmp_path: Path) -> None:
    """`dvc exp push` and `dvc exp pull` carry settings, figures and models; applied, nothing is left to do."""
    made.run("dvc", "exp", "run", "-q", "-n", "warmer", "-S", "grpo.temperature=1.2")
    made.run("dvc", "exp", "push", "origin", "warmer")
    clone = another(made, tmp_path / "ben")
    assert "warmer" in clone.run("dvc", "exp", "list", "origin")
    clone.run("dvc", "exp", "pull", "origin", "warmer")
    clone.run("dvc", "exp", "apply", "warmer")
    clone.run("dvc", "pull")

    assert "temperature: 1.2" in (clone.folder / "params.yaml").read_text()
    assert made.figures("grpo") == clone.figures("grpo")
    assert contents(made, "models/grpo") == contents(clone, "models/grpo")
    assert [] == clone.stages("dvc", "repro")


@pytest.mark.slow
def test_over_s3(made: Clone, with_s3: Path, store: str, tmp_path: Path) -> None:
    """The same over S3's protocol, with a DVC that speaks it; the project's own does not mind such a remote."""
    made.run("git", "checkout", "-q", ".")  # what an experiment has changed
    made.run("dvc", "checkout", "-q")
    clone = another(made, tmp_path / "ben")
    for one in (made, clone):
        one.environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        one.run("dvc", "remote", "add", "-f", "-d", "bucket", "s3://llmrl/store")
        one.run("dvc", "remote", "modify", "bucket", "endpointurl", store)
    made.run(str(with_s3 / "dvc"), "push")
    clone.run(str(with_s3 / "dvc"), "pull")

    assert [] == clone.stages("dvc", "repro")
    for product in PRODUCTS:
        assert contents(made, product) == contents(clone, product)
