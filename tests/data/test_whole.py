"""Whole preparations of what people have: every shape, kind of file and mistake, and what is said of each."""

import csv
import datetime
import gzip
import io
import json
import random
import re
import textwrap
from collections import Counter
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from clone import micro_clone
from shapes import CHAT, EIGHT, FIVE, FOUR, NEXT, PAIR, SYSTEM, TASK, UNTRAINED, USER

from llmrl.data import prepare, sieve
from llmrl.errors import InputError

COUNT = 40  # rows of a file, about half of which are held out
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ADD = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [ADD]}
NOTHING = {"role": "assistant", "content": None}
RESULT = {"role": "tool", "content": "4"}
CALLED = {"messages": [USER, CALL, RESULT, FOUR], "tools": [TOOL]}
THOUGHT = {"messages": [USER, FOUR | {"reasoning_content": "Two and two."}]}


class Prepared(NamedTuple):
    """A data set, its source.json, and what was printed."""

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    report: dict[str, Any]
    said: str


@pytest.fixture
def prepared(project, change, capsys):
    """Puts files into data/raw/<name>/, and prepares the data set: without limits, half of it held out."""
    change("data.eval_share", "0.5")

    def run(name: str, files: dict[str, bytes], **settings: Any) -> Prepared:
        for path, content in files.items():
            (project / "data/raw" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (project / "data/raw" / name / path).write_bytes(content)
        section = {"source": "raw", "rows": None, "eval_rows": None} | settings
        section |= {"policy": "data/preference"} if name == "preference" else {}
        change(f"data.{name}", "\n" + textwrap.indent(yaml.safe_dump(section, sort_keys=False), "    ").rstrip())
        capsys.readouterr()
        prepare.main(name)
        train, held_out = ([*map(whole, rows_of(name, side))] for side in ("train", "eval"))
        report = json.loads((project / "data" / name / "source.json").read_text(encoding="utf-8"))
        return Prepared(train, held_out, report, capsys.readouterr().out)

    return run


def rows_of(name, side):
    return pq.read_table(f"data/{name}/{side}.parquet").to_pylist()


def whole(row):
    """A row as it is trained on: its turns whole, tools and further columns as they are."""
    found = {}
    for column, value in row.items():
        if isinstance(value, list):
            found[column] = [
                {"role": turn["role"], "content": turn["content"]} | json.loads(turn.get("more") or "{}")
                for turn in value
            ]
        elif column in ("tools", "extra"):
            found |= {column: json.loads(value)} if value else {}
        else:
            found[column] = value
    return found


def asked(rows):
    """The first questions of rows."""
    return [
        next(turn["content"] for turn in row.get("prompt") or row["messages"] if turn["role"] == "user") for row in rows
    ]


def numbered(row, number):
    """The row with another question, by which it falls on a side of the split."""
    return json.loads(json.dumps(row).replace("2 + 2", f"{number} + 2"))


def some(row, count=COUNT):
    return [numbered(row, number) for number in range(count)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def cells(rows, delimiter=","):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def by_question(rows):
    return {asked([row])[0]: row for row in rows}


# --- shapes ----------------------------------------------------------------------------------------------------------

HUMAN, GPT = {"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}
CALLING = {"from": "function_call", "value": json.dumps(ADD["function"])}
AS_TEXT = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
HH = {side: f"\n\nHuman: 2 + 2?\n\nAssistant: {number}" for side, number in (("chosen", 4), ("rejected", 5))}
PARTS = {"role": "user", "content": [{"type": "text", "text": "2 + 2"}, {"type": "text", "text": "?"}]}
# The data set, its settings, a row, what becomes of it, and what is said.
SHAPES = {
    "ShareGPT": (
        "sft",
        {},
        {"conversations": [{"from": "system", "value": "Be brief."}, HUMAN, GPT], "id": "x"},
        {"messages": [SYSTEM, USER, FOUR]},
        ["recognised as: sharegpt 40", "columns and fields not used: id (40 rows)"],
    ),
    "ShareGPT with calls": (
        "sft",
        {},
        {"conversations": [HUMAN, CALLING, {"from": "observation", "value": "4"}, GPT], "tools": json.dumps([TOOL])},
        CALLED,
        ["recognised as: sharegpt 40"],
    ),
    "Alpaca": (
        "sft",
        {},
        {"instruction": "Add.", "input": "2 + 2", "output": "4"},
        {"messages": [{"role": "user", "content": "Add.\n\n2 + 2"}, FOUR]},
        ["recognised as: alpaca 40"],
    ),
    "Alpaca with a system column": (
        "sft",
        {},
        {"system": "Be brief.", "instruction": "2 + 2?", "input": "", "output": "4"},
        {"messages": [SYSTEM, USER, FOUR]},
        ["recognised as: alpaca 40"],
    ),
    "Orca's pairs": (
        "preference",
        {},
        {"system": "Be brief.", "question": "2 + 2?", "chosen": "4", "rejected": "5"},
        PAIR | {"prompt": [SYSTEM, USER]},
        ["recognised as: orca 40"],
    ),
    "a system column beside turns": (
        "sft",
        {},
        {"system_prompt": "Be brief.", "messages": [USER, FOUR]},
        {"messages": [SYSTEM, USER, FOUR]},
        ["recognised as: messages 40"],
    ),
    "OpenAI's tool calls": (
        "sft",
        {},
        {"messages": [USER, NOTHING | {"tool_calls": [AS_TEXT]}, RESULT, FOUR], "tools": [TOOL]},
        CALLED,
        ["recognised as: messages 40"],
    ),
    "OpenAI's function_call": (
        "sft",
        {},
        {
            "messages": [USER, NOTHING | {"function_call": AS_TEXT["function"]}, RESULT, FOUR],
            "functions": [TOOL["function"]],
        },
        CALLED,
        ["recognised as: messages 40"],
    ),
    "reasoning_content": ("sft", {}, THOUGHT, THOUGHT, ["dropped: none"]),
    "thinking": ("sft", {}, {"messages": [USER, FOUR | {"thinking": "Two and two."}]}, THOUGHT, ["dropped: none"]),
    "weights": (
        "sft",
        {},
        {"messages": [USER, FOUR | {"weight": 0}, NEXT, EIGHT | {"weight": 1}]},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
        ["dropped: none"],
    ),
    "train: false": ("sft", {}, *2 * ({"messages": [USER, UNTRAINED, NEXT, EIGHT]},), ["dropped: none"]),
    "loss: false": (
        "sft",
        {},
        {"messages": [USER, FOUR | {"loss": False}, NEXT, EIGHT]},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
        ["dropped: none"],
    ),
    "answers in the prompt": (
        "sft",
        {},
        {"prompt": [USER, FOUR, NEXT], "completion": "8"},
        {"messages": [USER, UNTRAINED, NEXT, EIGHT]},
        ["recognised as: prompt + completion 40"],
    ),
    "parts, developer": (
        "sft",
        {},
        {"messages": [{"role": "developer", "content": "Be brief."}, PARTS, FOUR]},
        {"messages": [SYSTEM, USER, FOUR]},
        ["recognised as: messages 40"],
    ),
    "an empty system turn": ("sft", {}, {"messages": [SYSTEM | {"content": ""}, USER, FOUR]}, CHAT, ["dropped: none"]),
    "an integer": ("prompts", {}, {"prompt": "2 + 2?", "solution": 4}, TASK, ["recognised as: prompt 40"]),
    "a list of one": ("prompts", {}, {"prompt": "2 + 2?", "solution": ["4"]}, TASK, ["dropped: none"]),
    "a nested solution": (
        "prompts",
        {"columns": {"solution": "reward_model.ground_truth"}},
        {"prompt": "2 + 2?", "reward_model": {"ground_truth": "4", "style": "rule"}},
        TASK | {"extra": {"reward_model": {"ground_truth": "4", "style": "rule"}}},
        ["for rewards also: reward_model"],
    ),
    "HH-RLHF": ("preference", {}, HH, PAIR, ["recognised as: hh_rlhf 40"]),
    "columns that are named": (
        "sft",
        {"columns": {"prompt": "q", "completion": "a"}},
        {"q": "2 + 2?", "a": "4", "messages": [NEXT, EIGHT]},
        CHAT,
        ["recognised as: prompt + completion 40", "columns and fields not used: messages (40 rows)"],
    ),
    "a prompt beside its messages": (
        "sft",
        {},
        {"prompt": "2 + 2?", "prompt_id": "f0", "messages": [USER, FOUR]},
        CHAT,
        ["recognised as: messages 40", "prompt (40 rows)", "prompt_id (40 rows)"],
    ),
    "fields of turns": (
        "sft",
        {},
        {"messages": [USER | {"country": "NO"}, FOUR | {"toxic": None}]},
        CHAT,
        ["columns and fields not used: country (40 rows)"],
    ),
    "GSM8K": (
        "sft",
        {"format": "gsm8k"},
        {"question": "2 + 2?", "answer": "It is 2 + 2 = <<2+2=4>>4.\n#### 4"},
        {"messages": [USER, {"role": "assistant", "content": "It is 2 + 2 = 4.\n\\boxed{4}"}]},
        ["recognised as: gsm8k 40"],
    ),
    "GSM8K to practise on": (
        "prompts",
        {"format": "gsm8k"},
        {"question": "2 + 2?", "answer": "It is <<2+2=4>>4.\n#### 4"},
        TASK,
        ["recognised as: gsm8k 40"],
    ),
    "no solution": (
        "prompts",
        {},
        {"prompt": "2 + 2?"},
        TASK | {"solution": None},
        ["solutions: none, so that no answer"],
    ),
}


@pytest.mark.parametrize(("name", "settings", "row", "expected", "said"), SHAPES.values(), ids=SHAPES)
def test_a_shape_is_read(prepared, name, settings, row, expected, said):
    """Every row becomes what it says, and what it was recognised as, and what was not used of it, is said."""
    got = prepared(name, {"a.jsonl": lines(some(row))}, **settings)
    assert by_question(some(expected)) == by_question(got.train + got.held_out)
    assert (COUNT, {}) == (got.report["rows"]["read"], got.report["sources"][0]["rows"]["dropped"])
    for part in said:
        assert part in got.said


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}
REFUSED = {
    "single answers with a label": (
        "preference",
        {},
        {"prompt": "2 + 2?", "completion": "4", "label": True},
        [
            "a.jsonl:1: the row has the columns prompt, completion, label; data/preference needs prompt + chosen",
            "A label on single answers does not do: a pair is two answers to one prompt.",
            "llmrl/formats.py",
        ],
    ),
    "images": (
        "sft",
        {},
        {"messages": [IMAGE, FOUR]},
        ["40 a part that is image_url, which cannot be trained on (first: "],
    ),
    "an input that nobody reads": (
        "sft",
        {"columns": {"prompt": "instruction", "completion": "output"}},
        {"instruction": "2 + 2?", "input": "in words", "output": "4"},
        ["40 of 40 rows are defective, more than data.max_defective", "40 input, which would be lost (first: "],
    ),
    "half a weight": (
        "sft",
        {},
        {"messages": [USER, FOUR | {"weight": 0.5}]},
        ["a weight other than 0 and 1 (first: "],
    ),
    "tools of prompts": (
        "prompts",
        {},
        {"prompt": "2 + 2?", "tools": [TOOL]},
        ["40 tools, which would be lost (first: "],
    ),
    "another system text": (
        "sft",
        {},
        {"system": "Be long.", "messages": [SYSTEM, USER, FOUR]},
        ["a system text beside another system turn (first: data/raw/sft/a.jsonl:1)"],
    ),
    "two shapes": (
        "sft",
        {},
        {"messages": [USER, FOUR], "conversations": [HUMAN, GPT]},
        [
            "a.jsonl:1: the row has the columns messages and conversations, of which either would do; name those",
            "data.sft.columns in params.yaml",
        ],
    ),
    "a column that is not there": (
        "prompts",
        {"columns": {"prompt": "query"}},
        {"question": "2 + 2?"},
        ["a.jsonl:1: data.prompts.columns in params.yaml names 'query' as prompt, which the row does not have"],
    ),
    "one opening turn": (
        "sft",
        {},
        {"prompt": "Continue.", "completion": "2 + 2"},
        [
            "would have no rows, of 40 read; all begin with one user turn ('Continue.'), which decides the side",
            "It needs rows that begin otherwise, or an evaluation set that data.sft.eval names",
        ],
    ),
    "a format for other rows": (
        "sft",
        {"format": "gsm8k"},
        {"problem": "2 + 2?", "answer": "4 #### 4"},
        ["a.jsonl:1: the format gsm8k reads the column 'question', which the row does not have", "data.sft.columns in"],
    ),
    "a format that makes no pair": (
        "preference",
        {"format": "alpaca"},
        {"instruction": "2 + 2?", "output": "4"},
        ["a.jsonl:1: ", "alpaca", "chosen"],
    ),
}


@pytest.mark.parametrize(("name", "settings", "row", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_on_is_refused(prepared, project, name, settings, row, said):
    """The message names the place, the cause and what would do; no data set is left behind."""
    with pytest.raises(InputError) as refusal:
        prepared(name, {"a.jsonl": lines(some(row))}, **settings)
    for part in said:
        assert part in str(refusal.value)
    assert [] == [path.name for path in (project / "data").iterdir() if name in path.name]


OPENAI = {"input": {"messages": [USER]}, "preferred_output": [FOUR], "non_preferred_output": [FIVE]}


@pytest.mark.parametrize(
    ("row", "odd"),
    [
        (OPENAI, {"input": {}}),
        (OPENAI, {"input": "2 + 2?"}),
        (HH, {"chosen": None}),
        (HH, {"rejected": [FIVE]}),
        ({"system": "", "question": "2 + 2?", "chosen": "4", "rejected": "5"}, {"chosen": None}),
    ],
)
def test_one_odd_row_stops_nothing(prepared, row, odd):
    """A row in which a shape of ours lacks something is counted as defective, like any other."""
    got = prepared("preference", {"a.jsonl": lines([*some(row), row | odd])})
    assert [1] == [*got.report["sources"][0]["rows"]["dropped"].values()]


@pytest.mark.parametrize(
    ("field", "messages"),
    [
        ("thinking", [USER | {"thinking": "Two and two."}, FOUR]),
        ("tool_calls", [USER | {"tool_calls": [ADD]}, FOUR]),
        ("value", [USER | {"value": "Twice that?"}, FOUR]),
        ("function_call", [USER, CALL | {"function_call": {"name": "sub", "arguments": "{}"}}, RESULT, FOUR]),
    ],
)
def test_no_field_of_a_turn_is_lost_in_silence(prepared, field, messages):
    """Where it means nothing there, or says the same as another that has something else, it is named or refused."""
    try:
        said = prepared("sft", {"a.jsonl": lines(some({"messages": messages}))}).said
    except InputError as error:
        said = str(error)
    assert field in said


HALF = "\ud83d"


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        (CHAT | {"note": HALF}, {}),
        (CHAT | {"no" + HALF: 1}, {}),
        ({"messages": [USER | {"no" + HALF: 1}, FOUR]}, {}),
    ],
)
def test_half_a_character_that_is_not_used_harms_nothing(prepared, row, settings):
    """As in a column of notes, its name, or that of a field."""
    assert COUNT == prepared("sft", {"a.jsonl": lines(some(row))}, **settings).report["sources"][0]["rows"]["kept"]


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        (CHAT | {"note": HALF}, {"template": "{question} {note}"}),
        ({"messages": [USER, NOTHING | {"tool_calls": [{"name": "add", "arguments": {"a": HALF}}]}]}, {}),
        ({"messages": [USER, NOTHING | {"tool_calls": [{"name": HALF}]}]}, {}),
        ({"messages": [USER, {"role": "tool", "content": {"a": HALF}}, FOUR]}, {}),
    ],
)
def test_half_a_character_that_is_used_is_a_defect(prepared, row, settings):
    """Wherever it stands: no file could hold it."""
    with pytest.raises(InputError, match=r"40 half a Unicode character \(first: data/raw/sft/a\.jsonl:1\)"):
        prepared("sft", {"a.jsonl": lines(some(row))}, **settings)


# --- files -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_file_is_read_and_the_others_are_named(prepared):
    """Hidden files are no data; what holds no rows is said, also beside what does."""
    rows = some({"prompt": "2 + 2?", "completion": "4"}, 70)
    part = [rows[start : start + 10] for start in range(0, 70, 10)]
    files = {
        "a.json": json.dumps(part[0]).encode(),
        "b.jsonl.gz": gzip.compress(lines(part[1])),
        "c.jsonl.zst": pa.Codec("zstd").compress(lines(part[2]), asbytes=True),
        "d.ndjson": lines(part[3]),
        "e.tsv": cells(part[4], "\t"),
        "F.JSONL": lines(part[5]),
        "g.csv": cells(part[6], ";"),
    }
    stale = lines(some({"prompt": "2 + 2? Stale.", "completion": "4"}))
    hidden = {".ipynb_checkpoints/a.jsonl": stale, "._d.csv": b"\0", "~$g.csv": b"\0", ".DS_Store": b"\0"}
    got = prepared("sft", files | hidden | {"notes.txt": b"", "README.md": b""})
    assert {row["prompt"] for row in rows} == set(asked(got.train + got.held_out))
    source = got.report["sources"][0]
    assert set(files) == set(source["files"])
    assert {**dict.fromkeys(hidden, "hidden"), "notes.txt": "no rows"} == source["files_not_read"]
    assert re.search(r"  files not read: .*\.ipynb_checkpoints/a.jsonl \(hidden\).*notes.txt \(no rows\)", got.said)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_nan_is_no_solution(prepared, ending):
    """Nor is its text, or an empty cell."""
    rows = [{"prompt": f"{n} + 2?", "solution": n + 2.0 if n % 4 else float("nan")} for n in range(COUNT)]
    content = {"jsonl": lines, "csv": cells, "parquet": lambda rows: parquet(pa.Table.from_pylist(rows))}[ending](rows)
    got = prepared("prompts", {f"a.{ending}": content})
    solved = {asked([row])[0]: row["solution"] for row in got.train + got.held_out}
    assert {f"{n} + 2?": str(n + 2.0) if n % 4 else None for n in range(COUNT)} == solved


def test_a_decimal_is_a_solution(prepared):
    """To its last digit, as Parquet has it."""
    rows = [{"prompt": f"{number} + 2?", "solution": Decimal("4.50")} for number in range(COUNT)]
    got = prepared("prompts", {"a.parquet": parquet(pa.Table.from_pylist(rows))})
    assert {"4.50"} == {row["solution"] for row in got.train + got.held_out}


@pytest.mark.parametrize("name", ["sft", "prompts"])
def test_columns_that_are_not_needed_are_not_read(prepared, name):
    """A date beyond the year 9999 and text that is not UTF-8 harm no row; what prompts cannot hand on is said."""
    day = datetime.date(2026, 1, 1)
    columns = {
        "prompt": pa.array([f"{number} + 2?" for number in range(COUNT)]),
        "completion": pa.array(["4"] * COUNT),
        "day": pa.array([10**14] * COUNT, pa.timestamp("s")),
        "note": pa.array([b"\xff"] * COUNT).view(pa.string()),
        "map": pa.array([[(day, 1)]] * COUNT, pa.map_(pa.date32(), pa.int8())),
    }
    got = prepared(name, {"a.parquet": parquet(pa.table(columns))})
    assert {f"{number} + 2?" for number in range(COUNT)} == set(asked(got.train + got.held_out))
    if name == "sft":
        assert {"day": COUNT, "note": COUNT, "map": COUNT} == got.report["sources"][0]["not_used"]
    else:
        said = {"day": "day cannot be read: a value that Python cannot hold", "note": "note cannot be read: not UTF-8"}
        assert said == {name: why for name, why in got.report["sources"][0]["left_out"].items() if name != "map"}


def test_files_of_tests_are_never_trained_on(prepared):
    """test.jsonl and validation.csv are held out beside train.jsonl, as far as the hash holds them out."""
    tests = {"test.jsonl": lines(some({"prompt": "2 + 2 of tests?", "completion": "4"}))}
    tests |= {"validation.csv": cells(some({"prompt": "2 + 2 to validate?", "completion": "4"}))}
    got = prepared("sft", {"train.jsonl": lines(some({"prompt": "2 + 2?", "completion": "4"}))} | tests)
    assert not [question for question in asked(got.train) if len(question) > len("39 + 2?")]
    assert (
        80 == sum(len(question) > len("39 + 2?") for question in asked(got.held_out)) + got.report["rows"][sieve.TESTS]
    )
    assert ["test.jsonl", "validation.csv"] == got.report["sources"][0]["held_out_files"]
    assert "  never trained on, by its name: test.jsonl, validation.csv\n" in got.said


def test_an_evaluation_set_of_ones_own(prepared):
    """The file that `eval` names is held out whole, other tests are not used, and copies of neither are trained on."""
    row = {"prompt": "2 + 2 of my own?", "completion": "4"}
    files = {"a.jsonl": lines([*some({"prompt": "2 + 2?", "completion": "4"}), numbered(row, 7)])}
    files |= {
        "mine.jsonl": lines(some(row)),
        "test.jsonl": lines([numbered(row, 7) | {"prompt": f"{n} + 2!"} for n in range(9)]),
    }
    got = prepared("sft", files, eval="mine.jsonl")
    assert {f"{number} + 2 of my own?" for number in range(COUNT)} == set(asked(got.held_out))
    assert 9 == got.report["rows"][sieve.TESTS]
    assert {f"{number} + 2?" for number in range(9)}.isdisjoint(asked(got.train))
    assert not [question for question in asked(got.train) if "own" in question]
    rows = got.report["rows"]
    assert 41 == rows["train"] + rows[sieve.BY_HASH] + rows[prepare.NEAR]
    with pytest.raises(
        InputError, match=r"data\.sft\.eval in params.yaml names 'his.csv', and data/raw/sft/ holds a\.j"
    ):
        prepared("sft", {}, eval="his.csv")


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_of_ordered_rows_a_sample_is_taken(prepared):
    """Easy ones first, hard ones last: both are among a few, which are all among more."""
    rows = [{"prompt": f"{'easy' if n < 2500 else 'hard'} {n}?", "completion": "4"} for n in range(5000)]
    few, more = (prepared("sft", {"a.jsonl": lines(rows)}, rows=limit, eval_rows=limit // 5) for limit in (500, 1000))
    assert [500, 1000] == [len(few.train), len(more.train)]
    easy = Counter(question.split()[0] for question in asked(few.train))
    assert 200 < easy["easy"] < 300
    assert set(asked(few.train)) < set(asked(more.train))
    assert asked(few.held_out) == asked(more.held_out)[:100]
    assert 5000 == 500 + 100 + few.report["rows"][prepare.OVER]


def test_a_mixture_has_a_format_a_source(prepared):
    """Each with its own, in proportion to the weights; built-in rows are made as many as that takes."""
    row = {"question": "What is half of 2 + 2?", "answer": "It is <<4/2=2>>2.\n#### 2"}
    parts = [{"source": "raw", "format": "gsm8k", "weight": 1}, {"source": "builtin:arithmetic", "weight": 3}]
    got = prepared("prompts", {"a.jsonl": lines(some(row))}, source=parts, eval_rows=40)
    mine = [row["solution"] for row in got.train if "half" in asked([row])[0]]
    assert {"2"} == set(mine)
    assert (4 * len(mine), 40) == (len(got.train), len(got.held_out))
    recognised = [source["recognised"] for source in got.report["sources"]]
    assert [{"gsm8k": COUNT}, ["prompt"]] == [recognised[0], [*recognised[1]]]


ROWS = {
    "sft": {"prompt": "2 + 2?", "completion": "4", "hint": "Count."},
    "preference": {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "hint": "Count."},
    "prompts": {"prompt": "2 + 2?", "solution": "4", "hint": "Count."},
}


def test_a_question_is_asked_alike_in_all_three(prepared):
    """With a system text and a template, which move no row to the other side."""
    asking = {"system": "Think.", "template": "{question} Box it: \\boxed{{}}. {hint}"}
    plain, templated = (
        [prepared(name, {"a.jsonl": lines(some(ROWS[name]))}, **more) for name in ROWS] for more in ({}, asking)
    )
    for before, after in zip(plain, templated, strict=True):
        assert "hint (" not in after.said  # it is used
        for former, rows in zip(before[:2], after[:2], strict=True):
            expected = [f"{question} Box it: \\boxed{{}}. Count." for question in asked(former)]
            assert sorted(expected) == sorted(asked(rows))
            for row in rows:
                assert {"role": "system", "content": "Think."} == (row.get("prompt") or row["messages"])[0]


def test_a_system_text_of_its_own_is_kept(prepared):
    """And how many rows have one is said; a column that the template names and a row lacks makes that row defective."""
    rows = [row | ({"system": "Sing."} if n < 10 else {}) for n, row in enumerate(some(ROWS["sft"]))]
    rows[20]["hint"] = ""
    got = prepared("sft", {"a.jsonl": lines(rows)}, system="Think.", template="{prompt} {hint}")
    counted = Counter(row["messages"][0]["content"] for row in got.train + got.held_out)
    assert {"Sing.": 10, "Think.": 29} == counted
    assert "  data.sft.system: 10 rows keep a system text of their own\n" in got.said
    assert {"no hint, which the template names": 1} == got.report["sources"][0]["rows"]["dropped"]


def test_samples_show_rows_whole(prepared, project):
    """Three, as they went in and as they came out."""
    rows = some(ROWS["prompts"] | {"long": ["é" * 5000, None]})
    prepared("prompts", {"a.jsonl": lines(rows)})
    text = (project / "data/prompts/sample.txt").read_text(encoding="utf-8")
    shown = re.split(r"^data/raw/prompts/a\.jsonl:(\d+)\n", text, flags=re.MULTILINE)[1:]
    assert ["1", "2", "3"] == shown[::2]
    for row, sample in zip(rows, shown[1::2], strict=False):
        before, after = sample.split("\n->\n")
        assert row == json.loads(before)
        expected = {"prompt": [USER | {"content": row["prompt"]}], "solution": "4"}
        found = json.loads(after)
        assert {"hint": "Count.", "long": row["long"]} == json.loads(found.pop("extra"))
        assert expected == found


# --- what is held out ------------------------------------------------------------------------------------------------

WORDS = "apple basket carry day each from garden house into jar keep little many night of plum quick red see top"
ANSWERS = {"sft": {"completion": "4"}, "preference": {"chosen": "4", "rejected": "5"}, "prompts": {}}


def story(number):
    """A question of so many words that it can be told though not every word is the same."""
    return f"{' '.join(random.Random(number).sample(WORDS.split(), 18))}, {number} plums: how many?"


def test_contamination_is_a_figure(prepared, project, change):
    """Held-out prompts that stand in an answer are counted in metrics/, and above data.max_overlap they stop it."""
    change("data.max_overlap", "1")
    held_out = asked(prepared("prompts", {"a.jsonl": lines({"prompt": story(n)} for n in range(COUNT))}).held_out)
    for name, answer in (("preference", "chosen"), ("sft", "completion")):
        rows = [{"prompt": f"Repeat {n}?"} | ANSWERS[name] for n in range(200)]
        quoting = [row | {answer: f"You ask: {held_out[n % 2].upper()} Well."} for n, row in enumerate(rows)]
        got = prepared(name, {"a.jsonl": lines(quoting)})
        expected = {"held_out_prompts": len(held_out), "exact": 0, "shared": 2}
        figures = json.loads((project / f"metrics/data/{name}.json").read_text(encoding="utf-8"))["data"][name]
        assert {"rows": {"train": len(got.train), "eval": len(got.held_out)}, "overlap": expected} == figures
        assert f"  held-out prompts that stand in its text: 2 of {len(held_out)}\n" in got.said
    change("data.max_overlap", "0.01")
    said = (
        rf"data/sft: 2 of {len(held_out)} held-out prompts stand .* data\.max_overlap in params\.yaml .*: '.+'; '.+'\. "
    )
    with pytest.raises(InputError, match=said):
        prepared("sft", {})


def test_near_duplicates_never_stand_on_both_sides(prepared):
    """Three spellings of each prompt in all three sets: what is held out of one is in none prepared after it."""
    held_out = set()
    for name in ("prompts", "preference", "sft"):
        spellings = [(text, text.upper().replace(" ", ", "), f"Tell me: {text}") for text in map(story, range(COUNT))]
        rows = [{"prompt": text} | ANSWERS[name] for texts in spellings for text in texts]
        got = prepared(name, {"a.jsonl": lines(rows)})
        train, own = ({int(re.search(r"\d+", text)[0]) for text in asked(side)} for side in got[:2])
        held_out |= own
        assert "is not prepared" not in got.said
        assert (set(), set(range(COUNT))) == (held_out & train, held_out | train)
        assert 10 < got.report["rows"][prepare.NEAR] == 3 * COUNT - len(got.train) - len(got.held_out)
        assert f"{got.report['rows'][prepare.NEAR]} near-duplicates of held-out prompts" in got.said


def test_what_is_not_prepared_before_is_said(prepared):
    """As its held-out prompts are not kept out, then."""
    files = {"a.jsonl": lines(some({"prompt": "2 + 2?"} | ANSWERS["sft"]))}
    assert prepared("sft", files).said.startswith(
        "data/preference is not prepared: what it holds out is not kept out of data/sft.\ndata/sft: "
    )


# --- formats of one's own --------------------------------------------------------------------------------------------

FORMATS = """

def mine(row):
    if row["n"] == 3:
        return None
    if row["n"] == 4:
        raise DefectiveError("too hard")
    return {"prompt": row["q"], "completion": row["a"]}


def broken(row):
    return {"prompt": 1 / row["n"]}


def no_map(row):
    return row["q"]


def for_prompts(row):
    return {"prompt": row["q"]}


def in_a_library(row):
    return {"prompt": re.sub("2", "3", row["n"]), "completion": row["a"]}
"""
# What is said of each, on the one line.
MISTAKES = {
    "broken": ["data/raw/sft/a.jsonl:1: the format broken raised ZeroDivisionError: division by zero (formats.py:"],
    "no_map": ["data/raw/sft/a.jsonl:1: the format no_map returned str; a row is a map, or None."],
    "in_a_library": [
        "data/raw/sft/a.jsonl:1: the format in_a_library raised TypeError: expected string",
        "(formats.py:",
    ],
    "for_prompts": ["data/raw/sft/a.jsonl:1: ", "for_prompts", "completion"],
    "mein": ["params.yaml:", "mein", "is no function of llmrl/formats.py, which has sharegpt, ", "Did you mean mine?"],
}


@pytest.fixture
def own_format(project, change, python):
    """Prepares data/sft with a format from the end of llmrl/formats.py."""
    with (project / "llmrl/formats.py").open("a", encoding="utf-8") as file:
        file.write(FORMATS)
    rows = [{"n": number, "q": f"{number} + 2?", "a": "4", "id": 1} for number in range(COUNT)]
    (project / "data/raw/sft/a.jsonl").write_bytes(lines(rows))
    change("data.eval_share", "0.5")

    def run(name):
        change("data.sft", f"\n    source: raw\n    format: {name}")
        return python("-m", "llmrl.data.prepare", "sft")

    return run


def test_a_format_of_ones_own(own_format):
    """A function of llmrl/formats.py; the rows that it leaves out are counted by its reason."""
    done = own_format("mine")
    assert (0, "") == (done.returncode, done.stderr)
    assert "  recognised as: mine 38\n" in done.stdout
    dropped = (
        "1 left out by the format mine (first: data/raw/sft/a.jsonl:4), 1 too hard (first: data/raw/sft/a.jsonl:5)"
    )
    assert f"  dropped: {dropped}\n" in done.stdout
    assert "  columns and fields not used: id (38 rows)\n" in done.stdout


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_format_is_said_in_one_line(own_format, project, name):
    """By its name, the row and the line of the function."""
    done = own_format(name)
    print(done.stderr)
    assert (2, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    for part in MISTAKES[name]:
        assert part in done.stderr
    assert not (project / "data/sft").exists()


@pytest.mark.slow
def test_a_comment_in_a_format_prepares_anew_and_nothing_else(tmp_path):
    """The rows stay the same, and nothing follows from them."""
    clone = micro_clone(tmp_path / "clone")
    assert {"prepare": 3, "base": 1, "sft": 1} == Counter(clone.stages("dvc", "repro", "sft"))
    with (clone.folder / "llmrl/formats.py").open("a", encoding="utf-8") as file:
        file.write("# A comment.\n")
    assert ["prepare"] * 3 == clone.stages("dvc", "repro", "sft")
    assert [] == clone.stages("dvc", "repro", "sft")
