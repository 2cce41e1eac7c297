"""What became of a policy's answers: source.json, some pairs to read, and the closing lines."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from llmrl.pairs.choosing import Pair

SHOWN = 3  # pairs to read of each side

Counts = dict[str, float]  # of a side, as sampling.py counts

# Why a prompt gave no pair, as source.json and the closing lines call it.
WITHOUT = {
    "not_asked": "not asked, as there were pairs enough",
    "without_a_solution": "not asked, without a solution",
    "refused": "refused by the chat template",
    "without_a_right_answer": "without a right answer",
    "without_a_wrong_answer": "without a wrong one",
}
LINES = """\
  {side}: {prompts:,} prompts asked{others}
    {answers:,} answers, {right:,} right, {cut_off:,} cut off, {empty:,} empty
    {pairs:,} pairs: {chosen_tokens:.1f} tokens chosen, {rejected_tokens:.1f} rejected; the shorter answer is right in \
{shorter_right:.0%}, the longer in {longer_right:.0%}"""


def report(policy: str, told: dict[str, Counts], read: int, overlap: dict[str, int]) -> dict[str, Any]:
    """source.json, of the same shape as those that `llmrl.data` writes, with what is told of each side."""
    rows = {"read": read, "kept": int(sum(counts["prompts"] for counts in told.values())), "dropped": {}}
    return {
        "sources": [{"source": "sampled", "policy": policy, "revision": None, "rows": rows}],
        "rows": {"read": read} | {side: counts["pairs"] for side, counts in told.items()},
        "overlap": overlap,
        "sampled": told,
    }


def first_pairs(pairs: Iterable[tuple[list[dict[str, Any]], Pair]]) -> list[str]:
    """The first pairs of a side, each with the turns of its prompt."""
    return [pair_to_read(prompt, pair) for prompt, pair in islice(pairs, SHOWN)]


def pair_to_read(prompt: list[dict[str, Any]], pair: Pair) -> str:
    """A pair, to read."""
    asked = [f"{turn['role']}: {turn['content']}" for turn in prompt]
    for name in ("chosen", "rejected"):
        one = getattr(pair, name)
        asked.append(f"[{name}, {one.tokens} tokens]\n{one.text}")
    return "\n".join(asked) + "\n"


def what_became(told: dict[str, Counts]) -> str:
    """What became of the prompts and the answers, in words."""
    lines = []
    for side, counts in told.items():
        several = (f"{counts[name]:,} {said}" for name, said in WITHOUT.items() if counts[name])
        lines.append(LINES.format(side=side, others="".join(f", {one}" for one in several), **counts))
    return "\n".join(lines)
