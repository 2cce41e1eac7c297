"""Turns of conversations, as people have them, in the one shape that TRL and chat templates take.

    {"from": "human", "value": "2 + 2?"}   ->   {"role": "user", "content": "2 + 2?"}

What changes the meaning of a turn (calls, reasoning, weights, images) is kept or refused, and any other field that is
not used is named. The shapes are OpenAI's (https://platform.openai.com/docs/api-reference/chat), TRL's
(https://huggingface.co/docs/trl/dataset_formats) and ShareGPT's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.errors import DefectiveError

Turn = dict[str, Any]

ASSISTANT = ("assistant", "gpt", "chatgpt", "model", "function_call")
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(ASSISTANT, "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response"), "tool"),
}
REASONING = ("reasoning_content", "thinking", "reasoning")
CALLS = ("tool_calls", "function_call")
COVERED = ("weight", "train", "loss")  # 0 or false: the loss does not cover the turn
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
MEANT = ("tools", "functions", "training", "trainable", "loss_mask", "mask")  # refused: nobody knows these for sure
CALL = {"id", "type", "index", "function", "name", "arguments", "args", "parameters", "input"}
USED = {"role", "content", "from", "value", "tool_call_id", "name", *CALLS, *REASONING, *COVERED}
LIST = re.compile(r"""\s*\[\s*(\]\s*$|\{\s*["'](role|content|from|value)["'])""")  # of turns, written as text
TEXT_PARTS = ("text", "input_text", "output_text")


def some_text(value: Any) -> str:
    """A text with something in it. Raises DefectiveError."""
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        raise DefectiveError("empty")
    if not isinstance(value, str):
        raise DefectiveError("a content that is no text")
    return encodable(value)


def encodable(text: str) -> str:
    """A text that can be written as UTF-8. Raises DefectiveError."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DefectiveError("half a Unicode character") from None
    return text


def conversation(value: Any, role: str, unused: set[str]) -> list[Turn]:
    """A plain text as one turn of `role`; a list of turns, also written as JSON, or a turn by itself. Names of fields
    that have a value and are not used are added to `unused`. Raises DefectiveError.

    >>> conversation("2 + 2?", "user", set())
    [{'role': 'user', 'content': '2 + 2?'}]
    """
    if isinstance(value, str):
        if not is_list(value):
            return [{"role": role, "content": some_text(value)}]
        value = parsed(value, "a list of turns that is not JSON")  # a cell of a CSV file holds no list
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return [{"role": role, "content": some_text(value)}]
    found = [turn for one in value if (turn := turn_of(one, unused))]
    if not found:
        raise DefectiveError("empty")
    return found


def is_list(text: str) -> bool:
    """Whether a text is a list of turns, as a cell of a CSV file has it, and not merely JSON."""
    if not LIST.match(text):
        return False
    return text.strip() == "[]" or any(f"{one}{mark}" in text for mark in "\"'" for one in ("role", "from"))


def turn_of(given: Any, unused: set[str]) -> Turn | None:
    """One turn, or None of an empty system turn. Raises DefectiveError."""
    if not isinstance(given, dict):
        raise DefectiveError("turns without role and content")
    if len(given) == 2 and (role := given.get("role")) in ("user", "assistant"):
        content = given.get("content")
        if type(content) is str and content.strip():
            return {"role": role, "content": encodable(content)}
    named = "role" if given.get("role") is not None else "from"  # Parquet has both where any row has
    if (said := given.get(named)) is None:
        raise DefectiveError("turns without role and content")
    said = said.lower() if isinstance(said, str) else said
    if (role := ROLES.get(said) if isinstance(said, str) else None) is None:
        raise DefectiveError(f"a role that is none of {', '.join(ROLES)}")
    for field in given:
        if field not in USED and has_value(given[field]):
            if field in MEDIA:
                raise DefectiveError(f"{field}, which cannot be trained on")
            if field in MEANT:
                raise DefectiveError(f"{field} of a turn, which would be lost")
            unused.add(field)
    content = either(given, ("content", "value"))
    if role != "assistant" and (lost := [name for name in (*REASONING, *CALLS) if has_value(given.get(name))]):
        raise DefectiveError(f"{lost[0]} of a turn that is not the assistant's")
    calls = calls_of(given, said, content) if role == "assistant" else []
    if said == "function_call" and not calls:
        raise DefectiveError("empty")
    turn: Turn = {"role": role, "content": "" if said == "function_call" else content_text(content, role, bool(calls))}
    if role == "system" and not turn["content"].strip():
        return None
    if calls:
        turn["tool_calls"] = calls
    for field in ("name", "tool_call_id"):
        if has_value(given.get(field)):
            if role == "tool":
                turn[field] = some_text(given[field])
            else:  # which next to no chat template writes
                unused.add(field)
    if role == "assistant":
        if (thought := either(given, REASONING)) is not None:
            turn["reasoning_content"] = some_text(thought)
        if not all(covered(field, given[field]) for field in COVERED if field in given):
            turn["train"] = False
    if len(turn) > 2:
        encodable(as_json(turn))
    return turn


def either(given: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the one of these names that has one. Raises DefectiveError where two have others."""
    found = None
    for name in names:
        if name in given and has_value(value := given[name]):
            if found is not None and found != value:
                raise DefectiveError(f"{' and '.join(names)} that differ")
            found = value
    return found


def covered(field: str, value: Any) -> bool:
    """Whether a turn's weight has the loss cover it. Raises DefectiveError where it is neither yes nor no."""
    if value is None or value == 1:
        return True
    if value == 0:
        return False
    raise DefectiveError(f"a {field} other than 0 and 1")


def content_text(content: Any, role: str, calls: bool) -> str:
    """The text of a turn, of its parts where it is a list of them. Raises DefectiveError."""
    if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
        for part in content:
            if part["type"] not in TEXT_PARTS:
                raise DefectiveError(f"a part that is {part['type']}, which cannot be trained on")
            if not isinstance(part.get("text"), str):
                raise DefectiveError("a part without text")
            for field in part:
                if field not in ("type", "text") and has_value(part[field]):
                    raise DefectiveError(f"a part with {field}, which would be lost")
        content = "".join(part["text"] for part in content)
    if role == "tool" and content is not None and not isinstance(content, str):  # what a tool returned
        content = as_json(content)
    if (calls or role in ("tool", "system")) and (content is None or content == ""):
        return ""
    if role == "tool" and isinstance(content, str):
        return encodable(content)
    return "" if role == "system" and isinstance(content, str) and not content.strip() else some_text(content)


def calls_of(given: Turn, said: str, content: Any) -> list[dict[str, Any]]:
    """The tool calls of an assistant's turn as TRL has them, with their arguments as a map. Raises DefectiveError.

    >>> calls_of({"function_call": {"name": "add", "arguments": '{"a": 2}'}}, "assistant", None)
    [{'type': 'function', 'function': {'name': 'add', 'arguments': {'a': 2}}}]
    """
    calls = either(given, CALLS) or []
    if said == "function_call":  # ShareGPT's, whose text is the call, or several
        calls = parsed(content, "a function call that is not JSON")
    calls = parsed(calls, "tool_calls that are not JSON") if isinstance(calls, str) else calls
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        call = parsed(call, "a function call that is not JSON")
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise DefectiveError("a tool call without a function's name")
        for field in (*call, *function):
            if field not in CALL and has_value((call | function)[field]):
                raise DefectiveError(f"a tool call with {field}, which would be lost")
        given_as = ("arguments", "args", "parameters", "input")
        named = {where: either(some, given_as) for where, some in (("call", call), ("function", function))}
        arguments = either(named, ("call", "function")) if function is not call else named["call"]
        arguments = parsed(arguments or {}, "a tool call whose arguments are not JSON")
        if not isinstance(arguments, dict):
            raise DefectiveError("a tool call whose arguments are not a map")
        made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        found.append(made | ({"id": call["id"]} if has_value(call.get("id")) else {}))
    return found


def tools_of(value: Any) -> str | None:
    """A row's tools as JSON text, each {"type": "function", "function": its JSON schema}; None where it has none.
    Raises DefectiveError.
    """
    if value is None:
        return None
    tools = parsed(value, "tools that are not JSON")
    if not has_value(tools):
        return None
    found = []
    for given in tools if isinstance(tools, list) else [tools]:
        tool = parsed(given, "a tool that is not JSON")
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            raise DefectiveError("a tool without a function's name")
        found.append({"type": "function", "function": function})
    return encodable(as_json(found))


def parsed(value: Any, otherwise: str) -> Any:
    """A value, read as JSON where it is a text. Raises DefectiveError with the reason `otherwise`."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise DefectiveError(otherwise) from None


def as_json(value: Any) -> str:
    """JSON text of a value of a row. Raises DefectiveError where there is none."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        raise DefectiveError("a value that is no JSON") from None


def has_value(value: Any) -> bool:
    """Whether anything is said: neither null nor empty.

    >>> has_value([]), has_value(" "), has_value(0)
    (False, False, True)
    """
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value != [] and value != {} and not (isinstance(value, float) and value != value)
