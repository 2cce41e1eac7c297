"""Formats: what a row of data means. A public function is one by its name, for any data set: `data.sft.format: alpaca`.

It gets a row by the names of its columns (data.<set>.columns renames them before), and returns a row of ours:
messages; prompt and completion; prompt, chosen and rejected; prompt and solution; with system and tools where there are
any. Texts and lists of turns will do. None, or a DefectiveError with the reason, leaves the row out, which is counted.
What it does not read is named in data/<set>/source.json; of prompts it is handed to the rewards.

Where the columns of a row tell its format (`BY_COLUMNS`; a transcript tells itself), no setting is needed. Each example
is a test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmrl.errors import DefectiveError

Row = Mapping[str, Any]


def sharegpt(row: Row) -> dict[str, Any]:
    """ShareGPT, OpenHermes and most collections of chats: `conversations`, with `system` and `tools` where there are.

    >>> sharegpt({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]})["messages"]
    [{'from': 'human', 'value': '2 + 2?'}, {'from': 'gpt', 'value': '4'}]
    """
    return {"messages": row["conversations"], "system": row.get("system"), "tools": row.get("tools")}


def alpaca(row: Row) -> dict[str, Any]:
    r"""Alpaca: the input, where there is one, stands below the instruction.

    >>> alpaca({"instruction": "Double it.", "input": "4", "output": "8"})
    {'prompt': 'Double it.\n\n4', 'completion': '8', 'system': None}
    """
    asked = _below(row["instruction"], row.get("input"))
    return {"prompt": asked, "completion": row["output"], "system": row.get("system")}


def dolly(row: Row) -> dict[str, Any]:
    r"""Dolly: the context, where there is one, stands below the instruction.

    >>> dolly({"instruction": "Who?", "context": "Ann was here.", "response": "Ann."})
    {'prompt': 'Who?\n\nAnn was here.', 'completion': 'Ann.'}
    """
    return {"prompt": _below(row["instruction"], row.get("context")), "completion": row["response"]}


def orca(row: Row) -> dict[str, Any]:
    """Orca's pairs: `question`, `chosen`, `rejected`, and `system` where there is one.

    >>> orca({"system": "", "question": "2 + 2?", "chosen": "4", "rejected": "5"})
    {'prompt': '2 + 2?', 'chosen': '4', 'rejected': '5', 'system': ''}
    """
    return {"prompt": row["question"], **{name: row.get(name) for name in ("chosen", "rejected", "system")}}


def openai_preference(row: Row) -> dict[str, Any]:
    """OpenAI's preferences: `input`, `preferred_output` and `non_preferred_output`.

    >>> said = {"preferred_output": [{"role": "assistant", "content": "4"}], "non_preferred_output": []}
    >>> openai_preference({"input": {"messages": [{"role": "user", "content": "2 + 2?"}]}} | said)["chosen"]
    [{'role': 'assistant', 'content': '4'}]
    """
    asked = row["input"]
    if not isinstance(asked, Mapping) or "messages" not in asked:
        raise DefectiveError("an input without messages")
    found = {"prompt": asked["messages"], "tools": asked.get("tools")}
    return found | {"chosen": row["preferred_output"], "rejected": row["non_preferred_output"]}


def hh_rlhf(row: Row) -> dict[str, Any]:
    r"""Anthropic's HH-RLHF: a transcript on both sides.

    >>> sides = {side: f"\n\nHuman: 2 + 2?\n\nAssistant: {side}" for side in ("chosen", "rejected")}
    >>> hh_rlhf(sides)["chosen"]
    [{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': 'chosen'}]
    """
    if not row.get("prompt"):
        return {side: _transcript(row[side]) for side in ("chosen", "rejected")}
    asked = _transcript(re.sub(r"\n\nAssistant:\s*$", "", str(row["prompt"])))  # full-hh-rlhf's
    answers = {side: row[side].strip() if isinstance(row[side], str) else row[side] for side in ("chosen", "rejected")}
    return {"prompt": asked, **answers}


def gsm8k(row: Row) -> dict[str, Any]:
    r"""GSM8K: worked answers with sums in << >>, and the result after ####, which is boxed here.

    >>> gsm8k({"question": "Half of 48?", "answer": "It is 48/2 = <<48/2=24>>24.\n#### 24"})
    {'prompt': 'Half of 48?', 'completion': 'It is 48/2 = 24.\n\\boxed{24}', 'solution': '24'}
    """
    steps, mark, result = str(row["answer"]).rpartition("####")
    if not mark:
        raise DefectiveError("an answer without ####")
    worked = f"{re.sub('<<.*?>>', '', steps).strip()}\n\\boxed{{{result.strip()}}}"
    return {"prompt": row["question"], "completion": worked, "solution": result.strip()}


def xlam(row: Row) -> dict[str, Any]:
    """Function calls as of xLAM and APIGen: `query`, `tools` and `answers`, the calls.

    >>> xlam({"query": "2 + 2?", "tools": "[]", "answers": '[{"name": "add", "arguments": {}}]'})["completion"]
    [{'role': 'assistant', 'content': '', 'tool_calls': '[{"name": "add", "arguments": {}}]'}]
    """
    calls = [{"role": "assistant", "content": "", "tool_calls": row["answers"]}]
    return {"prompt": row["query"], "completion": calls, "tools": row["tools"]}


def reasoning_gym(row: Row) -> dict[str, Any]:
    """What a task of reasoning-gym makes: the answer stands in <answer>, as that package's own prompts ask for it.

    >>> reasoning_gym({"question": "2 + 2 =", "answer": "4", "wrong": "5"})["rejected"]
    '<answer>5</answer>'
    """
    if "solution" in row:
        return {"prompt": row["question"], "solution": row["solution"]}
    if not row["answer"]:
        raise DefectiveError("without an answer")
    right = f"<answer>{row['answer']}</answer>"
    if "wrong" not in row:
        return {"prompt": row["question"], "completion": right}
    if not row["wrong"]:
        raise DefectiveError("without a wrong answer among those of the entries that follow")
    return {"prompt": row["question"], "chosen": right, "rejected": f"<answer>{row['wrong']}</answer>"}


# By which columns a row tells its format, where it has none of ours; the first that fits.
BY_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "sft": {
        "sharegpt": ("conversations",),
        "alpaca": ("instruction", "output"),
        "dolly": ("instruction", "response"),
    },
    "preference": {
        "orca": ("question", "chosen", "rejected"),
        "openai_preference": ("input", "preferred_output", "non_preferred_output"),
    },
}


def _below(text: Any, more: Any) -> Any:
    if more is None or more == [] or (isinstance(more, str) and not more.strip()) or more != more:  # nothing, or NaN
        return text
    if not isinstance(text, str) or not text.strip():
        raise DefectiveError("empty")
    if not isinstance(more, str | int | float):
        raise DefectiveError("an input that is no text")
    return f"{text}\n\n{more}"


def _transcript(text: Any) -> list[dict[str, str]]:
    if not isinstance(text, str):
        raise DefectiveError("empty" if text is None else "a transcript that is no text")
    names = {"Human": "user", "Assistant": "assistant"}
    before, *parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text)
    if before.strip():
        raise DefectiveError("a transcript that begins with neither Human: nor Assistant:")
    return [{"role": names[name], "content": said.strip()} for name, said in zip(parts[::2], parts[1::2], strict=True)]
