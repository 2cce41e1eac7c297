"""What was measured on a GPU, against the formula of today, and as the documentation has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import inputs
from bench.gpu_jobs import OFF, Job, settings_of
from bench.gpu_one import AROUND
from llmrl import params
from llmrl.graph import STAGES
from llmrl.memory import formula
from llmrl.memory.formula import Planned
from llmrl.memory.shape import Shape

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench/results/h100-2026-11-26.json"
FOUND = json.loads(RESULTS.read_text())
TODAY = [one for one in FOUND["memory"] if one["run"] == 3]
# Profiles with one setting changed, by earlier code, which generated answers beside whatever the trainer held.
EARLIER = [one for one in FOUND["memory"] if one["run"] == 2]
ANSWERED = ("judging prompts", "answering")


def names(one: dict) -> str:
    return f"{one['profile']} {one['stage']} {one['name']}"


def job(one: dict) -> Job:
    """What was measured, by its name."""
    if one["name"] == "profile":
        return Job(one["profile"], one["stage"], "profile")
    name, value = one["name"].split(": ")
    return Job(one["profile"], one["stage"], OFF, ((name, json.loads(value)),))


def planned(one: dict, folder: Path) -> dict[str, float]:
    """The GiB that the formula has at each moment of a measurement."""
    (folder / "params.yaml").write_text(json.dumps(settings_of(job(one), smoke=False)))
    settings = params.experiment(folder / "params.yaml").stages[one["stage"]]
    precision = {"auto": "bf16"}.get(settings.own.precision, settings.own.precision)
    shape, liger = Shape.of(inputs.MODELS[one["profile"]]), settings.own.kernels != "torch"
    moments = formula.moments(Planned(shape, settings, precision, "cuda", "bf16", liger))
    sizes = {name: sum(parts.values()) / 2**30 for name, parts in moments.items()}
    return sizes | {"training": max(size for name, size in sizes.items() if name not in AROUND)}


@pytest.mark.parametrize("one", TODAY + EARLIER, ids=names)
def test_the_formula(one: dict, tmp_path: Path) -> None:
    """At each moment of each stage torch had allocated what the formula says, within 15 %."""
    said = planned(one, tmp_path)
    moments = [moment for moment in one["peaks"] if one in TODAY or moment not in ANSWERED]

    assert {"training", "evaluating", "measuring"} <= {*moments}
    for moment in moments:
        assert said[moment] == pytest.approx(one["peaks"][moment]["allocated"], rel=0.15), moment


@pytest.mark.parametrize("one", TODAY, ids=names)
def test_it_fits(one: dict) -> None:
    """Every stage of both profiles ran where torch might reserve 5 GiB."""
    assert one["fits"]
    assert 5.0 == one["cap"]
    assert max(peak["reserved"] for peak in one["peaks"].values()) <= 5.0


def test_both_profiles_are_measured_whole(tmp_path: Path) -> None:
    """All four stages of each, as they stand, at every moment beside the training that the formula has of them."""
    measured = {(one["profile"], one["stage"]): one for one in TODAY if one["name"] == "profile"}

    assert {(profile, stage) for profile in inputs.MODELS for stage in STAGES} == {*measured}
    for one in measured.values():
        assert {"training", *AROUND} & {*planned(one, tmp_path)} == {*one["peaks"]}


def rows(title: str) -> list[list[str]]:
    """The rows of the table below a title of docs/gpu.md."""
    section = (ROOT / "docs/gpu.md").read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"]
    return table[2:]


def test_documented_memory(tmp_path: Path) -> None:
    """docs/gpu.md has the peak of each stage's training, as it was measured, and as the formula has it."""
    said = []
    for one in TODAY:
        peak = one["peaks"]["training"]
        sizes = (peak["allocated"], peak["reserved"], planned(one, tmp_path)["training"])
        said.append([one["profile"], one["stage"], *(f"{size:.2f}" for size in sizes)])

    assert said == rows("Memory")


def test_documented_moments(tmp_path: Path) -> None:
    """And of what else a stage does, the most that any stage of a profile takes."""
    said = []
    for profile in inputs.MODELS:
        stages = [one for one in TODAY if one["profile"] == profile]
        for moment in AROUND:
            some = [one for one in stages if moment in one["peaks"]]
            sizes = [max(one["peaks"][moment][kind] for one in some) for kind in ("allocated", "reserved")]
            sizes.append(max(planned(one, tmp_path)[moment] for one in some))
            said.append([profile, moment, *(f"{size:.2f}" for size in sizes)])

    assert said == rows("Beside the training")


def test_documented_toy() -> None:
    """And the toy's seconds and figures."""
    toy, page = FOUND["toy"], (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    assert f"took {toy['seconds']:.0f} s" in page
    assert f"{FOUND['tests']['passed']} passed in {FOUND['tests']['seconds']:.0f} s" in page
    assert list(STAGES) == [row[0] for row in rows("The toy")]
    for stage, *cells in rows("The toy"):
        figures = toy["figures"][stage]
        answers = figures.get("answers", {})
        measured = [f"{toy['stages'][stage]['seconds']:.1f}", f"{toy['stages'][stage]['phases']['training']:.1f}"]
        measured += [f"{answers[way]:.3f}" if answers else "" for way in ("greedy", "sampled")]
        measured += [f"{figures['accuracy']:.3f}" if stage in ("reward", "dpo") else ""]
        assert measured == [cell.split(" (")[0] for cell in cells]


def test_documented_attention() -> None:
    """And what cuDNN's attention does to gradients."""
    said = {length: cells for length, *cells in rows("cuDNN's attention")}
    found = FOUND["attention"]

    assert {
        length: [f"{of['not finite']:,}, {of['seconds']:.3f} s" for of in (found["with cuDNN"][length], without)]
        for length, without in found["without cuDNN"].items()
    } == said
