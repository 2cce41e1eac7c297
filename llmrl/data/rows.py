"""Rows of the three data sets: their one shape, whatever shape they come in.

    sft          {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    preference   {"prompt": [a user turn], "chosen": [an assistant turn], "rejected": [an assistant turn]}
    prompts      {"prompt": [a user turn], "solution": "4", "extra": '{"task": "sum", "tests": [[2, 2]]}'}

These are TRL's conversational formats (https://huggingface.co/docs/trl/dataset_formats), and any of its formats is made
one of them here, a row at a time, any other by a function of llmrl/formats.py before. sft and preference have `tools`,
as JSON text, where a row has some. `extra` are the further columns of a prompt's source, for rewards, as one JSON map:
the sources of a mixture have different ones, and Parquet would give every map of a column the keys of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from llmrl.answers import final
from llmrl.data.turns import Turn, conversation, either, encodable, has_value, is_list, some_text, tools_of
from llmrl.errors import DefectiveError

Row = dict[str, Any]

# The columns a row must have, all of any one of these, to be of the data set.
NEEDED = {
    "sft": (("messages",), ("prompt", "completion")),
    "preference": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "prompts": (("prompt",),),
}
SYSTEM, TOOLS = ("system", "system_prompt"), ("tools", "functions")
# What else is read of the rows of each set, where they have it.
BESIDE = {"sft": (*SYSTEM, *TOOLS), "preference": (*SYSTEM, *TOOLS), "prompts": (*SYSTEM, "solution")}


def sft_row(row: Mapping[str, Any], needed: tuple[str, ...], unused: set[str]) -> Row:
    """`messages`, or `prompt` and `completion`, of which the loss covers the completion alone."""
    if needed == ("messages",):
        if isinstance(row["messages"], str) and row["messages"].strip() and not is_list(row["messages"]):
            raise DefectiveError("messages that are no list of turns")
        messages = conversation(row["messages"], "user", unused)
    else:
        prompt = conversation(row["prompt"], "user", unused)
        prompt = [turn | {"train": False} if turn["role"] == "assistant" else turn for turn in prompt]
        messages = prompt + conversation(row["completion"], "assistant", unused)
    messages = with_system(row, messages)
    roles = [turn["role"] if turn.get("train", True) else "untrained" for turn in messages]
    if "assistant" not in roles:
        raise DefectiveError("no turn of the assistant to train on")
    if "user" not in roles:
        raise DefectiveError("nothing is asked")
    return {"messages": messages, "tools": tools_of(either(row, TOOLS))}


def preference_row(row: Mapping[str, Any], needed: tuple[str, ...], unused: set[str]) -> Row:
    """`chosen` and `rejected`, with the `prompt` beside them or inside both."""
    prompt = (
        [] if "prompt" not in needed or not has_value(row["prompt"]) else conversation(row["prompt"], "user", unused)
    )
    chosen, rejected = (conversation(row[side], "assistant", unused) for side in ("chosen", "rejected"))
    plain = (chosen[0]["content"], rejected[0]["content"]) == (row["chosen"], row["rejected"])
    if plain and not prompt and row.get("prompt", None) is not None:
        raise DefectiveError("empty")
    if plain and not prompt:
        same = alike(row["chosen"].rstrip(), row["rejected"].rstrip())
        # Whole ones, and one is left at least: "… 42" and "… 43" differ in 42 and 43, not in 2 and 3.
        words = "".join(re.findall(r"\S*\s+", row["chosen"][:same]))
        prompt = conversation(words.rstrip(), "user", unused) if words.strip() else []
        rest = (row[side][len(words) :] for side in ("chosen", "rejected"))
        chosen, rejected = (conversation(text, "assistant", unused) for text in rest)
    elif not prompt or chosen[0]["role"] != "assistant":  # some have it beside the answers and inside them too
        same = alike(chosen[:-1], rejected[:-1])  # one turn is left at least
        inside, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
        if not ends_with(inside, prompt) and not (inside and ends_with(prompt, inside)):
            raise DefectiveError("a prompt that its conversations do not have")
        prompt = max(prompt, inside, key=len)
    if not prompt:
        raise DefectiveError("chosen and rejected begin with no common prompt")
    if chosen == rejected:
        raise DefectiveError("chosen equal to rejected")
    prompt = untrained(with_system(row, prompt))
    require_question(prompt)
    require_answer(chosen)
    require_answer(rejected)
    found = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return found | {"tools": tools_of(either(row, TOOLS))}


def ends_with(turns: list[Turn], others: list[Turn]) -> bool:
    """Whether the last of the turns are these, however they are spaced."""
    said = [[(turn["role"], turn["content"].strip()) for turn in some] for some in (turns, others)]
    return said[0][len(said[0]) - len(said[1]) :] == said[1]


def alike(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The number of items with which both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def prompts_row(row: Mapping[str, Any], _: tuple[str, ...], unused: set[str]) -> Row:
    """`prompt`, with a checkable `solution` where there is one; `extra` is added to it."""
    prompt = untrained(with_system(row, conversation(row["prompt"], "user", unused)))
    require_question(prompt)
    solution = solution_of(row.get("solution"))
    if solution is not None and final.gold(solution) is None:
        raise DefectiveError("a solution that is no single short answer")
    return {"prompt": prompt, "solution": solution}


def solution_of(value: Any) -> str | None:
    """A solution as text, or None of what says that there is none. Raises DefectiveError.

    >>> solution_of(4), solution_of([4.5]), solution_of("nan"), solution_of(Decimal("4.50"))
    ('4', '4.5', None, '4.50')
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not has_value(value) or str(value).strip().lower() == "nan":
        return None
    if isinstance(value, bool | int | float | Decimal):
        return str(value)
    if not isinstance(value, str):
        raise DefectiveError("a solution that is no single short answer")
    return encodable(value)


def with_system(row: Mapping[str, Any], turns: list[Turn]) -> list[Turn]:
    """The turns, with the row's system text before them. Raises DefectiveError where they begin with another."""
    if (text := either(row, SYSTEM)) is None:
        return turns
    system = {"role": "system", "content": some_text(text)}
    if turns[0]["role"] != "system":
        return [system, *turns]
    if turns[0]["content"] != text:
        raise DefectiveError("a system text beside another system turn")
    return turns


def untrained(prompt: list[Turn]) -> list[Turn]:
    """The turns before an answer, which no loss covers in any case."""
    return [{name: turn[name] for name in turn if name != "train"} if "train" in turn else turn for turn in prompt]


def require_question(prompt: list[Turn]) -> None:
    if prompt[-1]["role"] not in ("user", "tool"):
        raise DefectiveError("nothing is asked")


def require_answer(turns: list[Turn]) -> None:
    if turns[-1]["role"] != "assistant":
        raise DefectiveError("does not end with the assistant")
    if not all(turn.get("train", True) for turn in turns):
        raise DefectiveError("an answer that is not to be trained on")


# From a row by our names, those of them that it is made of, and a set to which names of unused fields are added.
SHAPES: dict[str, Callable[[Mapping[str, Any], tuple[str, ...], set[str]], Row]] = {
    "sft": sft_row,
    "preference": preference_row,
    "prompts": prompts_row,
}
