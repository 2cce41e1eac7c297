"""Only what decides bytes trains: a model that DVC's cache has is measured anew, and not trained."""

from __future__ import annotations

import re
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


def repro(clone: Clone, *options: str) -> tuple[list[str], list[str]]:
    """The stages that DVC ran, `prepare` and `base` among them, and those that trained. That pairs are handed on takes
    a moment, and nothing follows from it.
    """
    before = len(clone.runs())
    printed = clone.run("dvc", "repro", *options)
    new = clone.runs()[before:]
    trained = [run["stage"] for run in new if "training" in run["phases"]]
    assert printed.count(SAID) == len(new) - len(trained), printed
    ran = [stage for stage in started(printed) if stage != "pairs"]
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


def test_going_back_on_a_new_machine(unchanged: Clone) -> None:
    """Where the commit has another machine's models, its end says what to do, and `dvc repro` trains nothing anew."""
    lock = unchanged.folder / "dvc.lock"
    here = lock.read_text()
    models = re.findall(r"- path: models/(?:sft|reward|dpo|grpo)\n      hash: md5\n      md5: (\w+)\.dir", here)
    for model in models:
        lock.write_text(lock.read_text().replace(model, model[::-1]))
    unchanged.commit("another machine's")
    ran = unchanged.run("dvc", "repro")  # DVC and the stages know what was run here
    assert ["sft"] == started(ran), ran
    assert "differs from the commit's, which is not in this clone's cache" in " ".join(ran.split())
    assert 'First `git commit -am "Figures of this machine"`' in " ".join(ran.split())
    assert here == lock.read_text()

    unchanged.run("dvc", "exp", "run", "-S", "dpo.beta=0.3")
    unchanged.run("git", "checkout", "-q", ".")
    assert "Checkout failed" in unchanged.run("dvc", "checkout", check=False)
    assert (["sft"], []) == repro(unchanged)
    assert here == lock.read_text()

    unchanged.commit("Figures of this machine")
    unchanged.run("dvc", "exp", "run", "-S", "dpo.beta=0.4")
    unchanged.run("git", "checkout", "-q", ".")
    unchanged.run("dvc", "checkout", "-q")
    assert ([], []) == repro(unchanged)


def test_another_protocol_measures_alone(unchanged: Clone) -> None:
    """With other samples, or another length of answers, no policy is trained; curves and figures of before stay."""
    before = {stage: unchanged.figures(stage) for stage in STAGES}
    drawn, models = (
        curves(unchanged),
        {stage: (unchanged.folder / f"models/{stage}/model.safetensors").read_bytes() for stage in STAGES},
    )
    unchanged.params(answers={"samples": 3, "max_new_tokens": 8})

    assert (["sft", "dpo", "grpo"], []) == repro(unchanged)
    assert drawn == curves(unchanged)
    for stage in STAGES:
        assert models[stage] == (unchanged.folder / f"models/{stage}/model.safetensors").read_bytes()
        figures = unchanged.figures(stage)
        changed = {name for name in figures if figures[name] != before[stage][name]}
        assert changed <= {"answers", "answers_before", "scores"}
        assert [*figures] == [*before[stage]]  # in the file's order
    assert unchanged.figures("sft")["answers"]["tokens"] <= 8


def test_other_held_out_prompts(unchanged: Clone) -> None:
    """Fewer held-out prompts are prepared, and answered by the models there are."""
    unchanged.params(data={"prompts": {"source": "builtin:arithmetic", "rows": 64, "eval_rows": 6}})

    assert (["prepare"] * 3 + ["sft", "dpo", "grpo"], []) == repro(unchanged)
    assert 6 == unchanged.figures("grpo")["answers"]["n"]


def test_other_measuring_code(unchanged: Clone) -> None:
    """Another way to count, or other names of figures, train nothing; nor does a comment where training is decided."""
    edit(unchanged, "llmrl/measuring/intervals.py", "0.975", "0.95")
    edit(unchanged, "llmrl/graph.py", 'accuracy": "token_accuracy"', 'accuracy": "right_tokens"')
    edit(unchanged, "llmrl/training/loop.py", '"""The figures of TRL', '# a comment\n    """The figures, by TRL')

    assert ([*STAGES], []) == repro(unchanged)
    assert {"right_tokens", "right_tokens_before"} <= unchanged.figures("sft").keys()


def test_another_judge(unchanged: Clone) -> None:
    """Another way to judge answers trains GRPO, where accuracy is a reward, and nothing else; no prompt is prepared."""
    edit(unchanged, "llmrl/answers/judging.py", "MAX_ANSWERS = 2", "MAX_ANSWERS = 3")

    assert (["sft", "dpo", "grpo"], ["grpo"]) == repro(unchanged)


def test_other_marks(unchanged: Clone) -> None:
    """Another mark of final answers trains GRPO, whose completions are judged by it; the others are measured."""
    unchanged.params(answers={"marks": ["hash"]})

    assert (["sft", "dpo", "grpo"], ["grpo"]) == repro(unchanged)
    assert 0 == unchanged.figures("grpo")["answers"]["sampled"]


def test_another_gold(unchanged: Clone) -> None:
    """What finds a solution's answer prepares the data anew; where their bytes stay, nothing follows but measuring, and
    GRPO trains, which accuracy rewards.
    """
    edit(unchanged, "llmrl/answers/final.py", "MAX_CHARACTERS = 300", "MAX_CHARACTERS = 299")
    ran, trained = repro(unchanged)

    assert ["prepare"] * 3 + ["sft", "dpo", "grpo"] == sorted(ran, key=["prepare", *STAGES].index)
    assert ["grpo"] == trained


def test_what_attends_is_in_no_key(unchanged: Clone) -> None:
    """What is printed, recorded, refused, locked, planned or reported reruns nothing."""
    for file in ("session/screen", "session/record", "session/guards", "session/locks", "session/checkpoints"):
        (unchanged.folder / f"llmrl/{file}.py").open("a").write("\n\nANOTHER = 1\n")
    for file in ("params/checks", "params/combinations", "plan/fit", "plan/costs", "report/curves", "work", "stage"):
        (unchanged.folder / f"llmrl/{file}.py").open("a").write("\n\nANOTHER = 1\n")

    assert "up to date" in unchanged.run("dvc", "repro")


def test_after_gc_and_on_another_clone(unchanged: Clone, tmp_path: Path) -> None:
    """What DVC keeps is enough: of the commit alone, after `dvc gc`, and what another clone has pulled."""
    unchanged.run("dvc", "gc", "-f", "--workspace")
    unchanged.run("dvc", "remote", "add", "-f", "-d", "there", str(tmp_path / "remote"))
    unchanged.run("dvc", "push", "-q")
    unchanged.run("git", "clone", "-q", ".", str(tmp_path / "other"))
    shutil.copy(unchanged.folder / ".dvc/config", tmp_path / "other/.dvc/config")
    other = Clone(tmp_path / "other")
    other.run("dvc", "pull", "-q")
    for one in (unchanged, other):
        one.params(answers={"samples": 3})
        assert (["sft", "dpo", "grpo"], []) == repro(one)


def test_what_is_gone_is_trained(unchanged: Clone) -> None:
    """Where DVC's cache has lost a model it is trained; so are all where DVC is told to --force."""
    lock = (unchanged.folder / "dvc.lock").read_text()
    product = lock.split("path: models/dpo\n")[1].split("md5: ")[1].split(".dir")[0]
    (unchanged.folder / f".dvc/cache/files/md5/{product[:2]}/{product[2:]}.dir").unlink()
    unchanged.params(answers={"samples": 5})

    assert (["sft", "dpo", "grpo"], ["dpo"]) == repro(unchanged)
    assert (["sft"], ["sft"]) == repro(unchanged, "--force", "--single-item", "sft")
