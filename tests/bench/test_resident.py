"""bench.resident: docs/memory.md has the table on record."""

from __future__ import annotations

from bench import resident

PAGE = f"before\n\n## {resident.TITLE}\n\ntext\n\n| head |\n|---|\n| old |\n\nafter\n"
ROW = {
    "stage": "reward",
    "precision": "bf16",
    "lora": True,
    "twice": False,
    "expected": {"training": 2.0, "stage": 2.0},
    "resident": {"tokenising": 0.0, "training": 2.2, "saving": 2.5},
}


def test_the_page_has_what_is_on_record() -> None:
    """The table of bench/results/ stands in docs/memory.md as it would be written now."""
    page = resident.PAGE.read_text(encoding="utf-8")

    assert resident.written(page, resident.on_record()["measured"]) == page


def test_a_row_has_both_beside_each_other() -> None:
    """While it trained and at most, planned, measured, and how many times the plan's that is; by stages."""
    later = ROW | {"stage": "grpo", "lora": False, "twice": True}
    first, second = "| reward | bf16, LoRA |", "| grpo | bf16, full, checkpointing |"
    cells = " 2.00 | 2.20 | 1.10 | 2.00 | 2.50 | 1.25 |"

    written = resident.written(PAGE, [later, ROW])
    assert PAGE.replace("| old |", f"{first}{cells}\n{second}{cells}") == written


def test_no_stage_is_far_from_its_plan() -> None:
    """What was measured of each training is within a fifth of the plan."""
    far = {resident.named(row): row for row in resident.on_record()["measured"] if not 0.8 <= ratio(row) <= 1.2}

    assert not far


def ratio(row: resident.Found) -> float:
    return row["resident"]["training"] / row["expected"]["training"]
