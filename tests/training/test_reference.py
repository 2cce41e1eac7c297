"""DPO's reference: its log-probabilities computed beforehand are those it would be asked for at each step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small
from clone import Clone, micro_clone
from small import TINY

from stages import dpo

DPO = ("python", "-m", "stages.dpo")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, run as far as DPO."""
    clone = micro_clone(tmp_path_factory.mktemp("reference") / "clone")
    clone.run("dvc", "repro", "dpo")
    return clone


def curves(clone: Clone) -> dict[str, list[list[float]]]:
    """Every curve of DPO, by its file."""
    folder = clone.folder / "metrics/dpo/plots"
    return {
        file.name: [[float(value) for value in line.split("\t")] for line in file.read_text().splitlines()[1:]]
        for file in folder.rglob("*.tsv")
    }


@pytest.mark.slow
def test_precomputed_it_is_the_same_training(clone: Clone) -> None:
    """Every figure and every point of every curve, and the same bytes where the stage was killed."""
    expected, drawn = clone.figures("dpo"), curves(clone)
    clone.params(dpo={"precompute_ref_log_probs": True}, run={"save_steps": 1})
    clone.run("dvc", "repro", "dpo")
    found = clone.figures("dpo")
    answers, expected_answers = found.pop("answers"), expected.pop("answers")

    assert found == pytest.approx(expected, abs=1e-5)
    assert answers == expected_answers
    assert drawn.keys() == curves(clone).keys()
    for name, points in curves(clone).items():
        tie = 1 if "accuracy" in name and name.startswith("train") else 0  # at step 1 policy and reference are one
        for point, one in zip(points[tie:], drawn[name][tie:], strict=True):
            assert one == pytest.approx(point, abs=1e-5)
    assert 0 != found["margin"]

    folder = clone.folder / "models/dpo"
    undisturbed = (folder / "model.safetensors").read_bytes()
    clone.kill("dpo", step=2)
    shutil.rmtree(folder, ignore_errors=True)

    assert "from step 2" in clone.run(*DPO)
    assert undisturbed == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("precomputed", "trained", "held"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_it_is_held_where_it_is_asked(tmp_path: Path, precomputed: bool, trained: bool, held: bool) -> None:
    """While the policy learns, not where precomputed; when the outcome is measured, in any case."""
    chosen = small.settings("dpo", {"init": TINY, "batch": 2, "micro_batch": 2}, precompute_ref_log_probs=precomputed)
    init = TINY
    if trained:
        init = str(shutil.copytree(TINY, tmp_path / "dpo"))
    trainer = dpo.trainer(small.run(tmp_path, chosen, [small.ROWS["dpo"]] * 2), init)

    assert held == (trainer.ref_model is not None)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "more"), [("dpo", {}), ("grpo", {"beta": 0.1})])
def test_one_that_follows_goes_on_too(tmp_path: Path, stage: str, more: dict[str, float]) -> None:
    """A stage that was killed ends in the same bytes where its reference takes on some of the policy at each step."""
    clone = micro_clone(tmp_path / "clone")
    follows = {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 0.9}
    clone.params(run={"save_steps": 1}, **{stage: follows | more})
    clone.run("dvc", "repro", stage)
    folder = clone.folder / "models" / stage
    undisturbed = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    clone.kill(stage, step=2)

    assert "from step 2" in clone.run("python", "-m", f"stages.{stage}")
    assert undisturbed == (folder / "model.safetensors").read_bytes()


def test_one_that_follows_is_in_float32(tmp_path: Path) -> None:
    """In half precision the small steps by which it follows would be rounded away."""
    kinds = []
    for follows in (False, True):
        trainer, _ = small.made(tmp_path, "dpo", precision="bf16", sync_ref_model=follows)
        kinds.append({str(weights.dtype) for weights in trainer.ref_model.parameters()})

    assert [{"torch.bfloat16", "torch.float32"}, {"torch.float32"}] == kinds
