"""Rows of every format in one shape, their further columns, and the split."""

import datetime
import decimal
import json
import random
import uuid

import pytest

from llmrl.data import asking, extra, rows, settings, shaper, spool
from llmrl.errors import DefectiveError, InputError
from llmrl.toy import arithmetic

USER = {"role": "user", "content": "2 + 2?"}
SYSTEM = {"role": "system", "content": "Be brief."}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
SFT = {"messages": [USER, FOUR]}
PAIR = {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]}
TASK = {"prompt": [USER], "solution": "4"}


def shape(name, row):
    """The row, whose columns have our names."""
    shaped, _ = shaper.Shaper(name, {}, None).shape(row)
    return {column: value for column, value in shaped.items() if column != "tools" or value}


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("sft", {"messages": [USER, FOUR]}, SFT),
        ("sft", {"messages": [SYSTEM, USER, FOUR]}, {"messages": [SYSTEM, USER, FOUR]}),
        ("sft", {"messages": json.dumps([USER, FOUR], indent=1)}, SFT),
        ("sft", {"messages": [USER | {"likes": 3}, FOUR | {"tool_calls": None, "thinking": ""}]}, SFT),
        (
            "sft",
            {
                "messages": [
                    USER | {"name": "me"},
                    FOUR | {"thinking": "2, 2", "weight": 0},
                    USER,
                    FIVE | {"loss": True},
                ]
            },
            {"messages": [USER, FOUR | {"reasoning_content": "2, 2", "train": False}, USER, FIVE]},
        ),
        ("sft", {"messages": [USER, FOUR, USER]}, {"messages": [USER, FOUR, USER]}),
        ("sft", {"prompt": "2 + 2?", "completion": "4"}, SFT),
        ("sft", {"prompt": [USER], "completion": [FOUR]}, SFT),
        ("sft", {"messages": None, "prompt": "2 + 2?", "completion": "4"}, SFT),
        ("sft", {"messages": [USER, FOUR], "prompt": "another", "id": 7}, SFT),
        ("preference", {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, PAIR),
        ("preference", {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]}, PAIR),
        ("preference", {"prompt": json.dumps([USER]), "chosen": json.dumps([FOUR]), "rejected": "5"}, PAIR),
        ("preference", {"chosen": [USER, FOUR], "rejected": [USER, FIVE]}, PAIR),
        ("preference", {"prompt": None, "chosen": [USER, FOUR], "rejected": [USER, FIVE]}, PAIR),
        ("preference", {"prompt": "2 + 2?", "chosen": [USER, FOUR], "rejected": [USER, FIVE]}, PAIR),
        ("preference", {"chosen": json.dumps([USER, FOUR]), "rejected": json.dumps([USER, FIVE])}, PAIR),
        ("preference", {"chosen": "2 + 2? 4", "rejected": "2 + 2? 5"}, PAIR),
        ("prompts", {"prompt": "2 + 2?", "solution": "4"}, TASK),
        ("prompts", {"prompt": [USER], "solution": 4}, TASK),
        ("prompts", {"prompt": [USER], "solution": ["4"]}, TASK),
        ("prompts", {"prompt": [USER]}, {"prompt": [USER], "solution": None}),
        ("prompts", {"prompt": "2 + 2?", "solution": " "}, {"prompt": [USER], "solution": None}),
    ],
)
def test_every_format_becomes_one_shape(name, row, expected):
    """TRL's formats, plain or conversational, as lists or as JSON, become the data set's one shape."""
    assert expected == shape(name, row)


def test_a_plain_pair_is_parted_between_words():
    """Answers that begin with the same letters are not cut within a word."""
    row = shape("preference", {"chosen": "Q: 6 * 7?\n42 it is", "rejected": "Q: 6 * 7?\n43 it is"})
    assert ("Q: 6 * 7?", "42 it is", "43 it is") == tuple(row[part][0]["content"] for part in row)


@pytest.mark.parametrize(
    ("shorter", "expected"), [("Q: x? A: yes", "yes"), ("Q: x? A: yes ", "yes "), ("Q: x?\nA: yes", "yes")]
)
def test_a_plain_answer_that_begins_as_the_other(shorter, expected):
    """Where one side is the beginning of the other, whichever it is, its last word is left to answer with."""
    longer = f"{shorter} and more"
    prompt = shorter.removesuffix(expected).rstrip()
    for chosen, rejected in ((shorter, longer), (longer, shorter)):
        row = shape("preference", {"chosen": chosen, "rejected": rejected})
        answers = [longer[len(prompt) + 1 :] if side == longer else expected for side in (chosen, rejected)]
        assert [prompt, *answers] == [row[part][0]["content"] for part in ("prompt", "chosen", "rejected")]


def test_a_shared_first_turn_is_the_prompt():
    """Of two whole conversations, all the turns they begin with are the prompt."""
    beginning = [SYSTEM, USER, FIVE, USER]
    row = shape("preference", {"chosen": [*beginning, FOUR], "rejected": [*beginning, FIVE]})
    assert {"prompt": beginning, "chosen": [FOUR], "rejected": [FIVE]} == row


def test_a_text_that_looks_like_a_list_stays_a_text():
    """Only what begins like a list of turns is read as one."""
    text = "[{'a': 1}] is what in Python?"
    assert text == shape("prompts", {"prompt": text})["prompt"][0]["content"]


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("sft", {"messages": []}, "empty"),
        ("sft", {"messages": None}, "empty"),
        ("sft", {"prompt": None, "completion": "4"}, "empty"),
        ("sft", {"messages": [USER, {"role": "assistant", "content": " "}]}, "empty"),
        ("sft", {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]}, "empty"),
        (
            "sft",
            {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [1]}]},
            "without a function's",
        ),
        ("sft", {"messages": [USER]}, "no turn of the assistant to train on"),
        ("sft", {"messages": [USER, FOUR | {"train": False}]}, "no turn of the assistant to train on"),
        ("sft", {"messages": [FOUR]}, "nothing is asked"),
        ("sft", {"messages": [SYSTEM, FOUR]}, "nothing is asked"),
        ("sft", {"messages": [USER, {"role": "narrator", "content": "4"}]}, "a role that is none of"),
        ("sft", {"messages": [{"speaker": "human", "text": "2 + 2?"}]}, "turns without role and content"),
        ("sft", {"messages": ["2 + 2?", "4"]}, "turns without role and content"),
        ("sft", {"messages": str([USER, FOUR])}, "a list of turns that is not JSON"),
        ("sft", {"messages": '[{"role": ' + "[" * 100_000}, "a list of turns that is not JSON"),
        ("sft", {"messages": [USER, {"role": "assistant", "content": ["4"]}]}, "a content that is no text"),
        ("sft", {"messages": [USER, FOUR | {"weight": 0.5}]}, "a weight other than 0 and 1"),
        ("sft", {"prompt": 2, "completion": 4}, "a content that is no text"),
        ("sft", {"prompt": "\ud800", "completion": "4"}, "half a Unicode character"),
        ("preference", {"prompt": "2 + 2?", "chosen": "4", "rejected": "4"}, "chosen equal to rejected"),
        ("preference", {"chosen": [USER, FOUR], "rejected": [USER, FOUR]}, "chosen equal to rejected"),
        ("preference", {"chosen": "yes", "rejected": "no"}, "begin with no common prompt"),
        ("preference", {"chosen": "yes", "rejected": "yes and more"}, "begin with no common prompt"),
        ("preference", {"chosen": "4", "rejected": [USER, FIVE]}, "begin with no common prompt"),
        ("preference", {"chosen": [USER, FOUR], "rejected": [SYSTEM, USER, FIVE]}, "begin with no common prompt"),
        ("preference", {"prompt": [USER, FOUR], "chosen": [FOUR], "rejected": [FIVE]}, "nothing is asked"),
        ("preference", {"prompt": [USER], "chosen": [FOUR, USER], "rejected": [FIVE]}, "does not end with"),
        ("prompts", {"prompt": [USER, FOUR]}, "nothing is asked"),
        ("prompts", {"prompt": "2 + 2?", "solution": ["4", "5"]}, "no single short answer"),
        ("prompts", {"prompt": "2 + 2?", "solution": {"a": 4}}, "no single short answer"),
        ("prompts", {"prompt": "2 + 2?", "solution": "so\n4"}, "no single short answer"),
    ],
)
def test_a_defective_row_says_why(name, row, reason):
    """A row that cannot be trained on is refused with the reason it is counted under."""
    with pytest.raises(DefectiveError, match=reason):
        shape(name, row)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("sft", {"text": "2 + 2 = 4"}),
        ("sft", {"prompt": "2 + 2?"}),
        ("preference", {"prompt": "2 + 2?", "chosen": "4"}),
        ("prompts", {"question": "2 + 2?"}),
        ("prompts", {}),
    ],
)
def test_missing_columns_are_no_defect_of_a_row(name, row):
    """Where columns are missing, the message names those there are and those that are needed."""
    columns = ", ".join(row) or r"\(none\)"
    with pytest.raises(InputError, match=rf"has the columns {columns}; data/{name} needs .* data\.{name}\.columns in "):
        shape(name, row)


def test_every_column_that_is_read_can_be_mapped():
    """The names that `columns` in params.yaml may map are those that the formats are made of."""
    for name, formats in rows.NEEDED.items():
        columns = {column for columns in formats for column in columns} | set(spool.SCHEMAS[name].names) | {"system"}
        columns |= {"tools"} if name != "prompts" else set()
        assert columns - {"extra"} == set(settings.COLUMNS[name])  # which is what the others are


def test_no_row_breaks_the_shaping():
    """Whatever a row holds, it is shaped, counted as defective, or refused for its columns."""
    generator = random.Random(1)
    parts = [None, "", " ", "a b", "a c", 3, float("nan"), True, [], [None], [USER], [FOUR], [USER, FOUR], [SYSTEM], {}]
    parts += ["[{'role': 1}]", '[{"role": "user"}]', '[{"role": 4, "content": []}]', [{"role": []}], [{"content": "a"}]]
    parts += [
        [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "loss": 0}],
        [USER, FOUR | {"weight": []}],
    ]
    parts += [[USER, FOUR | {"tool_calls": calls}] for calls in (1, "[1]", [{"name": "f", "arguments": "[]"}], {})]
    parts += [[{"role": "user", "content": [{"type": kind, "text": 1}]}] for kind in ("text", "image", [])]
    parts += [[FOUR | {field: value}] for field in ("reasoning", "name", "images") for value in (1, "a", ["a"])]
    columns = ["messages", "prompt", "completion", "chosen", "rejected", "solution", "system", "tools", "conversations"]
    columns += ["instruction", "input", "output", "context", "response", "question"]
    outcomes = set()
    for _ in range(20_000):
        name = generator.choice(list(rows.SHAPES))
        some = generator.sample(columns, generator.randint(0, 8))
        try:
            shaped = shape(name, {column: generator.choice(parts) for column in some})
            outcomes.add([*shaped] == [column for column in spool.SCHEMAS[name].names if column != "extra"])
            json.dumps(shaped).encode()
        except (DefectiveError, InputError) as error:
            outcomes.add(type(error))
    assert {True, DefectiveError, InputError} == outcomes


def handed_on(row, columns=None):
    """The further columns of a row with a prompt, as a reward is given them, and what is left out."""
    _, source = shaper.Shaper("prompts", columns or {}, None).shape({"prompt": "2 + 2?"} | row)
    found, left_out = extra.extra_of(source)
    text = extra.as_map(found)
    return text and json.loads(text), left_out


def test_further_columns_are_handed_on_as_they_are():
    """Lists and maps in one another, in order, numbers to their last digit, letters of any kind."""
    tests = [{"in": [1, [2.5, None]], "out": "4"}, {"z": 1, "a": {}, "Ä": ""}, [True, 10**30, 0.1, -1e300]]
    row = {"task": "Σ 𝒳 \n\\u0041", "tests": tests, "two words": 0, "": [], "self": False, "extra": "a"}
    found, left_out = handed_on(row | {"none": None, "solution": "4"})
    assert (list(row.items()), {}) == (list(found.items()), left_out)
    assert list(tests[1]) == list(found["tests"][1])


@pytest.mark.parametrize("row", [{}, {"solution": "4"}, {"solution": None}, {"note": None}])
def test_without_further_columns_there_is_none(row):
    """Also where it is there without a value."""
    assert (None, {}) == handed_on(row)


def test_what_prompt_and_solution_are_made_of_is_no_further_column():
    """By the names of the source; what else it has by ours cannot be handed on."""
    row = {"question": "a", "answer": 4, "solution": "so, 4", "id": 7}
    found, left_out = handed_on(row, {"prompt": "question", "solution": "answer"})
    assert ({"id": 7}, {"prompt", "solution"}) == (found, left_out.keys())


@pytest.mark.parametrize("column", sorted(extra.TAKEN - {"prompt", "solution"}))
def test_what_trl_or_we_give_a_reward_stays_that(column):
    """A column of that name is left out, and why is said."""
    assert ({"id": 7}, {column: "a reward is given something else by this name"}) == handed_on({column: 1, "id": 7})


@pytest.mark.parametrize("value", [b"\x89PNG", [b""], {"bytes": b"", "path": "a.png"}, {datetime.date.min: 1}])
def test_what_no_json_says_is_left_out(value):
    """Bytes, of an image say, however deep."""
    found, left_out = handed_on({"picture": value, "id": 7})
    assert {"id": 7} == found
    assert "bytes are no JSON" == left_out["picture"] or "keys must be str" in left_out["picture"]


def test_dates_and_decimals_are_handed_on_as_text():
    """Which JSON has not, and Parquet has."""
    utc, noon, day = datetime.UTC, datetime.time(12, 30), datetime.date(2024, 2, 29)
    parquet = [day, noon, datetime.datetime.combine(day, noon, utc), decimal.Decimal("1.50"), uuid.UUID(int=1)]
    said = ["2024-02-29", "12:30:00", "2024-02-29 12:30:00+00:00", "1.50", "00000000-0000-0000-0000-000000000001"]
    assert ({"parquet": said}, {}) == handed_on({"parquet": parquet})


@pytest.mark.parametrize("row", [{"task": "\ud800"}, {"tests": [{"\udfff": 1}]}, {"ta\ud800sk": 1}])
def test_half_a_character_in_a_further_column(row):
    """Makes the row defective, as in a prompt: no file could hold it."""
    with pytest.raises(DefectiveError, match="half a Unicode character"):
        handed_on(row)


def test_a_column_that_is_nested_too_deeply():
    """Makes the row defective, too."""
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(DefectiveError, match="nested too deeply"):
        handed_on({"tests": value})


def test_the_split_depends_on_the_prompt_alone():
    """The three sets put the same prompt on the same side, whatever follows it and however it is spaced."""
    sides = {True: 0, False: 0}
    for number in range(200):
        user = {"role": "user", "content": f"{number} + 1?"}
        spaced = {"role": "user", "content": f" {number} +  1?\n"}
        three = [{"messages": [user, FOUR, USER, FIVE]}, {"prompt": [user], "solution": "4"}, {"prompt": [spaced]}]
        held_out = {asking.held_out(asking.opening(row), "salt", 0.5) for row in three}
        assert 1 == len(held_out)
        sides[held_out.pop()] += 1
    assert 70 < sides[True] < 130


def test_a_system_turn_makes_another_prompt():
    """What identifies a prompt is its system turn and its first question."""
    plain, with_system = {"prompt": [USER]}, {"prompt": [SYSTEM, USER]}
    assert asking.opening(plain) != asking.opening(with_system)
    assert asking.opening(with_system) == asking.opening({"messages": [SYSTEM, USER, FOUR, USER, FIVE]})


def test_salt_and_share_move_the_split():
    """Another salt holds other prompts out, and a larger share holds out the former ones and more."""
    prompts = [{"prompt": [{"role": "user", "content": str(number)}]} for number in range(500)]
    tenth, fifth = (
        {i for i, row in enumerate(prompts) if asking.held_out(asking.opening(row), "a", share)} for share in (0.1, 0.2)
    )
    other = {i for i, row in enumerate(prompts) if asking.held_out(asking.opening(row), "b", 0.1)}
    assert tenth < fifth
    assert tenth != other


def test_the_built_in_rows_have_the_one_shape():
    """The built-in task's rows need no change."""
    streams = {"sft": arithmetic.conversations, "preference": arithmetic.preferences, "prompts": arithmetic.prompts}
    for name, stream in streams.items():
        row = next(stream(1))
        assert row == shape(name, row)
