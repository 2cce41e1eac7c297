"""Turns that are more than a role and a text: tool calls, reasoning, and answers that SFT's loss does not cover.

    messages, tools -> input_ids, labels (-100 where the loss does not cover a token)

The fields are those of https://huggingface.co/docs/trl/dataset_formats#tool-calling. A data set that has input_ids and
labels TRL takes as it is; of a conversation without such fields these are the labels that it would make itself.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, Json, List, Value

from llmrl.errors import DefectiveError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]
REASONING = ("reasoning_content", "thinking", "reasoning")  # a chat template reads one of these


class Turn(Json):
    """A turn in a data set, as JSON: as columns each would have the fields of all, and each call the arguments of all.

    Python reads it, as pandas does for datasets' own Json, and makes 0.6 0.6000000000000001.
    """

    def encode_example(self, turn: Any) -> str:
        return turn if isinstance(turn, str) else json.dumps(turn)

    def decode_example(self, text: str, token_per_repo_id: Any = None) -> Any:
        return json.loads(text)


def data_set(table: pa.Table) -> Dataset:
    """A table of data/<name>/ with each turn whole: what its `more` has beside role and content."""
    columns, features = {}, {}
    for name in table.column_names:
        columns[name], features[name] = table[name], Value("string")
        if pa.types.is_list(table[name].type):
            rows = ([json.dumps(with_more(turn)) for turn in row] for row in table[name].to_pylist())
            columns[name], features[name] = pa.array(rows, pa.list_(pa.string())), List(Turn())
    known = Features(features)
    return Dataset(pa.table(columns).cast(known.arrow_schema), info=DatasetInfo(features=known))


def with_more(turn: Message) -> Message:
    """A turn with its further fields, reasoning under each of its names.

    >>> with_more({"role": "tool", "content": "4", "more": '{"name": "add"}'})
    {'role': 'tool', 'content': '4', 'name': 'add'}
    """
    more = json.loads(turn["more"]) if turn.get("more") else {}
    if "reasoning_content" in more:
        more |= dict.fromkeys(REASONING, more["reasoning_content"])
    return {"role": turn["role"], "content": turn["content"]} | more


def functions_of(row: dict[str, Any]) -> list[Message] | None:
    """The functions that a row's conversation may call; None rather than none, of which some templates write."""
    return json.loads(row["tools"] or "null") or None if "tools" in row else None


def labelled(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, last: bool) -> tuple[list[int], list[int]]:
    """The tokens of a conversation, and its labels: those of the assistant's turns, or of the last alone, but for turns
    with `"train": false`.

    Raises DefectiveError where there is no such turn, or the chat template does not write all there is, or does not
    enclose each of the assistant's turns in one generation mark.
    """
    messages, tools = row["messages"], functions_of(row)
    trained = [turn.pop("train", True) for turn in messages if turn["role"] == "assistant"]
    trained = [train and (not last or place == len(trained)) for place, train in enumerate(trained, 1)]
    if not any(trained):
        raise DefectiveError("no turn that the loss may cover")
    encoded = masked(messages, tools, tokenizer)
    runs = [(mask, [token for token, _ in run]) for mask, run in groupby(encoded, key=lambda pair: pair[1])]
    if not any(mask for mask, _ in runs):
        uses = tools or any(turn["role"] == "tool" or turn.get("tool_calls") for turn in messages)
        whose = " for conversations with tools" if uses else ""
        raise DefectiveError(f"the model's chat template has no generation marks{whose}")
    if sum(mask for mask, _ in runs) != len(trained):
        raise DefectiveError("the model's chat template does not enclose each assistant turn in one generation mark")
    require_written(messages, tools, tokenizer, covered=True)
    require_texts(messages, tokenizer, tools)
    turns = iter(trained)
    labels: list[int] = []
    for mask, tokens in runs:
        labels += tokens if mask and next(turns) else [-100] * len(tokens)
    return [token for token, _ in encoded], labels


def masked(
    messages: list[Message], tools: list[Message] | None, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[int, int]]:
    """The tokens of a conversation, each with 1 where the assistant has written it, else 0."""
    encoded: Any = tokenizer.apply_chat_template(
        messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True
    )
    return [*zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)]


def may_lose_text(messages: list[Message]) -> bool:
    """Whether a conversation has a text that some chat templates leave out: a thought, another system turn."""
    return any(
        "<think" in turn["content"] or (turn["role"] == "system" and place > 0) for place, turn in enumerate(messages)
    )


def require_texts(messages: list[Message], tokenizer: PreTrainedTokenizerBase, tools: Any = None) -> None:
    """Raise DefectiveError where the chat template leaves out some of a turn's text."""
    if may_lose_text(messages):
        text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
        for turn in messages:
            if turn["content"].strip() not in text:
                raise DefectiveError(f"the model's chat template does not write all of a turn of the {turn['role']}")


def require_written(
    messages: list[Message], tools: list[Message] | None, tokenizer: PreTrainedTokenizerBase, covered: bool = False
) -> None:
    """Raise DefectiveError where the chat template leaves out tools, calls, what they gave, or reasoning; or, to have
    it covered, writes what is the assistant's outside of its generation marks.

    Each is replaced by a word of its own, which the text must have: some templates write the last reasoning alone.
    """
    words: dict[str, tuple[str, bool]] = {}  # by what each stands for, and whether that is the assistant's

    def word(what: str, said: bool = True) -> str:
        words[made := f"word-{len(words)}-"] = what, said
        return made

    def called(call: Message) -> Message:
        function = call["function"] | {"name": word("tool calls")}
        arguments = function["arguments"] | {"word": word("the arguments of tool calls")}
        return call | {"function": function | {"arguments": arguments}}

    def replaced(turn: Message) -> Message:
        fields: Message = {}
        if calls := turn.get("tool_calls"):
            fields["tool_calls"] = [called(call) for call in calls]
        if turn["content"] and (calls or turn["role"] == "tool"):
            fields["content"] = word("text beside tool calls") if calls else word("what a tool gave", said=False)
        if turn.get("reasoning_content"):
            fields |= dict.fromkeys(REASONING, word("reasoning"))
        return turn | fields

    asked = [replaced(turn) for turn in messages]
    known = [tool | {"function": tool["function"] | {"name": word("tools", said=False)}} for tool in tools or []]
    if not words:
        return
    text = tokenizer.apply_chat_template(asked, tools=known or None, tokenize=False)
    if left_out := [what for one, (what, _) in words.items() if one not in text]:
        raise DefectiveError(f"the model's chat template does not write {left_out[0]}")
    if covered:
        text = tokenizer.decode([token for token, mask in masked(asked, known or None, tokenizer) if mask])
        if outside := [what for one, (what, said) in words.items() if said and one not in text]:
            raise DefectiveError(f"the model's chat template writes {outside[0]} outside of its generation marks")
