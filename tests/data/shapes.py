"""The shapes that public data has: rows as data sets and APIs give them, and what llmrl is to make of each.

A case is (name, data set, settings, row, expected). The settings hold only what a user must say: `columns` (ours:
theirs, nested by dots) or `format`; nothing where the columns tell. The name says whose shape it is, from memory of its
card and often without all of its further columns; "like" in it means that the columns are not certain.

`expected` is what becomes of the row, or, where it must be refused or left out, a word that the reason has to hold. Of
a row of prompts it is `prompt` and `solution` alone: which further columns are kept is not told here. "column" is the
word of every row that lacks a shape, for its reason has to say which columns there are or must be named.

Drawn up from the rules for rows, not from the code. In the result the content of a turn is always a text, "" of one
that only calls; tools and calls are always {"type": "function", "function": …}, and arguments a map. OPEN holds what
the rules do not say, answered so that nothing is lost or guessed in silence.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

Case = tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any] | str]

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
NEXT = {"role": "user", "content": "Twice that?"}
EIGHT = {"role": "assistant", "content": "8"}
TEN = {"role": "assistant", "content": "10"}
UNTRAINED = {"role": "assistant", "content": "4", "train": False}

HUMAN = {"from": "human", "value": "2 + 2?"}
GPT = {"from": "gpt", "value": "4"}
HH_FOUR = "\n\nHuman: 2 + 2?\n\nAssistant: 4"
HH_FIVE = "\n\nHuman: 2 + 2?\n\nAssistant: 5"

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
BARE_TOOL = TOOL["function"]
OSLO = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
ROME = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
OSLO_AS_TEXT = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
ROME_AS_TEXT = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
OSLO_TEXT = '{"name": "weather", "arguments": {"city": "Oslo"}}'
ROME_TEXT = '{"name": "weather", "arguments": {"city": "Rome"}}'

ASK = {"role": "user", "content": "Does it rain?"}
CALL = {"role": "assistant", "content": "", "tool_calls": [OSLO]}
TWO_CALLS = {"role": "assistant", "content": "", "tool_calls": [OSLO, ROME]}
RAIN = {"role": "tool", "content": '{"rain": true}'}
SUN = {"role": "tool", "content": '{"rain": false}'}
YES = {"role": "assistant", "content": "Yes."}
NO = {"role": "assistant", "content": "No."}
ASKED = {"from": "human", "value": "Does it rain?"}
SEEN = {"from": "observation", "value": '{"rain": true}'}
SAID = {"from": "gpt", "value": "Yes."}
HERMES = "Functions: <tools>[…]</tools>"
HERMES_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

CHAT = {"messages": [USER, FOUR]}
SYSTEM_CHAT = {"messages": [SYSTEM, USER, FOUR]}
LONG_CHAT = {"messages": [USER, FOUR, NEXT, EIGHT]}
TOOL_CHAT = {"messages": [ASK, CALL, RAIN, YES], "tools": [TOOL]}
PAIR = {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]}
SYSTEM_PAIR = {"prompt": [SYSTEM, USER], "chosen": [FOUR], "rejected": [FIVE]}
LONG_PAIR = {"prompt": [USER, FOUR, NEXT], "chosen": [EIGHT], "rejected": [TEN]}
TASK = {"prompt": [USER], "solution": "4"}
SYSTEM_TASK = {"prompt": [SYSTEM, USER], "solution": "4"}
UNSOLVED = {"prompt": [USER], "solution": None}

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TEXT = {"type": "text", "text": "2 + 2?"}

CONVERSATIONS: list[Case] = [
    (
        "HuggingFaceH4/ultrachat_200k",
        "sft",
        {},
        {"prompt": "2 + 2?", "prompt_id": "f0e3", "messages": [USER, FOUR, NEXT, EIGHT]},
        LONG_CHAT,
    ),
    (
        "HuggingFaceH4/no_robots",
        "sft",
        {},
        {"prompt": "2 + 2?", "prompt_id": "a1", "messages": [SYSTEM, USER, FOUR], "category": "Chat"},
        SYSTEM_CHAT,
    ),
    ("allenai/tulu-3-sft-mixture", "sft", {}, {"id": "x_1", "messages": [USER, FOUR], "source": "ai2-adapt"}, CHAT),
    ("HuggingFaceTB/smoltalk", "sft", {}, {"messages": [SYSTEM, USER, FOUR], "source": "smol-rewrite"}, SYSTEM_CHAT),
    ("trl-lib/Capybara", "sft", {}, {"source": "Dove", "messages": [USER, FOUR], "num_turns": 1}, CHAT),
    ("open-r1/Mixture-of-Thoughts", "sft", {}, {"messages": [USER, FOUR], "num_tokens": 9, "source": "math"}, CHAT),
    (
        "AI-MO/NuminaMath-CoT",
        "sft",
        {},
        {"source": "aops", "problem": "2 + 2?", "solution": "4", "messages": [USER, FOUR]},
        CHAT,
    ),
    (
        "open-r1/OpenR1-Math-220k",
        "sft",
        {},
        {
            "problem": "2 + 2?",
            "solution": "As 2 + 2 = 4.",
            "answer": "4",
            "generations": ["4"],
            "messages": [USER, FOUR],
        },
        CHAT,
    ),
    (
        "HuggingFaceH4/ultrafeedback_binarized, of which messages are imitated",
        "sft",
        {},
        {"prompt": "2 + 2?", "chosen": [USER, FOUR], "rejected": [USER, FIVE], "messages": [USER, FOUR]},
        CHAT,
    ),
    (
        "lmsys/lmsys-chat-1m",
        "sft",
        {"columns": {"messages": "conversation"}},
        {"conversation_id": "c", "model": "m", "conversation": [USER, FOUR], "turn": 1, "redacted": False},
        CHAT,
    ),
    (
        "allenai/WildChat-like, turns with further fields",
        "sft",
        {"columns": {"messages": "conversation"}},
        {
            "conversation": [USER | {"country": "NO", "toxic": False}, FOUR | {"country": None, "toxic": False}],
            "turn": 1,
        },
        CHAT,
    ),
    (
        "Parquet: the fields of tool turns are null in the others",
        "sft",
        {},
        {"messages": [turn | {"name": None, "tool_calls": None, "tool_call_id": None} for turn in (USER, FOUR)]},
        CHAT,
    ),
    ("OpenAI chat: developer", "sft", {}, {"messages": [SYSTEM | {"role": "developer"}, USER, FOUR]}, SYSTEM_CHAT),
    ("OpenAI chat: a part of text", "sft", {}, {"messages": [{"role": "user", "content": [TEXT]}, FOUR]}, CHAT),
    (
        "OpenAI chat: two parts of text",
        "sft",
        {},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2?"}]},
                FOUR,
            ]
        },
        CHAT,
    ),
    (
        "OpenAI chat: an answer as its client dumps it",
        "sft",
        {},
        {
            "messages": [
                USER,
                FOUR | {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None},
            ]
        },
        CHAT,
    ),
    (
        "OpenAI chat: name of a user",
        "sft",
        {},
        {"messages": [USER | {"name": "ann"}, FOUR]},
        CHAT,
    ),
    (
        "OpenAI fine-tuning: weight",
        "sft",
        {},
        {"messages": [USER, FOUR | {"weight": 0}, NEXT, EIGHT | {"weight": 1}]},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
    ),
    (
        "axolotl: train",
        "sft",
        {},
        {"messages": [USER, FOUR | {"train": False}, NEXT, EIGHT | {"train": True}]},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
    ),
    (
        "ms-swift: loss",
        "sft",
        {},
        {"messages": [USER, FOUR | {"loss": False}, NEXT, EIGHT | {"loss": True}]},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
    ),
    (
        "HuggingFaceH4/Multilingual-Thinking",
        "sft",
        {},
        {
            "reasoning_language": "French",
            "user": "2 + 2?",
            "analysis": "Deux et deux.",
            "final": "4",
            "messages": [SYSTEM | {"thinking": None}, USER | {"thinking": None}, FOUR | {"thinking": "Deux et deux."}],
        },
        {"messages": [SYSTEM, USER, FOUR | {"reasoning_content": "Deux et deux."}]},
    ),
    (
        "DeepSeek API: reasoning_content",
        "sft",
        {},
        {"messages": [USER, FOUR | {"reasoning_content": "Two and two."}]},
        {"messages": [USER, FOUR | {"reasoning_content": "Two and two."}]},
    ),
    (
        "OpenRouter API: reasoning",
        "sft",
        {},
        {"messages": [USER, FOUR | {"reasoning": "Two and two."}]},
        {"messages": [USER, FOUR | {"reasoning_content": "Two and two."}]},
    ),
    ("an empty reasoning is none", "sft", {}, {"messages": [USER, FOUR | {"reasoning_content": ""}]}, CHAT),
    (
        "think tags stay in the content",
        "sft",
        {},
        {"messages": [USER, {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\n4"}]},
        {"messages": [USER, {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\n4"}]},
    ),
    ("system beside messages", "sft", {}, {"system": "Be brief.", "messages": [USER, FOUR]}, SYSTEM_CHAT),
    ("an empty system turn", "sft", {}, {"messages": [SYSTEM | {"content": ""}, USER, FOUR]}, CHAT),
    ("messages as JSON text", "sft", {}, {"messages": json.dumps([USER, FOUR])}, CHAT),
    ("OpenAssistant-like: a message a row", "sft", {}, {"message_id": "m", "text": "2?", "role": "prompter"}, "column"),
    ("timdettmers/openassistant-guanaco", "sft", {}, {"text": "### Human: 2 + 2?### Assistant: 4"}, "column"),
    (
        "glaiveai/glaive-function-calling-v2",
        "sft",
        {},
        {"system": "SYSTEM: You may call…", "chat": "USER: 2 + 2?\n\n\nASSISTANT: 4 <|endoftext|>\n\n\n"},
        "column",
    ),
]

SHAREGPT: list[Case] = [
    ("lmsys ShareGPT", "sft", {}, {"id": "QWJhYvA_0", "conversations": [HUMAN, GPT]}, CHAT),
    (
        "lmsys ShareGPT, its format named",
        "sft",
        {"format": "sharegpt"},
        {"id": "a_0", "conversations": [HUMAN, GPT]},
        CHAT,
    ),
    (
        "teknium/OpenHermes-2.5",
        "sft",
        {},
        {
            "conversations": [HUMAN | {"weight": None}, GPT | {"weight": None}],
            "source": "airoboros2.2",
            "system_prompt": None,
            "skip_prompt_formatting": False,
            "title": None,
            "category": "orca",
        },
        CHAT,
    ),
    (
        "Open-Orca/SlimOrca",
        "sft",
        {},
        {
            "conversations": [
                {"from": "system", "value": "Be brief.", "weight": None},
                HUMAN | {"weight": 0.0},
                GPT | {"weight": 1.0},
            ]
        },
        SYSTEM_CHAT,
    ),
    (
        "ShareGPT with an answer of weight 0, like",
        "sft",
        {},
        {
            "conversations": [
                HUMAN,
                GPT | {"weight": 0.0},
                {"from": "human", "value": "Twice that?"},
                {"from": "gpt", "value": "8", "weight": 1.0},
            ]
        },
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
    ),
    (
        "open-thoughts/OpenThoughts-114k",
        "sft",
        {},
        {
            "system": "Be brief.",
            "conversations": [{"from": "user", "value": "2 + 2?"}, {"from": "assistant", "value": "4"}],
        },
        SYSTEM_CHAT,
    ),
    (
        "jingyaogong/minimind_dataset: conversations of role and content",
        "sft",
        {},
        {"conversations": [USER, FOUR]},
        CHAT,
    ),
    (
        "messages of from and value, like",
        "sft",
        {"columns": {"messages": "dialogue"}},
        {"dialogue": [HUMAN, GPT]},
        CHAT,
    ),
    (
        "Magpie-Align/Magpie-Pro-like, the first turns beside",
        "sft",
        {},
        {"uuid": "u", "conversations": [HUMAN, GPT], "instruction": "2 + 2?", "response": "4", "language": "EN"},
        CHAT,
    ),
    ("conversations as JSON text", "sft", {}, {"conversations": json.dumps([HUMAN, GPT])}, CHAT),
    ("a role that ShareGPT has not", "sft", {}, {"conversations": [HUMAN, GPT | {"from": "critic"}]}, "role"),
    ("GAIR/lima: turns without roles", "sft", {}, {"conversations": ["2 + 2?", "4"], "source": "wikihow"}, "turn"),
    (
        "LDJnr/Capybara: input and output for turns",
        "sft",
        {"columns": {"messages": "conversation"}},
        {"source": "Dove", "conversation": [{"input": "2 + 2?", "output": "4"}]},
        "role",
    ),
    ("conversations that are empty", "sft", {}, {"conversations": []}, "empty"),
]

INSTRUCTIONS: list[Case] = [
    (
        "tatsu-lab/alpaca",
        "sft",
        {},
        {"instruction": "Add.", "input": "2 and 2", "output": "4", "text": "Below is an instruction… ### Response:\n4"},
        {"messages": [{"role": "user", "content": "Add.\n\n2 and 2"}, FOUR]},
    ),
    (
        "tatsu-lab/alpaca, input empty",
        "sft",
        {},
        {"instruction": "2 + 2?", "input": "", "output": "4", "text": "Below is…"},
        CHAT,
    ),
    ("yahma/alpaca-cleaned", "sft", {}, {"output": "4", "input": "", "instruction": "2 + 2?"}, CHAT),
    (
        "tatsu-lab/alpaca, its format named",
        "sft",
        {"format": "alpaca"},
        {"instruction": "2 + 2?", "input": "", "output": "4", "text": "Below is…"},
        CHAT,
    ),
    ("alpaca from CSV, input null", "sft", {}, {"instruction": "2 + 2?", "input": None, "output": "4"}, CHAT),
    ("WizardLM/WizardLM_evol_instruct_70k", "sft", {}, {"instruction": "2 + 2?", "output": "4"}, CHAT),
    ("TIGER-Lab/MathInstruct", "sft", {}, {"source": "CoT/MATH.json", "output": "4", "instruction": "2 + 2?"}, CHAT),
    (
        "garage-bAInd/Open-Platypus",
        "sft",
        {},
        {"input": "", "output": "4", "instruction": "2 + 2?", "data_source": "MATH"},
        CHAT,
    ),
    (
        "iamtarun/python_code_instructions_18k_alpaca: prompt holds the answer too",
        "sft",
        {},
        {"instruction": "2 + 2?", "input": "", "output": "4", "prompt": "Below is… ### Output:\n4"},
        CHAT,
    ),
    (
        "LLaMA-Factory alpaca, no history",
        "sft",
        {},
        {"instruction": "2 + 2?", "input": "", "output": "4", "system": "Be brief.", "history": []},
        SYSTEM_CHAT,
    ),
    ("alpaca, nothing answered", "sft", {}, {"instruction": "2 + 2?", "input": "", "output": ""}, "empty"),
    (
        "databricks/databricks-dolly-15k",
        "sft",
        {},
        {"instruction": "Add.", "context": "2 and 2", "response": "4", "category": "closed_qa"},
        {"messages": [{"role": "user", "content": "Add.\n\n2 and 2"}, FOUR]},
    ),
    (
        "databricks/databricks-dolly-15k, context empty",
        "sft",
        {},
        {"instruction": "2 + 2?", "context": "", "response": "4", "category": "open_qa"},
        CHAT,
    ),
    (
        "MBZUAI/LaMini-instruction",
        "sft",
        {"columns": {"prompt": "instruction", "completion": "response"}},
        {"instruction": "2 + 2?", "response": "4", "instruction_source": "alpaca"},
        CHAT,
    ),
    (
        "mosaicml/dolly_hhrlhf",
        "sft",
        {"columns": {"completion": "response"}},
        {"prompt": "2 + 2?", "response": "4"},
        CHAT,
    ),
    (
        "Open-Orca/OpenOrca",
        "sft",
        {"columns": {"prompt": "question", "completion": "response"}},
        {"id": "niv.1", "system_prompt": "Be brief.", "question": "2 + 2?", "response": "4"},
        SYSTEM_CHAT,
    ),
    (
        "Open-Orca/OpenOrca, system_prompt empty",
        "sft",
        {"columns": {"prompt": "question", "completion": "response"}},
        {"id": "flan.2", "system_prompt": "", "question": "2 + 2?", "response": "4"},
        CHAT,
    ),
    (
        "meta-math/MetaMathQA",
        "sft",
        {"columns": {"prompt": "query", "completion": "response"}},
        {"type": "GSM_Rephrased", "query": "2 + 2?", "original_question": "Two and two?", "response": "4"},
        CHAT,
    ),
    (
        "nvidia/OpenMathInstruct-2",
        "sft",
        {"columns": {"prompt": "problem", "completion": "generated_solution"}},
        {"problem": "2 + 2?", "generated_solution": "4", "expected_answer": "4", "problem_source": "gsm8k"},
        CHAT,
    ),
    (
        "CohereForAI/aya_dataset",
        "sft",
        {"columns": {"prompt": "inputs", "completion": "targets"}},
        {"inputs": "2 + 2?", "targets": "4", "language": "English", "user_id": "u"},
        CHAT,
    ),
    (
        "m-a-p/CodeFeedback-Filtered-Instruction",
        "sft",
        {"columns": {"prompt": "query", "completion": "answer"}},
        {"query": "2 + 2?", "answer": "4", "resource": "evolinstruct", "lang": "python"},
        CHAT,
    ),
    (
        "nvidia/Llama-Nemotron-Post-Training-Dataset",
        "sft",
        {"columns": {"prompt": "input", "completion": "output"}},
        {"input": [USER], "output": "4", "category": "math", "reasoning": "off", "system_prompt": "Be brief."},
        "reasoning",
    ),
    ("openai/gsm8k without a word", "sft", {}, {"question": "2 + 2?", "answer": "4\n#### 4"}, "column"),
    (
        "openai/gsm8k by its columns",
        "sft",
        {"columns": {"prompt": "question", "completion": "answer"}},
        {"question": "2 + 2?", "answer": "4"},
        CHAT,
    ),
    (
        "openai/gsm8k by its format",
        "sft",
        {"format": "gsm8k"},
        {"question": "2 + 2?", "answer": "Two and two.\n#### 4"},
        {"messages": [USER, {"role": "assistant", "content": "Two and two.\n\\boxed{4}"}]},
    ),
    (
        "trl-lib/tldr: spaces are the row's own",
        "sft",
        {},
        {"prompt": "2 + 2?", "completion": " 4"},
        {"messages": [USER, {"role": "assistant", "content": " 4"}]},
    ),
    ("TRL prompt and completion, conversational", "sft", {}, {"prompt": [USER], "completion": [FOUR]}, CHAT),
    ("TRL prompt of turns, completion a text", "sft", {}, {"prompt": [SYSTEM, USER], "completion": "4"}, SYSTEM_CHAT),
    (
        "TRL prompt of several turns",
        "sft",
        {},
        {"prompt": [USER, FOUR, NEXT], "completion": [EIGHT]},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
    ),
    (
        "system beside prompt and completion",
        "sft",
        {},
        {"system": "Be brief.", "prompt": "2 + 2?", "completion": "4"},
        SYSTEM_CHAT,
    ),
    (
        "messages null, prompt and completion there",
        "sft",
        {},
        {"messages": None, "prompt": "2 + 2?", "completion": "4"},
        CHAT,
    ),
    ("a completion that is empty", "sft", {}, {"prompt": "2 + 2?", "completion": ""}, "empty"),
    ("a prompt that is empty", "sft", {}, {"prompt": "", "completion": "4"}, "empty"),
    ("a prompt that is null", "sft", {}, {"prompt": None, "completion": "4"}, "empty"),
    (
        "text that is JSON but no turns",
        "sft",
        {},
        {"prompt": "2 + 2?", "completion": "[4]"},
        {"messages": [USER, {"role": "assistant", "content": "[4]"}]},
    ),
    (
        "nested columns",
        "sft",
        {"columns": {"prompt": "data.question", "completion": "data.reply.text"}},
        {"data": {"question": "2 + 2?", "reply": {"text": "4"}}},
        CHAT,
    ),
    (
        "a column that is not there",
        "sft",
        {"columns": {"prompt": "problem"}},
        {"question": "2?", "completion": "4"},
        "problem",
    ),
    ("a format that is not the row's", "sft", {"format": "alpaca"}, {"messages": [USER, FOUR]}, "instruction"),
]

TOOLS: list[Case] = [
    (
        "OpenAI fine-tuning: tools",
        "sft",
        {},
        {
            "messages": [ASK, CALL | {"content": None, "tool_calls": [OSLO_AS_TEXT]}, RAIN, YES],
            "parallel_tool_calls": False,
            "tools": [TOOL],
        },
        TOOL_CHAT,
    ),
    (
        "OpenAI fine-tuning: ids tell which result is whose",
        "sft",
        {},
        {
            "messages": [
                ASK,
                {"role": "assistant", "tool_calls": [OSLO_AS_TEXT | {"id": "call_1"}]},
                RAIN | {"tool_call_id": "call_1"},
                YES,
            ],
            "tools": [TOOL],
        },
        {
            "messages": [ASK, CALL | {"tool_calls": [OSLO | {"id": "call_1"}]}, RAIN | {"tool_call_id": "call_1"}, YES],
            "tools": [TOOL],
        },
    ),
    (
        "OpenAI: parallel calls",
        "sft",
        {},
        {"messages": [ASK, TWO_CALLS | {"tool_calls": [OSLO_AS_TEXT, ROME_AS_TEXT]}, RAIN, SUN, YES], "tools": [TOOL]},
        {"messages": [ASK, TWO_CALLS, RAIN, SUN, YES], "tools": [TOOL]},
    ),
    (
        "OpenAI: text beside a call",
        "sft",
        {},
        {"messages": [ASK, CALL | {"content": "I look."}, RAIN, YES], "tools": [TOOL]},
        {"messages": [ASK, CALL | {"content": "I look."}, RAIN, YES], "tools": [TOOL]},
    ),
    (
        "OpenAI: a tool's result in parts",
        "sft",
        {},
        {
            "messages": [ASK, CALL, RAIN | {"content": [{"type": "text", "text": '{"rain": true}'}]}, YES],
            "tools": [TOOL],
        },
        TOOL_CHAT,
    ),
    (
        "OpenAI before tools: function_call and functions",
        "sft",
        {},
        {
            "messages": [
                ASK,
                {"role": "assistant", "content": None, "function_call": OSLO_AS_TEXT["function"]},
                RAIN | {"role": "function", "name": "weather"},
                YES,
            ],
            "functions": [BARE_TOOL],
        },
        {"messages": [ASK, CALL, RAIN | {"name": "weather"}, YES], "tools": [TOOL]},
    ),
    (
        "TRL: arguments a map, a tool's name beside its result",
        "sft",
        {},
        {
            "messages": [ASK, {"role": "assistant", "tool_calls": [OSLO]}, RAIN | {"name": "weather"}, YES],
            "tools": [TOOL],
        },
        {"messages": [ASK, CALL, RAIN | {"name": "weather"}, YES], "tools": [TOOL]},
    ),
    (
        "TRL prompt and completion: the completion calls",
        "sft",
        {},
        {"prompt": [ASK], "completion": [{"role": "assistant", "tool_calls": [OSLO]}], "tools": [TOOL]},
        {"messages": [ASK, CALL], "tools": [TOOL]},
    ),
    (
        "TRL prompt and completion: call, result and answer completed",
        "sft",
        {},
        {"prompt": [ASK], "completion": [CALL, RAIN, YES], "tools": [TOOL]},
        TOOL_CHAT,
    ),
    ("tools as JSON text", "sft", {}, {"messages": [ASK, CALL, RAIN, YES], "tools": json.dumps([TOOL])}, TOOL_CHAT),
    ("no tools, an empty list", "sft", {}, {"messages": [USER, FOUR], "tools": []}, CHAT),
    ("no tools, as JSON text", "sft", {}, {"messages": [USER, FOUR], "tools": "[]"}, CHAT),
    ("no tools, null", "sft", {}, {"messages": [USER, FOUR], "tools": None}, CHAT),
    (
        "tuandunghcmut/apigen-function-calling: all of it JSON text",
        "sft",
        {"columns": {"tools": "tools_json"}},
        {
            "messages": json.dumps([ASK, CALL | {"content": None, "tool_calls": [OSLO_AS_TEXT]}]),
            "tools_json": json.dumps([TOOL]),
        },
        {"messages": [ASK, CALL], "tools": [TOOL]},
    ),
    (
        "Salesforce/APIGen-MT-5k",
        "sft",
        {},
        {
            "conversations": [ASKED, {"from": "function_call", "value": OSLO_TEXT}, SEEN, SAID],
            "system": "Be brief.",
            "tools": json.dumps([BARE_TOOL]),
        },
        {"messages": [SYSTEM, ASK, CALL, RAIN, YES], "tools": [TOOL]},
    ),
    (
        "LLaMA-Factory glaive_toolcall_en_demo",
        "sft",
        {},
        {
            "conversations": [ASKED, {"from": "function_call", "value": OSLO_TEXT}, SEEN, SAID],
            "tools": json.dumps([BARE_TOOL]),
        },
        TOOL_CHAT,
    ),
    (
        "ShareGPT, parallel calls in a list, like",
        "sft",
        {},
        {
            "conversations": [ASKED, {"from": "function_call", "value": f"[{OSLO_TEXT}, {ROME_TEXT}]"}, SEEN, SAID],
            "tools": json.dumps([BARE_TOOL]),
        },
        {"messages": [ASK, TWO_CALLS, RAIN, YES], "tools": [TOOL]},
    ),
    (
        "ShareGPT, arguments JSON text in JSON text, like",
        "sft",
        {},
        {
            "conversations": [
                ASKED,
                {"from": "function_call", "value": json.dumps(OSLO_AS_TEXT["function"])},
                SEEN,
                SAID,
            ],
            "tools": json.dumps([TOOL]),
        },
        TOOL_CHAT,
    ),
    (
        "Team-ACE/ToolACE",
        "sft",
        {},
        {
            "system": HERMES,
            "conversations": [
                {"from": "user", "value": "Does it rain?"},
                {"from": "assistant", "value": '[weather(city="Oslo")]'},
                {"from": "tool", "value": '{"rain": true}'},
                {"from": "assistant", "value": "Yes."},
            ],
        },
        {
            "messages": [
                {"role": "system", "content": HERMES},
                ASK,
                {"role": "assistant", "content": '[weather(city="Oslo")]'},
                RAIN,
                YES,
            ]
        },
    ),
    (
        "NousResearch/hermes-function-calling-v1: calls stay text",
        "sft",
        {},
        {
            "id": "i",
            "conversations": [
                {"from": "system", "value": HERMES},
                ASKED,
                {"from": "gpt", "value": HERMES_CALL},
                {"from": "tool", "value": "<tool_response>\n{}\n</tool_response>"},
                SAID,
            ],
            "tools": json.dumps([TOOL]),
            "category": "IoT",
            "task": "Weather",
        },
        {
            "messages": [
                {"role": "system", "content": HERMES},
                ASK,
                {"role": "assistant", "content": HERMES_CALL},
                {"role": "tool", "content": "<tool_response>\n{}\n</tool_response>"},
                YES,
            ],
            "tools": [TOOL],
        },
    ),
    (
        "Salesforce/xlam-function-calling-60k, answers as a text",
        "sft",
        {"columns": {"prompt": "query", "completion": "answers"}},
        {"id": 0, "query": "Does it rain?", "answers": f"[{OSLO_TEXT}]", "tools": json.dumps([BARE_TOOL])},
        {"messages": [ASK, {"role": "assistant", "content": f"[{OSLO_TEXT}]"}], "tools": [TOOL]},
    ),
    (
        "a call in XML, as neulab's agent data has it",
        "sft",
        {},
        {"conversations": [ASKED, {"from": "function_call", "value": "<function=ls>\n</function>"}, SEEN, SAID]},
        "call",
    ),
    (
        "arguments that are no JSON",
        "sft",
        {},
        {
            "messages": [
                ASK,
                CALL | {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{c"}}]},
            ]
        },
        "arguments",
    ),
    (
        "a call of nothing",
        "sft",
        {},
        {"messages": [ASK, CALL | {"tool_calls": [{"type": "function", "function": {"arguments": {}}}]}]},
        "name",
    ),
    ("an empty list of calls beside text", "sft", {}, {"messages": [USER, FOUR | {"tool_calls": []}]}, CHAT),
    (
        "an empty list of calls beside nothing",
        "sft",
        {},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]},
        "empty",
    ),
    ("tools that are no JSON", "sft", {}, {"messages": [USER, FOUR], "tools": "weather"}, "tool"),
]

PREFERENCES: list[Case] = [
    (
        "HuggingFaceH4/ultrafeedback_binarized",
        "preference",
        {},
        {
            "prompt": "2 + 2?",
            "prompt_id": "p",
            "chosen": [USER, FOUR],
            "rejected": [USER, FIVE],
            "messages": [USER, FOUR],
            "score_chosen": 8.0,
            "score_rejected": 3.0,
        },
        PAIR,
    ),
    (
        "trl-lib/ultrafeedback_binarized",
        "preference",
        {},
        {"chosen": [USER, FOUR], "rejected": [USER, FIVE], "score_chosen": 8.0, "score_rejected": 3.0},
        PAIR,
    ),
    (
        "argilla/ultrafeedback-binarized-preferences-cleaned",
        "preference",
        {},
        {
            "source": "evol_instruct",
            "prompt": "2 + 2?",
            "chosen": [USER, FOUR],
            "chosen-rating": 5.0,
            "rejected": [USER, FIVE],
            "rejected-rating": 1.0,
        },
        PAIR,
    ),
    (
        "argilla/dpo-mix-7k",
        "preference",
        {},
        {"dataset": "capybara", "chosen": [USER, FOUR, NEXT, EIGHT], "rejected": [USER, FOUR, NEXT, TEN]},
        LONG_PAIR,
    ),
    (
        "argilla/distilabel-capybara-dpo-like",
        "preference",
        {},
        {"prompt": "Twice that?", "chosen": [USER, FOUR, NEXT, EIGHT], "rejected": [USER, FOUR, NEXT, TEN]},
        LONG_PAIR,
    ),
    (
        "argilla/distilabel-math-preference-dpo",
        "preference",
        {"columns": {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"}},
        {"instruction": "2 + 2?", "chosen_response": "4", "rejected_response": "5", "chosen_rating": 9.0},
        PAIR,
    ),
    (
        "argilla/distilabel-intel-orca-dpo-pairs",
        "preference",
        {"columns": {"prompt": "input"}},
        {"system": "Be brief.", "input": "2 + 2?", "chosen": "4", "rejected": "5", "status": "unchanged"},
        SYSTEM_PAIR,
    ),
    (
        "argilla/distilabel-intel-orca-dpo-pairs without a word",
        "preference",
        {},
        {"system": "Be brief.", "input": "2 + 2?", "chosen": "4", "rejected": "5", "status": "unchanged"},
        "prompt",
    ),
    (
        "Intel/orca_dpo_pairs",
        "preference",
        {},
        {"system": "Be brief.", "question": "2 + 2?", "chosen": "4", "rejected": "5"},
        SYSTEM_PAIR,
    ),
    (
        "Intel/orca_dpo_pairs, system empty",
        "preference",
        {},
        {"system": "", "question": "2 + 2?", "chosen": "4", "rejected": "5"},
        PAIR,
    ),
    (
        "HuggingFaceH4/orca_dpo_pairs-like: whole conversations beside the question",
        "preference",
        {},
        {"system": "Be brief.", "question": "2 + 2?", "chosen": [SYSTEM, USER, FOUR], "rejected": [SYSTEM, USER, FIVE]},
        SYSTEM_PAIR,
    ),
    (
        "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        "preference",
        {},
        {"id": "i", "source": "s", "prompt": "2 + 2?", "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        PAIR,
    ),
    (
        "trl-lib/hh-rlhf-helpful-base",
        "preference",
        {},
        {"prompt": [USER, FOUR, NEXT], "chosen": [EIGHT], "rejected": [TEN]},
        LONG_PAIR,
    ),
    ("trl-lib/tldr-preference", "preference", {}, {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, PAIR),
    ("TRL prompt of turns, answers texts", "preference", {}, {"prompt": [USER], "chosen": "4", "rejected": "5"}, PAIR),
    (
        "system beside a pair",
        "preference",
        {},
        {"system_prompt": "Be brief.", "prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        SYSTEM_PAIR,
    ),
    ("Anthropic/hh-rlhf", "preference", {}, {"chosen": HH_FOUR, "rejected": HH_FIVE}, PAIR),
    (
        "Anthropic/hh-rlhf, several turns",
        "preference",
        {},
        {
            "chosen": HH_FOUR + "\n\nHuman: Twice that?\n\nAssistant: 8",
            "rejected": HH_FOUR + "\n\nHuman: Twice that?\n\nAssistant: 10",
        },
        LONG_PAIR,
    ),
    (
        "Anthropic/hh-rlhf, paragraphs in a turn",
        "preference",
        {},
        {"chosen": HH_FOUR + "\n\nI am sure.", "rejected": HH_FIVE},
        PAIR | {"chosen": [{"role": "assistant", "content": "4\n\nI am sure."}]},
    ),
    (
        "Anthropic/hh-rlhf, nothing answered",
        "preference",
        {},
        {"chosen": "\n\nHuman: 2 + 2?\n\nAssistant:", "rejected": HH_FIVE},
        "empty",
    ),
    (
        "lmsys/chatbot_arena_conversations, won by a",
        "preference",
        {"columns": {"chosen": "conversation_a", "rejected": "conversation_b"}},
        {"question_id": "q", "winner": "model_a", "conversation_a": [USER, FOUR], "conversation_b": [USER, FIVE]},
        PAIR,
    ),
    (
        "OpenAI preference fine-tuning",
        "preference",
        {},
        {
            "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [FOUR],
            "non_preferred_output": [FIVE],
        },
        PAIR,
    ),
    (
        "OpenAI preference fine-tuning, without tools",
        "preference",
        {},
        {"input": {"messages": [SYSTEM, USER]}, "preferred_output": [FOUR], "non_preferred_output": [FIVE]},
        SYSTEM_PAIR,
    ),
    (
        "OpenAI preference fine-tuning, whether to call",
        "preference",
        {},
        {
            "input": {"messages": [ASK], "tools": [TOOL]},
            "preferred_output": [{"role": "assistant", "content": None, "tool_calls": [OSLO_AS_TEXT]}],
            "non_preferred_output": [NO],
        },
        {"prompt": [ASK], "chosen": [CALL], "rejected": [NO], "tools": [TOOL]},
    ),
    (
        "TRL: what is answered after a tool's result",
        "preference",
        {},
        {"chosen": [ASK, CALL, RAIN, YES], "rejected": [ASK, CALL, RAIN, NO], "tools": [TOOL]},
        {"prompt": [ASK, CALL, RAIN], "chosen": [YES], "rejected": [NO], "tools": [TOOL]},
    ),
    (
        "nvidia/HelpSteer2 preference-like",
        "preference",
        {},
        {"prompt": "2 + 2?", "response_1": "5", "response_2": "4", "preference_strength": 2},
        "column",
    ),
    (
        "nvidia/HelpSteer3 preference-like, turns before",
        "preference",
        {"columns": {"prompt": "context", "chosen": "response1", "rejected": "response2"}},
        {"domain": "general", "context": [USER, FOUR, NEXT], "response1": "8", "response2": "10"},
        LONG_PAIR,
    ),
    (
        "PKU-Alignment/PKU-SafeRLHF",
        "preference",
        {},
        {"prompt": "2 + 2?", "response_0": "4", "response_1": "5", "better_response_id": 0, "safer_response_id": 0},
        "column",
    ),
    ("trl-lib/kto-mix-14k", "preference", {}, {"prompt": [USER], "completion": [FOUR], "label": True}, "label"),
    ("KTO, plain", "preference", {}, {"prompt": "2 + 2?", "completion": "5", "label": False}, "label"),
    ("conversations that are the same", "preference", {}, {"chosen": [USER, FOUR], "rejected": [USER, FOUR]}, "equal"),
    ("a rejected answer that is empty", "preference", {}, {"prompt": "2 + 2?", "chosen": "4", "rejected": ""}, "empty"),
    ("a chosen list that is empty", "preference", {}, {"prompt": "2 + 2?", "chosen": [], "rejected": "5"}, "empty"),
    (
        "a prompt that ends with the assistant",
        "preference",
        {},
        {"prompt": [USER, FOUR], "chosen": [EIGHT], "rejected": [TEN]},
        "asked",
    ),
    (
        "conversations with nothing in common",
        "preference",
        {},
        {"chosen": [USER, FOUR], "rejected": [NEXT, FOUR]},
        "prompt",
    ),
    (
        "conversations that part at a user's turn",
        "preference",
        {},
        {"chosen": [USER, FOUR, NEXT, EIGHT], "rejected": [USER, FOUR, ASK, NO]},
        "asked",
    ),
]

PROMPTS: list[Case] = [
    ("prompt and solution", "prompts", {}, {"prompt": "2 + 2?", "solution": "4"}, TASK),
    ("trl-lib/DeepMath-103K", "prompts", {}, {"prompt": [USER], "solution": "4"}, TASK),
    ("trl-lib/ultrafeedback-prompt", "prompts", {}, {"prompt": [USER]}, UNSOLVED),
    (
        "openai/openai_humaneval",
        "prompts",
        {},
        {
            "task_id": "HumanEval/0",
            "prompt": "2 + 2?",
            "canonical_solution": "return 4",
            "test": "…",
            "entry_point": "f",
        },
        UNSOLVED,
    ),
    (
        "HuggingFaceH4/ultrachat_200k, to practise on",
        "prompts",
        {},
        {"prompt": "2 + 2?", "prompt_id": "f0e3", "messages": [USER, FOUR]},
        UNSOLVED,
    ),
    (
        "BytedTsinghua-SIA/DAPO-Math-17k",
        "prompts",
        {"columns": {"solution": "reward_model.ground_truth"}},
        {
            "data_source": "math_dapo",
            "prompt": [USER],
            "ability": "MATH",
            "reward_model": {"ground_truth": "4", "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b"},
        },
        TASK,
    ),
    (
        "verl's GSM8K",
        "prompts",
        {"columns": {"solution": "reward_model.ground_truth"}},
        {
            "data_source": "openai/gsm8k",
            "prompt": [USER],
            "ability": "math",
            "reward_model": {"ground_truth": "4", "style": "rule"},
            "extra_info": {"answer": "4\n#### 4", "index": 0, "question": "2 + 2?", "split": "train"},
        },
        TASK,
    ),
    (
        "verl's GSM8K, the bare question",
        "prompts",
        {"columns": {"prompt": "extra_info.question", "solution": "reward_model.ground_truth"}},
        {
            "prompt": [{"role": "user", "content": "2 + 2? Let's think step by step."}],
            "reward_model": {"ground_truth": "4", "style": "rule"},
            "extra_info": {"index": 0, "question": "2 + 2?", "split": "train"},
        },
        TASK,
    ),
    (
        "PRIME-RL/Eurus-2-RL-Data",
        "prompts",
        {"columns": {"solution": "reward_model.ground_truth"}},
        {
            "data_source": "numina_olympiads",
            "prompt": [SYSTEM, USER],
            "ability": "math",
            "reward_model": {"ground_truth": "4", "style": "rule"},
            "extra_info": {"index": 0, "split": "dummy"},
        },
        SYSTEM_TASK,
    ),
    (
        "open-r1/DAPO-Math-17k-Processed",
        "prompts",
        {},
        {"prompt": "2 + 2?", "solution": "4", "source_prompt": [USER], "reward_model": {"ground_truth": "4"}},
        TASK,
    ),
    (
        "openai/gsm8k by its columns, to practise on",
        "prompts",
        {"columns": {"prompt": "question", "solution": "answer"}},
        {"question": "2 + 2?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"},
        TASK | {"solution": "2 + 2 = <<2+2=4>>4\n#### 4"},
    ),
    (
        "openai/gsm8k without a word, to practise on",
        "prompts",
        {},
        {"question": "2 + 2?", "answer": "4\n#### 4"},
        "column",
    ),
    (
        "hendrycks/competition_math",
        "prompts",
        {"columns": {"prompt": "problem"}},
        {"problem": "2 + 2?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{4}$."},
        TASK | {"solution": "It is $\\boxed{4}$."},
    ),
    (
        "HuggingFaceH4/MATH-500: a solution beside the answer",
        "prompts",
        {"columns": {"prompt": "problem", "solution": "answer"}},
        {"problem": "2 + 2?", "solution": "It is $\\boxed{4}$.", "answer": "4", "level": 1, "unique_id": "test/1.json"},
        TASK,
    ),
    (
        "open-r1/OpenR1-Math-220k, to practise on",
        "prompts",
        {"columns": {"prompt": "problem", "solution": "answer"}},
        {"problem": "2 + 2?", "solution": "As 2 + 2 = 4.", "answer": "4", "messages": [USER, FOUR], "uuid": "u"},
        TASK,
    ),
    (
        "AI-MO/NuminaMath-CoT, to practise on",
        "prompts",
        {"columns": {"prompt": "problem"}},
        {"source": "aops", "problem": "2 + 2?", "solution": "So $\\boxed{4}$", "messages": [USER, FOUR]},
        TASK | {"solution": "So $\\boxed{4}$"},
    ),
    (
        "agentica-org/DeepScaleR-Preview-Dataset",
        "prompts",
        {"columns": {"prompt": "problem", "solution": "answer"}},
        {"problem": "2 + 2?", "answer": "4", "solution": ""},
        TASK,
    ),
    (
        "zwhe99/DeepMath-103K",
        "prompts",
        {"columns": {"prompt": "question", "solution": "final_answer"}},
        {"question": "2 + 2?", "final_answer": "4", "difficulty": 1.0, "topic": "Algebra", "r1_solution_1": "4"},
        TASK,
    ),
    (
        "nvidia/OpenMathInstruct-2, to practise on",
        "prompts",
        {"columns": {"prompt": "problem", "solution": "expected_answer"}},
        {"problem": "2 + 2?", "generated_solution": "So 4.", "expected_answer": "4", "problem_source": "gsm8k"},
        TASK,
    ),
    (
        "SynthLabsAI/Big-Math-RL-Verified",
        "prompts",
        {"columns": {"prompt": "problem", "solution": "answer"}},
        {
            "problem": "2 + 2?",
            "answer": "4",
            "source": "orca_math",
            "domain": ["Mathematics"],
            "llama8b_solve_rate": 0.5,
        },
        TASK,
    ),
    (
        "allenai/RLVR-GSM",
        "prompts",
        {"columns": {"prompt": "messages", "solution": "ground_truth"}},
        {"messages": [USER], "ground_truth": "4", "dataset": "gsm8k"},
        TASK,
    ),
    (
        "OpenAI reinforcement fine-tuning",
        "prompts",
        {"columns": {"prompt": "messages", "solution": "reference_answer"}},
        {"messages": [SYSTEM | {"role": "developer"}, USER], "reference_answer": "4"},
        SYSTEM_TASK,
    ),
    (
        "Maxwell-Jia/AIME_2024: an integer",
        "prompts",
        {"columns": {"prompt": "Problem", "solution": "Answer"}},
        {"ID": "2024-I-1", "Problem": "2 + 2?", "Solution": "It is 4.", "Answer": 4},
        TASK,
    ),
    (
        "Hothan/OlympiadBench-like: a list of one",
        "prompts",
        {"columns": {"prompt": "question", "solution": "final_answer"}},
        {"id": 1, "question": "2 + 2?", "final_answer": ["4"], "is_multiple_answer": False, "unit": None},
        TASK,
    ),
    ("a list of one integer", "prompts", {}, {"prompt": "2 + 2?", "solution": [4]}, TASK),
    ("a float", "prompts", {}, {"prompt": "2 + 2?", "solution": 0.5}, TASK | {"solution": "0.5"}),
    (
        "a decimal of Parquet",
        "prompts",
        {},
        {"prompt": "2 + 2?", "solution": Decimal("4.50")},
        TASK | {"solution": "4.50"},
    ),
    ("zero is a solution", "prompts", {}, {"prompt": "2 + 2?", "solution": 0}, TASK | {"solution": "0"}),
    ("NaN, pandas's null", "prompts", {}, {"prompt": "2 + 2?", "solution": float("nan")}, UNSOLVED),
    ("the text nan", "prompts", {}, {"prompt": "2 + 2?", "solution": "nan"}, UNSOLVED),
    ("a solution that is empty", "prompts", {}, {"prompt": "2 + 2?", "solution": ""}, UNSOLVED),
    ("a solution that is null", "prompts", {}, {"prompt": "2 + 2?", "solution": None}, UNSOLVED),
    ("a list of two solutions", "prompts", {}, {"prompt": "2 + 2?", "solution": ["4", "5"]}, "solution"),
    ("a map for a solution", "prompts", {}, {"prompt": "2 + 2?", "solution": {"ground_truth": "4"}}, "solution"),
    (
        "system beside a prompt",
        "prompts",
        {},
        {"system": "Be brief.", "prompt": "2 + 2?", "solution": "4"},
        SYSTEM_TASK,
    ),
    ("a prompt as JSON text", "prompts", {}, {"prompt": json.dumps([USER]), "solution": "4"}, TASK),
    ("a question beside the prompt", "prompts", {}, {"prompt": [USER], "question": "Another?", "solution": "4"}, TASK),
    ("a prompt that is empty, to practise on", "prompts", {}, {"prompt": "", "solution": "4"}, "empty"),
    ("a prompt of no turns", "prompts", {}, {"prompt": [], "solution": "4"}, "empty"),
    ("Jiayi-Pan/Countdown-Tasks-3to4: no prompt at all", "prompts", {}, {"target": 4, "nums": [2, 2]}, "column"),
]

TRAPS: list[Case] = [
    ("OpenAI vision", "sft", {}, {"messages": [{"role": "user", "content": [IMAGE, TEXT]}, FOUR]}, "image"),
    (
        "TRL vision",
        "sft",
        {},
        {"messages": [{"role": "user", "content": [{"type": "image"}, TEXT]}, FOUR], "images": [b"\x89PNG"]},
        "image",
    ),
    (
        "trl-lib/llava-instruct-mix-like",
        "sft",
        {},
        {"images": [b"\x89PNG"], "prompt": [USER], "completion": [FOUR]},
        "image",
    ),
    (
        "liuhaotian/LLaVA-Instruct-150K",
        "sft",
        {},
        {"id": "1", "image": "1.jpg", "conversations": [HUMAN | {"value": "<image>\n2 + 2?"}, GPT]},
        "image",
    ),
    (
        "openbmb/RLAIF-V-Dataset-like",
        "preference",
        {},
        {"image": b"\x89PNG", "question": "2 + 2?", "chosen": "4", "rejected": "5"},
        "image",
    ),
    (
        "hiyouga/geometry3k",
        "prompts",
        {"columns": {"prompt": "problem", "solution": "answer"}},
        {"images": [b"\x89PNG"], "problem": "<image>2 + 2?", "answer": "4"},
        "image",
    ),
    ("images, but none", "sft", {}, {"messages": [USER, FOUR], "images": []}, CHAT),
    ("an image that is null", "sft", {}, {"messages": [USER, FOUR], "image": None}, CHAT),
    (
        "content that is null, and no call",
        "sft",
        {},
        {"messages": [USER, {"role": "assistant", "content": None}]},
        "empty",
    ),
    ("content that is missing, and no call", "sft", {}, {"messages": [USER, {"role": "assistant"}]}, "empty"),
    ("content that is empty, and no call", "sft", {}, {"messages": [USER, FOUR | {"content": ""}]}, "empty"),
    ("content that is a number", "sft", {}, {"messages": [USER, FOUR | {"content": 4}]}, "content"),
    ("no role", "sft", {}, {"messages": [USER, {"content": "4"}]}, "role"),
    ("a role that nobody has", "sft", {}, {"messages": [USER, FOUR | {"role": "critic"}]}, "role"),
    ("messages that are empty", "sft", {}, {"messages": []}, "empty"),
    ("messages that are empty JSON text", "sft", {}, {"messages": "[]"}, "empty"),
    ("messages as pandas prints them", "sft", {}, {"messages": str([USER, FOUR])}, "JSON"),
    ("messages that are a text", "sft", {}, {"messages": "2 + 2? 4"}, "messages"),
    ("nobody answers", "sft", {}, {"messages": [SYSTEM, USER]}, "assistant"),
    ("the system alone", "sft", {}, {"messages": [SYSTEM]}, "assistant"),
    ("weight 0 on every answer", "sft", {}, {"messages": [USER, FOUR | {"weight": 0}]}, "train"),
    ("train false on every answer", "sft", {}, {"messages": [USER, FOUR | {"train": False}]}, "train"),
    ("text alone, for pre-training", "sft", {}, {"text": "2 + 2 is 4."}, "column"),
    ("a row without columns", "sft", {}, {}, "column"),
    ("a row whose columns are null", "sft", {}, {"prompt": None, "completion": None, "messages": None}, "empty"),
]

OPEN: list[Case] = [
    ("the user speaks last", "sft", {}, {"messages": [USER, FOUR, NEXT]}, {"messages": [USER, FOUR, NEXT]}),
    (
        "lmsys ShareGPT, the human last",
        "sft",
        {},
        {"conversations": [HUMAN, GPT, {"from": "human", "value": "Twice that?"}]},
        {"messages": [USER, FOUR, NEXT]},
    ),
    ("the assistant speaks first", "sft", {}, {"messages": [FOUR, NEXT, EIGHT]}, {"messages": [FOUR, NEXT, EIGHT]}),
    (
        "system in the middle",
        "sft",
        {},
        {"messages": [USER, FOUR, SYSTEM, NEXT, EIGHT]},
        {"messages": [USER, FOUR, SYSTEM, NEXT, EIGHT]},
    ),
    (
        "system beside the same system turn",
        "sft",
        {},
        {"system": "Be brief.", "messages": [SYSTEM, USER, FOUR]},
        SYSTEM_CHAT,
    ),
    ("a user's turn that is empty", "sft", {}, {"messages": [USER | {"content": ""}, FOUR]}, "empty"),
    (
        "a tool that returned nothing",
        "sft",
        {},
        {"messages": [ASK, CALL, RAIN | {"content": ""}, NO]},
        {"messages": [ASK, CALL, RAIN | {"content": ""}, NO]},
    ),
    ("weight of a half", "sft", {}, {"messages": [USER, FOUR | {"weight": 0.5}]}, "weight"),
    (
        "LLaMA-Factory alpaca, a history",
        "sft",
        {},
        {"instruction": "Twice that?", "input": "", "output": "8", "system": "", "history": [["2 + 2?", "4"]]},
        "history",
    ),
    (
        "Salesforce/xlam-function-calling-60k by its format",
        "sft",
        {"format": "xlam"},
        {"id": 0, "query": "Does it rain?", "answers": f"[{OSLO_TEXT}]", "tools": json.dumps([BARE_TOOL])},
        {"messages": [ASK, CALL], "tools": [TOOL]},
    ),
    (
        "calls without function, like",
        "sft",
        {},
        {"messages": [ASK, CALL | {"tool_calls": [OSLO["function"]]}, RAIN, YES], "tools": [TOOL]},
        TOOL_CHAT,
    ),
    (
        "tools, each JSON text, as nvidia/When2Call has them",
        "sft",
        {},
        {"messages": [ASK, CALL, RAIN, YES], "tools": [json.dumps(BARE_TOOL)]},
        TOOL_CHAT,
    ),
    (
        "messages beside another prompt and completion",
        "sft",
        {},
        {"messages": [USER, FOUR], "prompt": "Another?", "completion": "5"},
        "column",
    ),
    (
        "instruction and output beside another prompt and completion",
        "sft",
        {},
        {"instruction": "2 + 2?", "output": "4", "prompt": "Another?", "completion": "5"},
        "column",
    ),
    (
        "a pair with two that could be the prompt",
        "preference",
        {},
        {"prompt": "2 + 2?", "question": "Another?", "chosen": "4", "rejected": "5"},
        "column",
    ),
    (
        "a pair with two that could be the prompt, one of them named",
        "preference",
        {"columns": {"prompt": "question"}},
        {"prompt": "Another?", "question": "2 + 2?", "chosen": "4", "rejected": "5"},
        PAIR,
    ),
    (
        "KTO's bad answers are not to be imitated",
        "sft",
        {},
        {"prompt": "2 + 2?", "completion": "5", "label": False},
        "label",
    ),
    (
        "conversations that part early",
        "preference",
        {},
        {"chosen": [USER, FOUR, NEXT, EIGHT], "rejected": [USER, FIVE, NEXT, TEN]},
        {"prompt": [USER], "chosen": [FOUR, NEXT, EIGHT], "rejected": [FIVE, NEXT, TEN]},
    ),
    (
        "one conversation is the beginning of the other",
        "preference",
        {},
        {"chosen": [USER, FOUR, NEXT, EIGHT], "rejected": [USER, FOUR]},
        {"prompt": [USER], "chosen": [FOUR, NEXT, EIGHT], "rejected": [FOUR]},
    ),
    (
        "a prompt that is not in the conversations",
        "preference",
        {},
        {"prompt": "Another?", "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        "prompt",
    ),
    ("only one side a transcript", "preference", {}, {"chosen": HH_FOUR, "rejected": "5"}, "transcript"),
    (
        "openai/gsm8k by its format, to practise on",
        "prompts",
        {"format": "gsm8k"},
        {"question": "2 + 2?", "answer": "Two and two.\n#### 4"},
        TASK,
    ),
    ("a prompt to practise on that ends with the assistant", "prompts", {}, {"prompt": [USER, FOUR]}, "asked"),
    (
        "google/boolq: a bool",
        "prompts",
        {"columns": {"prompt": "question", "solution": "answer"}},
        {"question": "2 + 2?", "answer": True, "passage": "Of numbers."},
        TASK | {"solution": "True"},
    ),
    ("a float that is whole", "prompts", {}, {"prompt": "2 + 2?", "solution": 4.0}, TASK | {"solution": "4.0"}),
    ("an empty list of solutions", "prompts", {}, {"prompt": "2 + 2?", "solution": []}, UNSOLVED),
    ("a solution of blanks", "prompts", {}, {"prompt": "2 + 2?", "solution": " \n"}, UNSOLVED),
    (
        "LLaMA-Factory dpo_en_demo: an answer is a lone turn",
        "preference",
        {"columns": {"prompt": "conversations"}},
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "5"}},
        PAIR,
    ),
    (
        "nvidia/When2Call-like: lone turns",
        "preference",
        {"columns": {"prompt": "question", "chosen": "chosen_response", "rejected": "rejected_response"}},
        {"question": "2 + 2?", "chosen_response": FOUR, "rejected_response": FIVE},
        PAIR,
    ),
    ("answers that are the same", "preference", {}, {"prompt": "2 + 2?", "chosen": "4", "rejected": "4"}, "equal"),
    (
        "OpenAI audio",
        "sft",
        {},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklG"}}]}, FOUR]},
        "audio",
    ),
    (
        "Anthropic's parts that call",
        "sft",
        {},
        {
            "messages": [
                ASK,
                {"role": "assistant", "content": [{"type": "tool_use", "name": "weather", "input": {"city": "Oslo"}}]},
            ]
        },
        "tool_use",
    ),
    (
        "system beside another system turn",
        "sft",
        {},
        {"system": "Be long.", "messages": [SYSTEM, USER, FOUR]},
        "system",
    ),
]

CASES: list[Case] = CONVERSATIONS + SHAREGPT + INSTRUCTIONS + TOOLS + PREFERENCES + PROMPTS + TRAPS + OPEN
