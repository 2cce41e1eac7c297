"""The Markdown tables of bench.gpu's results."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from llmrl.graph import STAGES

Attempt = dict[str, Any]
HEAD = ("stage", "settings", "cap", "memory", "expected")
NOTES = """\
Random weights of the real shapes; every row as long as the profile admits. *profile* is this pipeline's stage by the
profile; *TRL* is TRL alone by its documented settings, on the same rows, lengths and rewards; below these, the
profile with one setting changed. Memory is what torch had allocated, and reserved, at most while it trained, in GiB;
*expected* is by `llmrl/memory/formula.py`. *cap* is the GiB torch might reserve: "not 5, none" was out of memory at 5
and measured without a cap, "not 5, 9" runs in 9 and not in whole GiB less."""
AROUND = """\
What a stage takes at its other moments, the largest of which must fit: *judging prompts* before GRPO trains,
*evaluating* a batch of held-out rows between its steps, *measuring* what was saved by the same evaluation, and by
*answering* a batch of held-out prompts."""


def markdown(report: dict[str, Any]) -> str:
    """The whole page."""
    calls = "\n".join(f"    {call}" for call in report["calls"])
    device = f"{report['date']}, {report['device']}; " + ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    title = "Narrow models: proves the code, measures nothing" if report["smoke"] else "The four stages on a GPU"
    lines = [f"# {title}", "", device, "", calls, "", NOTES]
    for profile, found in groupby(sorted(report["measured"], key=lambda one: one["profile"]), lambda x: x["profile"]):
        lines += ["", f"## {profile}", "", *row(HEAD), *row(["---"] * len(HEAD))]
        jobs: dict[tuple[str, str], list[Attempt]] = {}
        for one in found:
            jobs.setdefault((one["stage"], one["name"]), []).append(one)
        for stage in STAGES:
            for (of, name), attempts in jobs.items():
                lines += row([stage, name, *cells(attempts)]) if of == stage else []
        lines += ["", AROUND, "", *row(("stage", "moment", "memory", "expected")), *row(["---"] * 4)]
        for (stage, name), attempts in jobs.items():
            if name == "profile" and attempts[-1].get("fits"):
                for moment, peak in attempts[-1]["peaks"].items():
                    lines += row([stage, moment, size(peak), expected(attempts[-1], moment)])
    return "\n".join(lines) + "\n"


def row(cells: Any) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def cells(attempts: list[Attempt]) -> list[str]:
    """What was measured of one job: by its last attempt, as only that fits in what it needs."""
    last = attempts[-1]
    refused = [f"not {one['cap']:g}" for one in attempts[:1] if one.get("fits") is False and one["cap"]]
    cap = ", ".join([*refused, *([] if last.get("fits") is False and last["cap"] else [limit(last["cap"])])])
    if not last.get("fits"):
        said = f"failed: {last['failed']}" if "failed" in last else "out of memory"
        return [cap, said, expected(last, "training")]
    return [cap, size(last["peaks"]["training"]), expected(last, "training")]


def limit(cap: float | None) -> str:
    return "none" if cap is None else f"{cap:g}"


def size(peak: dict[str, float]) -> str:
    """GiB: on a GPU allocated and reserved, else resident."""
    return ", ".join(f"{value:.2f} {name}" for name, value in peak.items())


def expected(attempt: Attempt, moment: str) -> str:
    value = attempt.get("expected", {}).get(moment)
    return "" if value is None else f"{value:.2f}"


def short(attempt: Attempt) -> str:
    """One attempt in a line."""
    if "failed" in attempt:
        return f"failed: {attempt['failed']}"
    if not attempt["fits"]:
        return f"out of memory with a cap of {limit(attempt['cap'])}"
    return f"cap {limit(attempt['cap'])}: {size(attempt['peaks']['training'])}"
