"""Only what decides bytes trains: a model that DVC's cache has is measured anew, and not trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clone import STAGES, Clone, micro_clone, started

pytestmark = pytest.mark.slow

SAID = "this very model is trained already, and in DVC's cache"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, run and committed; GRPO evaluates four of its held-out prompts."""
    clone = micro_clone(tmp_path_factory.mktemp("reuse") / "clone")
    clone.params(grpo={"eval_rows": 4, "per_device_eval_batch_size": 8})
    clone.run("dvc", "repro")
    clone.commit("run")
    return clone


@pytest.fixture
def made(clone: Clone):
    """The clone, brought back afterwards to the commit and its products."""
    yield clone
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")


def repro(clone: Clone, *options: str) -> tuple[list[str], list[str]]:
    """The stages that DVC ran, `prepare` and `base` among them, and those that trained."""
    before = len(clone.runs())
    printed = clone.run("dvc", "repro", *options)
    new = clone.runs()[before:]
    trained = [run["stage"] for run in new if "training" in run["phases"]]
    assert printed.count(SAID) == len(new) - len(trained), printed
    ran = started(printed)
    assert [run["stage"] for run in new] == [stage for stage in ran if stage in STAGES]
    return ran, trained


def curves(clone: Clone) -> dict[str, bytes]:
    """All curves."""
    return {str(file): file.read_bytes() for file in sorted((clone.folder / "metrics").glob("*/plots/**/*.tsv"))}


def edit(clone: Clone, file: str, old: str, new: str) -> None:
    """Replace a text in a file of the clone."""
    path = clone.folder / file
    text = path.read_text()
    assert old in text, f"{file} has no {old}"
    path.write_text(text.replace(old, new, 1))


def test_another_protocol_measures_alone(made: Clone) -> None:
    """With other samples, or another length of answers, no policy is trained; curves and figures of before stay."""
    before = {stage: made.figures(stage) for stage in STAGES}
    drawn, models = (
        curves(made),
        {stage: (made.folder / f"models/{stage}/model.safetensors").read_bytes() for stage in STAGES},
    )
    made.params(answers={"samples": 3, "max_new_tokens": 8})

    assert (["sft", "dpo", "grpo"], []) == repro(made)
    assert drawn == curves(made)
    for stage in STAGES:
        assert models[stage] == (made.folder / f"models/{stage}/model.safetensors").read_bytes()
        figures = made.figures(stage)
        changed = {name for name in figures if figures[name] != before[stage][name]}
        assert changed <= {"answers", "answers_before"}
        assert [*figures] == [*before[stage]]  # in the file's order
    assert made.figures("sft")["answers"]["tokens"] <= 8


def test_other_held_out_prompts(made: Clone) -> None:
    """Fewer held-out prompts are prepared, and answered by the models there are."""
    made.params(data={"prompts": {"source": "builtin:arithmetic", "rows": 64, "eval_rows": 6}})

    assert (["prepare", "sft", "dpo", "grpo"], []) == repro(made)
    assert 6 == made.figures("grpo")["answers"]["n"]


def test_other_measuring_code(made: Clone) -> None:
    """Another way to count, or other names of figures, train nothing; nor does a comment where training is decided."""
    edit(made, "llmrl/measuring/held_out.py", "1.96 *", "1.64 *")
    edit(made, "llmrl/graph.py", 'accuracy": "token_accuracy"', 'accuracy": "right_tokens"')
    edit(made, "llmrl/training/loop.py", '"""The figures of TRL', '# a comment\n    """The figures, by TRL')

    assert ([*STAGES], []) == repro(made)
    assert {"right_tokens", "right_tokens_before"} <= made.figures("sft").keys()


def test_another_judge(made: Clone) -> None:
    """Another way to judge answers trains GRPO, where accuracy is a reward, and nothing else; no prompt is prepared."""
    edit(made, "llmrl/answers/judging.py", 'answer.strip("$ ")', 'answer.strip("$  ")')

    assert (["sft", "dpo", "grpo"], ["grpo"]) == repro(made)


def test_another_gold(made: Clone) -> None:
    """What finds a solution's answer prepares the data anew; where their bytes stay, nothing follows but measuring, and
    GRPO trains, which accuracy rewards.
    """
    edit(made, "llmrl/answers/final.py", 'answer.strip("$ ")', 'answer.strip("$  ")')
    ran, trained = repro(made)

    assert ["prepare"] * 3 + ["sft", "dpo", "grpo"] == sorted(ran, key=["prepare", *STAGES].index)
    assert ["grpo"] == trained


def test_what_attends_is_in_no_key(made: Clone) -> None:
    """What is printed, recorded, refused, locked, planned or reported reruns nothing."""
    for file in ("session/screen", "session/record", "session/guards", "session/locks", "session/checkpoints"):
        (made.folder / f"llmrl/{file}.py").open("a").write("\n\nANOTHER = 1\n")
    for file in ("params/checks", "params/combinations", "plan/memory", "plan/costs", "report/curves", "work", "stage"):
        (made.folder / f"llmrl/{file}.py").open("a").write("\n\nANOTHER = 1\n")

    assert "up to date" in made.run("dvc", "repro")


def test_after_gc_and_on_another_clone(made: Clone, tmp_path: Path) -> None:
    """What DVC keeps is enough: of the commit alone, after `dvc gc`, and what another clone has pulled."""
    made.run("dvc", "gc", "-f", "--workspace")
    made.run("dvc", "remote", "add", "-f", "-d", "there", str(tmp_path / "remote"))
    made.run("dvc", "push", "-q")
    made.run("git", "clone", "-q", ".", str(tmp_path / "other"))
    shutil.copy(made.folder / ".dvc/config", tmp_path / "other/.dvc/config")
    other = Clone(tmp_path / "other")
    other.run("dvc", "pull", "-q")
    for one in (made, other):
        one.params(answers={"samples": 3})
        assert (["sft", "dpo", "grpo"], []) == repro(one)


def test_what_is_gone_is_trained(made: Clone) -> None:
    """Where DVC's cache has lost a model it is trained; so are all where DVC is told to --force."""
    lock = (made.folder / "dvc.lock").read_text()
    product = lock.split("path: models/dpo\n")[1].split("md5: ")[1].split(".dir")[0]
    (made.folder / f".dvc/cache/files/md5/{product[:2]}/{product[2:]}.dir").unlink()
    made.params(answers={"samples": 5})

    assert (["sft", "dpo", "grpo"], ["dpo"]) == repro(made)
    assert (["sft"], ["sft"]) == repro(made, "--force", "--single-item", "sft")
