"""What was made of the sources, in words."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llmrl.data.sieve import UNUSED_FOR, Sieve

SAID = 20  # of each kind, on the terminal


def closing_lines(name: str, report: dict[str, Any], sieves: list[Sieve]) -> str:
    """What was made, and of what nothing was."""
    counts, found = report["rows"], report["sources"]
    lines = [f"{counts['train']:,} rows to train on, {counts['eval']:,} held out, of {counts['read']:,} read"]

    def say(title: str, parts: list[str]) -> None:
        more = [f"and {len(parts) - SAID:,} more (source.json)"] if len(parts) > SAID else []
        if parts:
            lines.append(f"  {title}: {', '.join([*parts[:SAID], *more])}")

    def total(key: str) -> Counter[str]:
        return sum((Counter(one[key]) for one in found), Counter())

    say("recognised as", [f"{shape} {number:,}" for shape, number in total("recognised").items()])
    first = {reason: where for one in reversed(found) for reason, where in one["first_dropped"].items()}
    dropped = sum((Counter(one["rows"]["dropped"]) for one in found), Counter())
    said = [f"{number:,} {reason} (first: {first[reason]})" for reason, number in sorted(dropped.items())]
    lines.append(f"  dropped: {', '.join(said) or 'none'}")
    say(
        "made until no others came",
        [f"{one['source']} ({rows_of(one['rows']['kept'])})" for one in found if one.get("ended")],
    )
    say("not used", [f"{counts[reason]:,} {reason}" for reason in UNUSED_FOR if counts[reason]])
    say("columns and fields not used", [f"{one} ({rows_of(number)})" for one, number in total("not_used").items()])
    say(
        "never trained on, by its name" if not any(sieve.part.eval for sieve in sieves) else "held out",
        list(dict.fromkeys(file for one in found for file in one["held_out_files"])),
    )
    say("files not read", [f"{file} ({why})" for one in found for file, why in one["files_not_read"].items()])
    say("for rewards also", list(dict.fromkeys(column for one in found for column in one.get("extra_columns", ()))))
    left_out = {f"{column} ({why})": 0 for one in found for column, why in one.get("left_out", {}).items()}
    say("not handed on to rewards", list(left_out))
    own = sum(sieve.asking.own_system for sieve in sieves)
    say(f"data.{name}.system", [f"{own:,} rows keep a system text of their own"] if own else [])
    solved, kept = sum(sieve.solved for sieve in sieves), sum(one["rows"]["kept"] for one in found)
    if name == "prompts" and solved < kept:
        none = "none, so that no answer can be judged but by rewards that need none"
        say("solutions", [none if not solved else f"{solved:,} of {rows_of(kept)} have one"])
    overlap = report["overlap"]
    if overlap["shared"]:
        say("held-out prompts that stand in its text", [f"{overlap['shared']:,} of {overlap['held_out_prompts']:,}"])
    return "\n".join(lines)


def rows_of(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
