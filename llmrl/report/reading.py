"""What changed, to read: every answer to the held-out prompts, policies side by side, and how many prompts each stage
gained and lost.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmrl.graph import STAGES
from llmrl.report.document import Asked, Block, Given, Reader, Section, Words
from llmrl.report.recorded import Recorded, not_here

if TYPE_CHECKING:
    import pyarrow as pa

TITLE = "What changed, to read"
# Bytes of answers on a page: so many open in 3 s in Chromium and are searched in 0.2 s (python -m bench.page), whose
# longest string has 2^29 characters.
MOST = 200e6
Row = dict[str, Any]  # of a table of answers, by its columns
Scores = dict[tuple[str, int], Row]  # the reward model's, by policy and prompt


@dataclass(frozen=True)
class Change:
    """How many of the prompts that are judged for both of two policies one has right greedily, and the other not."""

    gained: int
    lost: int
    right: int  # with both
    wrong: int

    def __str__(self) -> str:
        n = self.gained + self.lost + self.right + self.wrong
        return (
            f"{self.gained} of {n} prompts gained and {self.lost} lost by its greedy answers; {self.right} are right "
            f"as before, {self.wrong} wrong as before"
        )


def what_changed(experiment: Recorded) -> Section:
    """The answers of all policies that are recorded, and what each stage gained and lost over what it starts from."""
    policies = {name: by_row(table) for name, table in experiment.policies().items()}
    stages = [stage for stage in STAGES if STAGES[stage].answers]
    said: list[Block] = [
        Words(f"{file} has answers of another model that is called {policy}, too; they are not shown.", "bad")
        for file, policy in experiment.namesakes().items()
    ]
    before: dict[str, str] = {}
    for stage in [stage for stage in stages if stage in policies]:
        init = experiment.init(stage)
        if init not in policies:
            said += [Words(f"{stage}: of what it was trained from, {init}, no answers are recorded.", "note")]
            continue
        if not experiment.is_from(stage, init):
            said += [Words(f"{stage}: it was trained from another {init} than the one whose answers are here.", "note")]
            continue
        before[stage] = init
        if found := change(policies[init], policies[stage]):
            said += [Words(f"{stage}, against {init}: {found}.")]
        else:
            said += [
                Words(f"{stage}, against {init}: no prompt that both answered has a solution to judge by.", "note")
            ]
    if absent := [stage for stage in stages if stage not in policies]:
        what = f"Answers of {', '.join(absent)}" if policies else "Answers"
        said += not_here(experiment, what, [f"metrics/{stage}/held_out" for stage in absent])
    if not policies:
        return Section("reading", TITLE, said)
    reader, apart = reader_of(policies, before, scores_of(experiment))
    return Section("reading", TITLE, [*said, *other_prompts(apart), reader])


def what_changed_between(experiments: list[Recorded]) -> Section:
    """The answers of the last policy of each, where they are to the same prompts."""
    last = {one.revision: list(one.policies().items())[-1:] for one in experiments}
    said: list[Block] = [
        Words(f"{revision}: no answers are recorded.", "note") for revision, found in last.items() if not found
    ]
    alike = len({found[0][0] for found in last.values() if found}) == 1
    policies: dict[str, dict[int, Row]] = {}
    scores: Scores = {}
    for experiment in experiments:
        for policy, table in last[experiment.revision]:
            name = experiment.revision if alike else f"{experiment.revision} {policy}"
            policies[name] = by_row(table)
            scores |= {(name, row): of for (by, row), of in scores_of(experiment).items() if by == policy}
    asked = [{row: one["prompt"] for row, one in rows.items()} for rows in policies.values()]
    if any(prompts != asked[0] for prompts in asked):
        words = "Their held-out prompts are not the same, so that their answers do not stand side by side."
        return Section("reading", TITLE, [*said, Words(words, "note")])
    if not policies:
        return Section("reading", TITLE, said)
    first, *others = policies
    for name in others:
        if found := change(policies[first], policies[name]):
            said.append(Words(f"{name}, against {first}: {found}."))
    return Section("reading", TITLE, [*said, reader_of(policies, dict.fromkeys(others, first), scores)[0]])


def by_row(table: pa.Table) -> dict[int, Row]:
    """Answers by their prompt's row in data/prompts/eval.parquet."""
    return {row["row"]: row for row in table.to_pylist()}


def scores_of(experiment: Recorded) -> Scores:
    """What the reward model gave the answers, where it has seen them."""
    table = experiment.tables.get("grpo", {}).get("scores")
    return {(row["policy"], row["row"]): row for row in table.to_pylist()} if table else {}


def change(before: dict[int, Row], after: dict[int, Row]) -> Change | None:
    """What one policy has right that the other has not; None where no prompt is judged for both."""
    pairs = [
        (before[row]["greedy_right"], one["greedy_right"])
        for row, one in after.items()
        if row in before and before[row]["prompt"] == one["prompt"]
    ]
    judged = [pair for pair in pairs if None not in pair]
    if not judged:
        return None
    return Change(*map(judged.count, ((False, True), (True, False), (True, True), (False, False))))


def reader_of(
    policies: dict[str, dict[int, Row]], before: dict[str, str], scores: Scores
) -> tuple[Reader, dict[str, int]]:
    """The answers side by side, by the prompts of the last policy, each compared with those of the one `before` it; and
    how many of each other are to other prompts.
    """
    *_, last = policies.values()
    prompts, apart = [], dict.fromkeys(policies, 0)
    for row, one in sorted(last.items()):
        answers = []
        for policy, rows in policies.items():
            if row in rows and rows[row]["prompt"] == one["prompt"]:
                answers += given(policy, rows[row], scores.get((policy, row)))
        prompts.append(Asked(one["prompt"], one["solution"], answers))
    for policy, rows in policies.items():
        apart[policy] = sum(row not in last or last[row]["prompt"] != one["prompt"] for row, one in rows.items())
    return fitted(Reader(list(policies), prompts, before=before)), apart


def fitted(reader: Reader, most: float = MOST) -> Reader:
    """As many of the answers as a browser reads well: the greedy ones and of each policy as many samples as fit, the
    same number to each prompt; where not even the greedy ones do, those to the first prompts.
    """
    numbers = [numbered(asked) for asked in reader.prompts]
    bare = [sum(map(in_json, (asked.prompt, asked.solution or ""))) for asked in reader.prompts]
    greedy, sampled = list(bare), Counter[int]()
    for at, (asked, number) in enumerate(zip(reader.prompts, numbers, strict=True)):
        for one, place in zip(asked.answers, number, strict=True):
            if place:
                sampled[place] += in_json(one.text)
            else:
                greedy[at] += in_json(one.text)
    if (whole := sum(greedy) + sampled.total()) <= most:
        return reader
    kept, room = 0, most - sum(greedy)
    while (room := room - sampled[kept + 1]) >= 0:
        kept += 1
    many, room = 0, most
    while many < len(greedy) and (room := room - greedy[many]) >= 0:
        many += 1
    prompts = [
        replace(asked, answers=[one for one, place in zip(asked.answers, number, strict=True) if place <= kept])
        for asked, number in zip(reader.prompts[:many], numbers, strict=False)
    ]
    every, here = (sum(len(asked.answers) for asked in some) for some in (reader.prompts, prompts))
    left_out = (
        f"{every - here:,} of {every:,} answers are left out, as the page would have {whole / 1e6:,.0f} MB with them. "
        f"It has the greedy ones and {kept} of up to {max(sampled, default=0)} sampled by each policy, to {many:,} of "
        f"{len(numbers):,} prompts; all are in metrics/<stage>/held_out/*.parquet."
    )
    return replace(reader, prompts=prompts, left_out=left_out)


def numbered(asked: Asked) -> list[int]:
    """Of each answer its number among those sampled by its policy, from 1; of a greedy one 0."""
    seen = Counter[str]()
    return [0 if one.greedy else seen.update([one.policy]) or seen[one.policy] for one in asked.answers]


def in_json(text: str) -> int:
    """About how many bytes a text is in JSON within HTML, with what else is told of an answer."""
    return len(text.encode("utf-8", "replace")) + 5 * sum(map(text.count, "<>&")) + sum(map(text.count, '\n"\\')) + 40


def other_prompts(apart: dict[str, int]) -> list[Block]:
    """That answers are left out, as other prompts were asked then."""
    said = ", ".join(f"{many} of {policy}" for policy, many in apart.items() if many)
    return (
        [Words(f"Left out are answers to prompts that the last policy was not asked: {said}.", "bad")] if said else []
    )


def given(policy: str, row: Row, scores: Row | None) -> list[Given]:
    """A policy's answers to a prompt: the greedy one, then the sampled."""
    many = len(row["sampled"] or ())
    right, values = row["sampled_right"] or [None] * many, (scores or {}).get("sampled") or [None] * many
    one = (row["greedy"], row["greedy_right"], True, row["greedy_tokens"], row["greedy_ended"])
    return [Given(policy, *one, finite((scores or {}).get("greedy")))] + [
        Given(policy, text, right[at], False, row["sampled_tokens"][at], row["sampled_ended"][at], finite(values[at]))
        for at, text in enumerate(row["sampled"] or ())
    ]


def finite(score: float | None) -> float | None:
    """A score, where there is a number."""
    return score if score is not None and math.isfinite(score) else None
