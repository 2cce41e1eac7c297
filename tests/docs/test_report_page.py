"""docs/report.md against the report: its sections, the columns and verdicts it explains, and every threshold."""

from __future__ import annotations

import re

import pytest
from clone import ROOT

from llmrl.report import audit, comparison, gaming, inputs, making, outcome, reading
from llmrl.session import tripwires

PAGE = (ROOT / "docs/report.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def test_a_heading_for_each_section() -> None:
    titles = [module.TITLE for module in (outcome, reading, audit, gaming, inputs, making, comparison)]

    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == [*titles, "Curves"]


def share(value: float) -> str:
    """As the page has shares: .3, 10 %."""
    return f"{value:.0%}".replace("%", " %")


THRESHOLDS = [
    f"nothing above {audit.WEAK:g}",
    f"as many to {share(audit.NEAR)} of the longer",
    f"is {audit.MEDIUM:g} or more (Cohen 1988) over {audit.LEAST} prompts or more",
    f"more than {gaming.POINTS} points are drawn as means",
    f"fewer than {tripwires.LEAST} prompts, or {tripwires.POINTS} points of a curve",
    f"fewer by more than {tripwires.TOKEN_ACCURACY:g}",
    f"in {share(tripwires.LONGER_WINS)} of the pairs more",
    f"more than {tripwires.DISPLACED:g} times as far below 0",
    f"each by more than {tripwires.CHANGE:g} standard errors",
    f"less than {share(tripwires.SIGNAL)} of the groups",
    f"less than {share(tripwires.ENTROPY)} of the first entropy",
    f"more than {tripwires.LONGER:g} times the tokens, or {share(tripwires.CUT_OFF)} more answers",
    f"more than {share(tripwires.REPETITION)} of the 4-grams repeated, and {share(tripwires.REPETITION_MORE)} more",
]


@pytest.mark.parametrize("said", THRESHOLDS)
def test_thresholds(said: str) -> None:
    assert re.sub(r"\b0\.", ".", said) in TEXT


def test_every_tripwire_is_in_the_table() -> None:
    """A row a look of a stage, those of all policies once, and one for both stages that rank pairs."""
    table = PAGE.partition("| stage | trips where |")[2].partition("\n\n")[0]
    looks = {look for some in tripwires.LOOKS.values() for look in some}

    # `longer` and `repetitive` of all policies, `ranking` of two stages: each is one function, and one row.
    assert len(table.splitlines()) - 2 == len(looks)
