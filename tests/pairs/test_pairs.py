"""data/pairs: handed on as data/preference has them, or made of a policy's own answers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clone import ROOT, Clone, micro_clone, toy_clone

from llmrl.answers.judging import right
from llmrl.pairs.sampling import RUNS, candidates
from llmrl.params import checks
from llmrl.session import provenance

PAIRS = "data/dvc.yaml:pairs"
OWN = {"source": "sampled", "policy": "models/sft", "rows": None, "eval_rows": None}
FILES = ("train.parquet", "eval.parquet", "source.json", "sample.txt")


def after(clone: Clone, stage: str) -> set[str]:
    """The stages that a stage follows from, as DVC has the graph."""
    listed = clone.run("dvc", "dag", stage, "--dot")
    names = {line.split('"')[1] for line in listed.splitlines() if line.count('"') >= 2}
    return {name.rpartition(":")[2] for name in names} - {stage.rpartition(":")[2]}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The toy, nothing of it run yet."""
    return toy_clone(tmp_path_factory.mktemp("toy") / "clone")


def test_the_graph_of_pairs_of_the_data(toy: Clone) -> None:
    """The policy has nothing to do with them: reward and dpo that start from the base model need no sft."""
    toy.params(data={"preference": preference(toy)}, dpo={"init": "models/base"}, reward={"init": "models/base"})

    assert {"prepare@preference", "prepare@prompts"} == after(toy, PAIRS)
    for stage in ("reward", "dpo"):
        assert {"pairs", "base", "prepare@preference", "prepare@prompts"} == after(toy, stage)
    toy.run("git", "checkout", "-q", "params.yaml")


def test_the_graph_of_a_policy_s_answers(toy: Clone) -> None:
    """They lie between sft, which makes the policy, and reward and dpo; grpo comes last."""
    toy.params(data={"preference": preference(toy, source="sampled", policy="models/sft")})
    made = {"base", "prepare@preference", "prepare@prompts", "prepare@sft"}

    assert made == after(toy, "sft")
    assert made | {"sft"} == after(toy, PAIRS)
    for stage in ("reward", "dpo"):
        assert made | {"sft", "pairs"} == after(toy, stage)
    assert made | {"sft", "pairs", "reward", "dpo"} == after(toy, "grpo")
    toy.run("git", "checkout", "-q", "params.yaml")


def preference(clone: Clone, **changes: object) -> dict:
    """The section of a clone, with some changed."""
    return dict(checks.read(clone.folder / "params.yaml")["data"]["preference"]) | changes


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The toy with pairs of its own answers, as a whole; on one thread."""
    clone = toy_clone(tmp_path_factory.mktemp("ran") / "clone")
    clone.params(train={"threads": 1}, data={"preference": preference(clone, **OWN)})
    clone.commit("pairs of the policy's own answers")
    clone.run("dvc", "repro")
    return clone


def made(clone: Clone, **sections: dict) -> str:
    """What is printed where the pairs alone are made, by other settings."""
    clone.run("git", "checkout", "-q", "params.yaml")
    clone.params(**sections)
    return clone.run("dvc", "repro", "-s", PAIRS, check=False)


def told(clone: Clone) -> dict:
    """What became of the answers, by side."""
    return json.loads((clone.folder / "data/pairs/source.json").read_text())["sampled"]


def test_handed_on_as_they_are(tmp_path: Path) -> None:
    """Byte for byte, and at once: nothing of what a model needs is imported. What changes their settings and not
    them has nothing run after them.
    """
    clone = micro_clone(tmp_path / "clone")
    clone.run("dvc", "repro", PAIRS)
    for name in FILES:
        of_data, pairs = ((clone.folder / "data" / one / name).read_bytes() for one in ("preference", "pairs"))
        assert of_data == pairs
    figures = json.loads((clone.folder / "metrics/data/pairs.json").read_text())["data"]["pairs"]
    assert {"train": 64, "eval": 8} == figures["rows"]
    imported = clone.run("python", "-X", "importtime", "-m", "llmrl.pairs")
    assert "llmrl.pairs" in imported
    for package in ("torch", "transformers", "datasets", "pyarrow"):
        assert f"| {package}" not in imported.replace("|   ", "| ")


@pytest.mark.slow
def test_pairs_of_a_policy_s_answers(ran: Clone) -> None:
    """Right ones chosen, wrong ones rejected, of whole answers to prompts of the same side; and all are counted."""
    folder = ran.folder / "data/pairs"

    assert {*FILES, "provenance.json"} == {path.name for path in folder.iterdir()}
    assert {"held_out.jsonl", "source.json"} == {path.name for path in (ran.folder / "data/preference").iterdir()}
    for side in ("train", "eval"):
        prompts = pq.read_table(ran.folder / f"data/prompts/{side}.parquet").to_pylist()
        solutions = {row["prompt"][-1]["content"]: row["solution"] for row in prompts}
        pairs, counts = pq.read_table(folder / f"{side}.parquet").to_pylist(), told(ran)[side]
        assert pairs
        for row in pairs:
            (chosen,), (rejected,) = row["chosen"], row["rejected"]
            solution = solutions[row["prompt"][-1]["content"]]
            assert (True, False) == (right(chosen["content"], solution), right(rejected["content"], solution))
            assert "assistant" == chosen["role"] == rejected["role"]
        each = Counter(row["prompt"][-1]["content"] for row in pairs)
        assert max(each.values()) <= 2
        assert (len(pairs), len(prompts)) == (counts["pairs"], counts["prompts"])
        assert 8 * len(prompts) == counts["answers"]
        assert len(each) <= len(prompts) - counts["without_a_right_answer"]
        assert pytest.approx(1) == counts["shorter_right"] + counts["longer_right"]
    assert told(ran)["train"]["pairs"] == ran.figures("reward")["rows"]
    provenance = json.loads((ran.folder / "models/reward/provenance.json").read_text())
    assert "data/pairs/train.parquet" in provenance["inputs"]


@pytest.mark.slow
def test_what_they_give(ran: Clone) -> None:
    """DPO and GRPO answer more prompts rightly than SFT, whose answers the pairs are, beyond its interval; and the
    whole chain is what the recorded inputs made. `pytest -s` prints the figures.
    """
    answers = {stage: ran.figures(stage)["answers"] for stage in ("sft", "dpo", "grpo")}
    for stage, figures in answers.items():
        print(f"{stage}: sampled {figures['sampled']:.3f}, greedy {figures['greedy']:.3f}, n {figures['n']}")
    print(json.dumps(told(ran), indent=2))

    for way in ("sampled", "greedy"):
        assert answers["sft"][f"{way}_high"] < answers["dpo"][f"{way}_low"]
    assert answers["dpo"]["sampled"] < answers["grpo"]["sampled_high"]
    assert ran.figures("reward")["accuracy"] > max(told(ran)["eval"][f"{kind}_right"] for kind in ("shorter", "longer"))
    assert "Everything is what the recorded inputs made" in ran.run("python", "-m", "llmrl.lineage.verify")


@pytest.mark.slow
def test_killed_and_continued(ran: Clone) -> None:
    """It goes on after the answers that it has, and ends in the same bytes; those go when DVC has recorded the pairs.
    For a change that decides no answer none is asked for again.
    """
    few = {"preference": preference(ran, **OWN | {"rows": 100, "eval_rows": 30})}
    made(ran, data=few, answers={"batch": 64})
    folder, cache, kept = (ran.folder / one for one in ("data/pairs", ".dvc/cache", ".llmrl/checkpoints/pairs"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(kept)
    shutil.rmtree(folder)
    cache.rename(cache.with_name("away"))  # from which they would be taken
    command = (sys.executable, "-m", "llmrl.pairs")
    process = subprocess.Popen(command, cwd=ran.folder, env=ran.environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and not [*kept.glob("*/*/answers-train-1")]:
        time.sleep(0.005)
    process.kill()
    assert -signal.SIGKILL == process.wait()
    assert not folder.exists()
    (first,) = kept.glob("*/*/answers-train-0")
    written = first.stat().st_mtime_ns
    ran.run(*command)
    shutil.rmtree(cache, ignore_errors=True)
    cache.with_name("away").rename(cache)

    assert written == first.stat().st_mtime_ns
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    ran.run("python", "-m", "llmrl.session.checkpoints")
    assert not first.exists()
    said = made(ran, data=few, answers={"batch": 64, "samples": 3}, train={"threads": 1, "lr": 0.5})
    assert "and in DVC's cache" in said
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_no_more_prompts_than_needed(ran: Clone) -> None:
    """Where there are pairs enough, the others are not asked, and counted."""
    made(ran, data={"preference": preference(ran, **OWN | {"rows": 5, "eval_rows": 3})}, answers={"batch": 64})
    counts = told(ran)

    assert (5, 3) == tuple(counts[side]["pairs"] for side in ("train", "eval"))
    assert 512 == counts["train"]["prompts"] + counts["train"]["not_asked"]
    assert counts["train"]["prompts"] == 32


@pytest.mark.slow
def test_no_pairs(ran: Clone) -> None:
    """Of a policy that is never right there are none: one message with the counts, and what to do."""
    said = made(ran, answers={"max_new_tokens": 1})

    assert "data/pairs: of the policy's answers to data/prompts/train.parquet no pair can be made" in said
    for word in ("512 without a right answer", "were cut off", "data.preference.samples", "answers.max_new_tokens"):
        assert word in said
    assert "Traceback" not in said


def test_what_decides_the_pairs_is_in_their_key() -> None:
    """All of the package but what keeps and hands over: by it pairs are found in DVC's cache."""
    package = {str(file.relative_to(ROOT)) for file in (ROOT / "llmrl/pairs").glob("*.py")}

    assert package - provenance.code_of(RUNS).keys() == {"llmrl/pairs/__main__.py"}


def test_cut_off_and_empty_answers_are_in_no_pair() -> None:
    """A text that was cut off would be trained on as if it ended there."""
    row = {"row": 0, "text": ["4", " ", "4 and", "5", "5 "], "tokens": [1, 1, 9, 1, 2]}
    row |= {"ended": [True, True, False, True, True], "right": [True, False, True, False, False]}
    (found,) = candidates(pa.Table.from_pylist([row]))

    assert (["4"], ["5"]) == tuple([one.text for one in some] for some in found)
