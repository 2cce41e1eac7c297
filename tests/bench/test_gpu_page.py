"""bench.gpu_page: docs/gpu.md has the figures on record, and hours follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu_page
from bench.gpu_jobs import file
from llmrl import params
from llmrl.errors import InputError

ROOT = Path(__file__).parents[2]
PROFILE = "smollm2-135m"
SPEED = [
    {"stage": "sft", "side": "TRL", "cap": 5.0, "tokens_per_second": 40_000.0, "micro_batch": 8, "twice": True},
    {"stage": "sft", "side": "equal", "cap": 5.0, "tokens_per_second": 50_000.0, "micro_batch": 8, "twice": True},
    {"stage": "sft", "side": "auto", "cap": 5.0, "fits": False},
    {
        "stage": "sft",
        "side": "auto",
        "cap": None,
        "tokens_per_second": 200_000.0,
        "sequences_per_second": 200.0,
        "micro_batch": 32,
        "twice": False,
    },
    {"stage": "grpo", "side": "auto", "cap": None, "sequences_per_second": 32.0, "batch": 64},
]
GENERATION = {"profile": PROFILE, "way": "cuda_graphs", "lora": False, "rows": 64, "ms": 2.5, "reading_ms": 0.25}


@pytest.fixture
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results as from a card."""
    speed = [{"profile": PROFILE, "fits": True} | one for one in SPEED]
    made = {"speed": speed, "generation": [GENERATION | {"first_s": 1.0, "gib": 1.2}]}
    monkeypatch.setattr(gpu_page, "results", lambda _: made)


def test_the_page_has_what_is_on_record() -> None:
    """Every table that is written from bench/results/ stands in docs/gpu.md as it would be written now."""
    page = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")

    assert gpu_page.written(page) == page


def test_what_the_profiler_saw() -> None:
    """And so does what its text says of the profile."""
    page = " ".join((ROOT / "docs/gpu.md").read_text(encoding="utf-8").split())
    seen = json.loads(gpu_page.TRIED.read_text())["profile"]

    assert f"busy for {seen['gpu_ms']:.0f} ms, in {seen['kernels']:,} kernels" in page
    assert f"products of matrices are {seen['matrices_ms']:.0f} of them, attention {seen['attention_ms']:.0f}" in page
    assert f"copies and casts {seen['copies_ms']:.0f}, the update of all weights {seen['optimizer_ms']:.1f}" in page


@pytest.mark.usefixtures("_measured")
def test_training() -> None:
    """Each way beside TRL's; a stage of which TRL was not measured is left out."""
    assert [
        [
            PROFILE,
            "sft",
            "40,000",
            "50,000 (1.25; 8, twice)",
            "out of memory",
            "200,000 (5.00; 32)",
            "not measured",
        ]
    ] == gpu_page.training()


@pytest.mark.usefixtures("_measured")
def test_generating() -> None:
    assert [[PROFILE, "64", "`cuda_graphs`", "2.50", "0.25", "10.0", "1.0", "1.20"]] == gpu_page.generating()


def test_sequences_of_a_profile() -> None:
    """Pairs count as one, completions each."""
    assert 300 * 64 == gpu_page.sequences("qwen2.5-0.5b", "grpo")
    assert 400 * 32 == gpu_page.sequences("qwen2.5-0.5b", "dpo")


@pytest.mark.usefixtures("_measured")
def test_hours() -> None:
    """400 steps of 32 at 200 a second are 64 s, and at 8 operations a parameter and token of 7.5e12 a second 1,880; of
    a stage that was not measured, and so of all four, the arithmetic alone.
    """
    sft, reward, *_, every = [row for row in gpu_page.hours() if row[0] == PROFILE]

    assert [PROFILE, "sft", "0.02", "0.52"] == sft
    assert [PROFILE, "reward", "not measured"] == reward[:3]
    assert [PROFILE, "all four", "not measured"] == every[:3]
    assert 2 < float(every[3]) < 4


@pytest.mark.usefixtures("_measured")
def test_hours_of_grpo() -> None:
    """Of the card that was measured: 2 s a step, of which 64 tokens take 0.16; 512 take 1.28, and the rest is 2.4 times
    as long, of 768 tokens in place of 320. Of a card of 6 GB: a token reads the weights and a cache, and takes 2.25 ms
    beyond; training is 6 operations a parameter and token, 2 for checkpointing and 2 for the reward model.
    """
    settings = params.experiment(file(PROFILE)).stages["grpo"]
    rest, generating = gpu_page.measured(PROFILE, settings) or (0, 0)
    train, slowly = gpu_page.reckoned(PROFILE, settings) or (0, 0)
    parameters, tokens = 134_515_008, 64 * 768
    cache = 64 * 512 * 30 * 3 * 64 * 2 * 2  # sequences, tokens on average, layers, heads, their size, two of 2 bytes

    assert (2.4 * 1.84, 1.28) == pytest.approx((rest, generating))
    assert pytest.approx(512 * ((2 * parameters + cache) / 250e9 + 0.00225)) == slowly
    assert 10 == pytest.approx(train / (parameters * tokens / 7.5e12))


def test_gathered(tmp_path: Path) -> None:
    """The two files of a run become one, with the command of each."""
    about = {"date": "2026-11-27", "device": "a card", "versions": {"torch": "2.11.0"}}
    for name in ("speed", "generation"):
        lines = [about | {"command": f"python -m bench.{name}"}, {"profile": PROFILE, "of": name}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert about | {
        "commands": {name: f"python -m bench.{name}" for name in ("speed", "generation")},
        **{name: [{"profile": PROFILE, "of": name}] for name in ("speed", "generation")},
    } == gpu_page.gathered(tmp_path)


def test_joined() -> None:
    """What was measured since is added, or takes the place of the former; of another card it is refused."""
    about = {"device": "a card", "versions": {"torch": "2.11.0"}}
    former, later, other = ({"profile": PROFILE, "stage": stage, "side": "TRL", "cap": 5.0} for stage in ("sft",) * 3)
    former["tokens_per_second"], later["tokens_per_second"], other["stage"] = 1.0, 2.0, "dpo"
    old = about | {"speed": [former, other], "generation": [GENERATION]}
    new = about | {"speed": [later], "generation": []}

    assert about | {"speed": [later, other], "generation": [GENERATION]} == gpu_page.joined(old, new)
    assert new == gpu_page.joined({"speed": [], "generation": []}, new)
    with pytest.raises(InputError, match="is of another device"):
        gpu_page.joined(old, new | {"device": "another"})
