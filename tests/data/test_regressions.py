"""Faults that a review of the data found, each by what the user had and what must become of it."""

import json
from itertools import pairwise
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_whole
from test_whole import (
    ADD,
    ANSWERS,
    CALL,
    CALLED,
    CHAT,
    COUNT,
    EIGHT,
    FIVE,
    FOUR,
    HH,
    NEXT,
    PAIR,
    RESULT,
    ROWS,
    SYSTEM,
    TASK,
    THOUGHT,
    TOOL,
    USER,
    asked,
    cells,
    lines,
    numbered,
    parquet,
    some,
    story,
)

from llmrl import formats, params
from llmrl.data import asking, prepare, sieve
from llmrl.data.mixing import quotas
from llmrl.data.shaper import Shaper
from llmrl.errors import DefectiveError, InputError

QA = {"prompt": "2 + 2?", "completion": "4"}
ALPACA = {"instruction": "Add.", "input": "2 + 2", "output": "4"}
PREAMBLE = (  # longer than a question
    "Solve the following problem step by step, and check each step before you go on with the next one. The last line "
    "of what you say must be of the form Answer: and then the result alone, without any unit or further word.\n\n"
)
IN_ORDER = ("prompts", "preference", "sft")  # as they are prepared

prepared = test_whole.prepared  # the fixture


def shaped(name: str, row: dict[str, Any], columns: dict[str, str] | None = None, named: str | None = None):
    """A row of ours, and the names of what was not used of it."""
    shaper = Shaper(name, columns or {}, named)
    made, _ = shaper.shape(row)
    return {column: value for column, value in made.items() if column != "tools" or value}, [*shaper.unused]


@pytest.fixture
def own_format(monkeypatch):
    """Makes a function a format, by the name of mine."""
    return lambda function: monkeypatch.setattr(formats, "mine", function, raising=False)


# --- what is held out ------------------------------------------------------------------------------------------------


def test_copies_of_test_rows_are_not_trained_on(prepared, change):
    """Though they are read first."""
    change("data.max_defective", "1")  # those that the hash holds out are duplicates
    tests = some({"prompt": "2 + 2 of tests?", "completion": "4"})
    got = prepared("sft", {"train.jsonl": lines([*tests, *some(QA)]), "test.jsonl": lines(tests)})
    assert set() == {row["prompt"] for row in tests} & {*asked(got.train)}


def test_copies_of_another_sources_test_rows_are_not_trained_on(prepared, change):
    """One source of a mixture asks in `first` what another, in `second`, has as a test."""
    change("data.max_defective", "1")
    both = some({"first": "2 + 2?", "second": "Half of 2 + 2?", "completion": "4"})
    tests = some({"first": "Twice 2 + 2?", "second": "2 + 2?", "completion": "4"}, COUNT // 2)
    parts = [{"source": "raw", "columns": {"prompt": column}} for column in ("first", "second")]
    got = prepared("sft", {"train.jsonl": lines(both), "test.jsonl": lines(tests)}, source=parts)
    assert {True, False} == {question.startswith("Half") for question in asked(got.train)}
    assert set() == {row["second"] for row in tests} & {*asked(got.train)}


def test_a_system_text_hides_no_held_out_question(prepared):
    """Also where the question is short."""
    held_out = set()
    for name in IN_ORDER:
        system = {} if name == "prompts" else {"system": "Be brief."}
        got = prepared(name, {"a.jsonl": lines(some({"prompt": "2 + 2?"} | ANSWERS[name] | system))})
        held_out |= {*asked(got.held_out)}
        assert set() == held_out & {*asked(got.train)}


def test_one_opening_under_many_systems_keeps_its_rows(prepared, change):
    """They are other conversations; a template hides none of the held-out prompts from the figure of overlap."""
    change("data.max_overlap", "1")
    held_out = 0
    for name, system in (("prompts", "Be number"), ("preference", "Play part")):
        rows = [{"prompt": "Hi", "system": f"{system} {number}."} | ANSWERS[name] for number in range(COUNT)]
        got = prepared(name, {"a.jsonl": lines(rows)}, template="{question} Go on.")
        assert COUNT == len(got.train) + len(got.held_out)
        held_out = held_out or len(got.held_out)
    expected = {"held_out_prompts": held_out, "exact": held_out, "shared": held_out}
    assert expected == got.report["overlap"]


def test_the_overlap_is_of_the_prompts_that_are_measured(prepared):
    """And not of those over `eval_rows`."""
    prepared("prompts", {"a.jsonl": lines(some(ROWS["prompts"]))}, eval_rows=5)
    got = prepared("preference", {"a.jsonl": lines(some(ROWS["preference"]))})
    assert 5 == got.report["overlap"]["held_out_prompts"]


@pytest.mark.parametrize("name", IN_ORDER)
def test_how_it_is_asked_changes_neither_sample_nor_sides(prepared, name):
    """Another template or system text has the same rows in the same order."""
    files = {"a.jsonl": lines(some(ROWS[name], 100))}
    plain, template, system = (
        prepared(name, files, rows=20, eval_rows=20, **asking)
        for asking in ({}, {"template": "{question} Think."}, {"system": "Think."})
    )
    for side in (0, 1):
        assert 20 == len(plain[side])
        assert asked(plain[side]) == asked(system[side])
        assert [f"{question} Think." for question in asked(plain[side])] == asked(template[side])


def test_what_is_in_no_file_needs_no_columns(prepared):
    """The reasoning of tests that are held out alone is in neither file, and its column in none."""
    data = params.experiment().data
    thoughts = some(THOUGHT | {"messages": [USER | {"content": "2 + 2 of tests?"}, *THOUGHT["messages"][1:]]})
    tests = [row for row in thoughts if not asking.held_out(asking.opening(row), data.salt, data.eval_share)]
    got = prepared("sft", {"train.jsonl": lines(some(CHAT)), "test.jsonl": lines(tests)})
    assert len(tests) == got.report["rows"][sieve.TESTS]
    for side in prepare.SIDES:
        assert ["role", "content"] == pq.read_schema(f"data/sft/{side}.parquet").field("messages").type.value_type.names


def test_questions_below_a_common_preamble_are_found_bare(prepared):
    """As DAPO's: its words, in more than ten held-out prompts, count on neither side."""
    rows = {
        "prompts": [{"prompt": PREAMBLE + story(number)} for number in range(COUNT)],
        "preference": some(ROWS["preference"]),
        "sft": [{"prompt": story(number), "completion": "4"} for number in range(COUNT)],
    }
    got = {name: prepared(name, {"a.jsonl": lines(rows[name])}) for name in IN_ORDER}
    held_out = {question.removeprefix(PREAMBLE) for question in asked(got["prompts"].held_out)}
    assert len(held_out) > 10
    assert set() == held_out & {*asked(got["sft"].train)}


def test_questions_below_a_common_preamble_stand_on_one_side(prepared):
    """Though one is asked with a word more."""
    stories = [story(number) for number in range(COUNT)]
    rows = [{"prompt": PREAMBLE + please + one} for one in stories for please in ("", "please, ")]
    got = prepared("prompts", {"a.jsonl": lines(rows)})
    train, held_out = ({one for one in stories for question in asked(side) if one in question} for side in got[:2])
    assert (set(), {*stories}) == (train & held_out, train | held_out)


def test_rows_of_other_tests_are_not_trained_on(prepared):
    """Where data.sft.eval names a file, and another is one by its name."""
    tests = some({"prompt": "2 + 2 of tests?", "completion": "4"})
    files = {"train.jsonl": [*some(QA), *tests], "other_test.jsonl": tests}
    files |= {"mine.jsonl": some({"prompt": "2 + 2 of my own?", "completion": "4"})}
    got = prepared("sft", {name: lines(rows) for name, rows in files.items()}, eval="mine.jsonl")
    assert len(got.train) > 10
    assert {*asked(got.train)} <= {row["prompt"] for row in some(QA)}


def test_a_column_that_is_not_the_question_is_not_asked(prepared):
    """Though the template names it `question`."""
    rows = [*some({"prompt": "2 + 2?"}), {"prompt": "Twice 2?", "question": "Who asks?"}]
    got = prepared("prompts", {"a.jsonl": lines(rows)}, template="{question} Think.")
    reason = "a column question that is not what is asked, where the template names it"
    assert {reason: 1} == got.report["sources"][0]["rows"]["dropped"]


def test_pairs_whose_turns_stand_elsewhere_are_no_duplicates(prepared):
    """The same turns are prompt in one and answer in the other."""
    long = {"prompt": [USER, FOUR, NEXT], "chosen": [EIGHT], "rejected": [FIVE]}
    short = {"prompt": [USER], "chosen": [FOUR, NEXT, EIGHT], "rejected": [FIVE]}
    got = prepared("preference", {"a.jsonl": lines([*some(long), *some(short)])})
    assert (2 * COUNT, {}) == (len(got.train) + len(got.held_out), got.report["sources"][0]["rows"]["dropped"])


@pytest.mark.parametrize("weights", [[1, 1 / 3], [0.7, 0.2, 0.1], [3, 3, 2, 1.5, 0.4]])
@pytest.mark.parametrize("available", [1000, 50])
def test_a_larger_sample_takes_from_no_source(weights, available):
    """Each has as many rows or more where there is one more in all."""
    found = [quotas([available] * len(weights), weights, most) for most in range(1, 201)]
    assert [] == [(few, more) for few, more in pairwise(found) if any(a > b for a, b in zip(few, more, strict=True))]


# --- files -----------------------------------------------------------------------------------------------------------


def test_shards_are_trained_on_unless_a_test_split_is_their_name(prepared, project):
    """What `datasets.save_to_disk` names data, and splits by any other name."""
    kinds = ["saved", "data", "extra", "test"]
    rows = {kind: some({"prompt": f"2 + 2 {kind}", "completion": "4"}) for kind in kinds}
    datasets.Dataset.from_list(rows.pop("saved")).save_to_disk(project / "data/raw/sft/saved")
    got = prepared("sft", {f"{kind}-00000-of-00001.jsonl": lines(some_) for kind, some_ in rows.items()})
    assert {*kinds[:3]} == {question.split()[-1] for question in asked(got.train)}
    assert ["test-00000-of-00001.jsonl"] == got.report["sources"][0]["held_out_files"]


def test_links_are_followed_and_a_dangling_one_is_named(prepared, project):
    """A folder may lie elsewhere."""
    own, elsewhere = project / "data/raw/sft", project / "elsewhere"
    own.mkdir(parents=True, exist_ok=True)
    elsewhere.mkdir()
    (elsewhere / "a.jsonl").write_bytes(lines(some(QA)))
    (own / "linked").symlink_to(elsewhere)
    (own / "gone.jsonl").symlink_to(elsewhere / "gone.jsonl")
    got = prepared("sft", {})
    source = got.report["sources"][0]
    assert (["linked/a.jsonl"], COUNT) == ([*source["files"]], source["rows"]["kept"])
    assert {"gone.jsonl": "a link that leads nowhere"} == source["files_not_read"]
    assert "  files not read: gone.jsonl (a link that leads nowhere)\n" in got.said


def test_links_in_a_circle_end(prepared, project):
    """And a folder to which two links lead is read once."""
    own, elsewhere = project / "data/raw/sft", project / "elsewhere"
    (own / "folder").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "a.jsonl").write_bytes(lines(some(QA)))
    for link, target in {"one": elsewhere, "two": elsewhere, "folder/back": own}.items():
        (own / link).symlink_to(target)
    source = prepared("sft", {}).report["sources"][0]
    assert (["one/a.jsonl"], COUNT) == ([*source["files"]], source["rows"]["read"])


def test_tests_are_told_by_other_names(prepared):
    """Of one word, of two, and in capitals."""
    tests = ["TestSplit", "devset", "evals", "held_out", "testset"]
    rows = {name: some({"prompt": f"2 + 2 {name}?", "completion": "4"}) for name in ("train", *tests)}
    got = prepared("sft", {f"{name}.jsonl": lines(some_) for name, some_ in rows.items()})
    assert {"train?"} == {question.split()[-1] for question in asked(got.train)}
    assert [f"{name}.jsonl" for name in tests] == got.report["sources"][0]["held_out_files"]


def test_what_parquet_adds_to_calls_is_not_taught(prepared):
    """The arguments of all calls and the parameters of all tools, null where another row's has them."""
    rows = []
    for name in ("add", "weather"):
        arguments = {"add": {"a": 2, "b": 2}, "weather": {"place": {"city": "Oslo"}}}[name]
        call = CALL | {"tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}
        parameters = {"type": "object", "properties": {key: {"type": "string"} for key in arguments}}
        tool = {"type": "function", "function": {"name": name, "parameters": parameters}}
        question = USER | {"content": f"2 + 2 of {name}?"}
        rows += some({"messages": [question, call, RESULT, FOUR], "tools": [tool]})
    got = prepared("sft", {"a.parquet": parquet(pa.Table.from_pylist(rows))})
    assert test_whole.by_question(rows) == test_whole.by_question(got.train + got.held_out)


def test_a_solution_of_32_bits_is_as_it_was_written(prepared):
    """And not 0.10000000149011612."""
    table = pa.table({"prompt": [f"{n} + 2?" for n in range(COUNT)], "solution": pa.array([0.1] * COUNT, pa.float32())})
    got = prepared("prompts", {"a.parquet": parquet(table)})
    assert ["0.1"] * COUNT == [row["solution"] for row in got.train + got.held_out]


def test_source_json_is_the_same_bytes_in_every_process(project, change, python, monkeypatch):
    """Whatever the order of its sets."""
    change("data.eval_share", "0.5")
    change("data.max_defective", "1")
    change("data.sft", "\n    source: raw")
    rows = some(
        {"messages": [USER | dict.fromkeys("abcdef", 1), FOUR | dict.fromkeys("ghij", 1)]} | dict.fromkeys("xyz", 1)
    )
    rows += [{"messages": odd} for odd in ([], [USER], [FOUR], "2 + 2?", [{"role": "me", "content": "2 + 2?"}])]
    (project / "data/raw/sft").mkdir(parents=True, exist_ok=True)
    (project / "data/raw/sft/a.jsonl").write_bytes(lines(rows))
    found = set()
    for seed in "123":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        assert 0 == python("-m", "llmrl.data.prepare", "sft").returncode
        found.add((project / "data/sft/source.json").read_bytes())
    assert 1 == len(found)


def test_solutions_of_few_rows_are_said(prepared):
    """As the others can be judged by no answer."""
    rows = [{"prompt": "40 + 2?", "solution": "42"}, *some({"prompt": "2 + 2?"}, COUNT - 1)]
    assert f"  solutions: 1 of {COUNT} rows have one\n" in prepared("prompts", {"a.jsonl": lines(rows)}).said + "\n"


def test_a_weight_of_one_in_a_csv_file_says_nothing(prepared):
    """There it is a text."""
    got = prepared("sft", {"a.csv": cells(some(QA | {"weight": "1"}))})
    assert {} == got.report["sources"][0]["rows"]["dropped"]


def test_turns_of_parquet_have_the_names_of_all(prepared):
    """Those that a turn does not use are null."""
    rows = some({"messages": [USER, {"from": "gpt", "value": "4"}]})
    got = prepared("sft", {"a.parquet": parquet(pa.Table.from_pylist(rows))})
    assert test_whole.by_question(some(CHAT)) == test_whole.by_question(got.train + got.held_out)


def test_source_json_has_the_settings_of_the_source(prepared):
    """Those that are set."""
    settings = {"columns": {"prompt": "q"}, "system": "Think.", "template": "{question} In short.", "eval": "b.jsonl"}
    files = {f"{name}.jsonl": lines(some({"q": f"2 + 2 of {name}?", "completion": "4"})) for name in "ab"}
    source = prepared("sft", files, **settings).report["sources"][0]
    assert settings | {"source": "raw"} == {key: source[key] for key in ("source", *settings)}


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "before"), [([SYSTEM, USER], [USER]), ([USER, FOUR, NEXT], [NEXT]), ([USER], [SYSTEM, USER])]
)
def test_a_pair_keeps_all_turns_of_its_prompt(prompt, before):
    """Where the answers have but some of them inside, or more."""
    row = {"prompt": prompt} | {side: [*before, *PAIR[side]] for side in ("chosen", "rejected")}
    assert PAIR | {"prompt": max(prompt, before, key=len)} == shaped("preference", row)[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(4, "Add.\n\n4"), (4.5, "Add.\n\n4.5"), (float("nan"), "Add."), ([], "Add."), (None, "Add."), (" ", "Add.")],
)
def test_an_input_of_alpaca_is_a_number_or_nothing(given, expected):
    """As of pandas and Parquet."""
    made, _ = shaped("sft", ALPACA | {"input": given})
    assert {"messages": [USER | {"content": expected}, FOUR]} == made


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"input": ["2", "2"]}, "an input that is no text"),
        ({"instruction": None}, "empty"),
        ({"output": None}, "empty"),
    ],
)
def test_a_defective_row_of_alpaca_is_one(prepared, odd, reason):
    """It is counted, and stops nothing."""
    got = prepared("sft", {"a.jsonl": lines([*some(ALPACA), ALPACA | odd])})
    assert {reason: 1} == got.report["sources"][0]["rows"]["dropped"]


def test_transcripts_within_a_column():
    """HH-RLHF by dotted names."""
    columns = {side: f"data.{side}" for side in HH}
    assert (PAIR, []) == shaped("preference", {"data": HH}, columns)


@pytest.mark.parametrize("side", HH)
def test_a_transcript_on_one_side_is_a_defect(side):
    """Not a text beside another."""
    with pytest.raises(DefectiveError, match="a transcript that begins with neither Human: nor Assistant:"):
        shaped("preference", HH | {side: "4"})


def test_a_transcript_before_plain_answers():
    """As of full-hh-rlhf, whose prompt ends with Assistant:."""
    row = {"prompt": "\n\nHuman: 2 + 2?\n\nAssistant:", "chosen": "4", "rejected": "5"}
    assert PAIR == shaped("preference", row)[0]


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ({"prompt": ""}, "empty"),
        ({"instruction": "2 + 2?"}, "instruction, which would be lost"),
    ],
)
def test_plain_answers_have_their_prompt(before, reason):
    """And are not cut where they begin to differ, if it is empty or stands elsewhere."""
    row = before | {"chosen": "It is 4", "rejected": "It is 5"}
    with pytest.raises(DefectiveError, match=f"^{reason}$"):
        shaped("preference", row)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"system": "Be brief."}, "system, which would be lost"),
        ({"images": ["a.png"]}, "images, which cannot be trained"),
    ],
)
def test_what_stands_beside_a_dotted_column_is_not_lost(more, reason):
    """Within the same column."""
    columns = {"prompt": "data.q", "completion": "data.a"}
    data = {"q": "2 + 2?", "a": "4"}
    assert (CHAT, ["data.id"]) == shaped("sft", {"data": data | {"id": 7}}, columns)
    with pytest.raises(DefectiveError, match=reason):
        shaped("sft", {"data": data | more}, columns)


ARGUMENTS = ADD["function"]["arguments"]


@pytest.mark.parametrize(
    "call",
    [
        {"name": "add", "args": ARGUMENTS},
        {"name": "add", "input": ARGUMENTS},
        {"type": "function", "function": {"name": "add"}, "arguments": ARGUMENTS},
        {"name": "add", "arguments": None, "parameters": ARGUMENTS},
    ],
)
def test_arguments_of_calls_by_other_names(call):
    """An unknown one refuses the row, where it has a value."""
    call |= {"note": None}
    row = CALLED | {"messages": [USER, CALL | {"tool_calls": [call]}, RESULT, FOUR]}
    expected = CALLED | {"tools": json.dumps([TOOL])}
    assert (expected, []) == shaped("sft", row)
    call["note"] = ARGUMENTS
    with pytest.raises(DefectiveError, match="a tool call with note, which would be lost"):
        shaped("sft", row)


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (
            FOUR | {"content": [{"type": "text", "text": "4", "image": "a.png"}]},
            "a part with image, which would be lost",
        ),
        ({"from": "function_call", "value": "[]"}, "empty"),
        (FOUR | {"tools": [TOOL]}, "tools of a turn, which would be lost"),
        (FOUR | {"loss_mask": 0}, "loss_mask of a turn, which would be lost"),
    ],
)
def test_a_turn_is_refused_for_what_would_be_lost(turn, reason):
    """By name."""
    with pytest.raises(DefectiveError, match=reason):
        shaped("sft", {"messages": [USER, turn, NEXT, EIGHT]})


def test_roles_in_capitals():
    """Are what they say."""
    assert (CHAT, []) == shaped("sft", {"messages": [USER | {"role": "USER"}, FOUR | {"role": "Assistant"}]})


def test_a_template_names_fields_within_columns(prepared):
    """By dots, or by our name of what `columns` maps to one; what it names is used."""
    row = QA | {"x": {"hint": "Count."}}
    got = prepared("sft", {"a.jsonl": lines(some(row))}, template="{question} {x.hint}")
    assert {f"{number} + 2? Count." for number in range(COUNT)} == {*asked(got.train + got.held_out)}
    assert {} == got.report["sources"][0]["not_used"]
    row = {"prompt": "2 + 2?", "x": {"answer": "4"}}
    mapped = {"columns": {"solution": "x.answer"}, "template": "{question} Why {solution}?"}
    got = prepared("prompts", {"a.jsonl": lines(some(row))}, **mapped)
    assert {f"{number} + 2? Why 4?" for number in range(COUNT)} == {*asked(got.train + got.held_out)}


def test_a_template_around_no_question_is_a_defect(prepared):
    """A prompt may end with what a tool returned, without a turn of the user."""
    rows = [*some(ROWS["prompts"]), {"prompt": [SYSTEM, {"role": "tool", "content": "4"}]}]
    got = prepared("prompts", {"a.jsonl": lines(rows)}, template="{question} Think.")
    assert {"nothing is asked that a template could stand around": 1} == got.report["sources"][0]["rows"]["dropped"]


def test_text_that_looks_like_a_list_is_text():
    """Of turns it is one only by their roles."""
    text = '[{"value": 3}]'
    expected = {"messages": [USER | {"content": text}, FOUR | {"content": text}]}
    assert (expected, []) == shaped("sft", {"prompt": text, "completion": text})
    assert {"prompt": [USER | {"content": text}], "solution": None} == shaped("prompts", {"prompt": text})[0]


def test_the_name_of_a_user_is_named_as_not_used():
    """As next to no chat template writes it."""
    assert (CHAT, ["name"]) == shaped("sft", {"messages": [USER | {"name": "Ann"}, FOUR]})


def test_a_solution_in_a_column_named_system_is_no_system_text():
    """As `columns` says what it is."""
    assert TASK == shaped("prompts", {"prompt": "2 + 2?", "system": "4"}, {"solution": "system"})[0]


def test_a_mapped_solution_may_be_lacking_in_a_row(prepared):
    """In JSON Lines what is null often is not there."""
    rows = [{"prompt": "2 + 2?", "answer": "4"}] * (COUNT - 1)
    rows = [numbered(row, number) for number, row in enumerate([*rows, {"prompt": "2 + 2?"}])]
    got = prepared("prompts", {"a.jsonl": lines(rows)}, columns={"solution": "answer"})
    solved = {question: row["solution"] for row in got.train + got.held_out for question in asked([row])}
    assert {f"{number} + 2?": "4" if number < COUNT - 1 else None for number in range(COUNT)} == solved


@pytest.mark.parametrize(("name", "ours"), [("prompts", "solution"), ("sft", "system")])
def test_a_mapped_column_that_no_row_has_is_refused(prepared, name, ours):
    """A misspelt name would else leave all rows without."""
    with pytest.raises(InputError, match=rf"data\.{name}\.columns in params\.yaml names 'misspelt' as {ours}"):
        prepared(name, {"a.jsonl": lines(some(ROWS[name]))}, columns={ours: "misspelt"})


def test_a_label_of_zero_is_a_class():
    """Only false says that an answer is bad."""
    assert (CHAT, ["label"]) == shaped("sft", QA | {"label": 0})


# --- formats ---------------------------------------------------------------------------------------------------------


def test_xlams_tools_are_not_lost_of_prompts():
    """Which have none."""
    row = {"query": "2 + 2?", "tools": json.dumps([TOOL]), "answers": json.dumps([ADD["function"]])}
    with pytest.raises(DefectiveError, match="tools, which would be lost"):
        shaped("prompts", row, named="xlam")


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"images": ["a.png"]}, "images, which cannot be trained on"), ({"weight": 0}, "weight, which would be lost")],
)
def test_what_a_format_returns_is_not_lost(own_format, more, reason):
    """Where it changes what the row means."""
    own_format(lambda row: QA | row["more"])
    with pytest.raises(DefectiveError, match=reason):
        shaped("sft", {"more": more}, named="mine")


def test_a_format_may_return_system_prompt(own_format):
    """It is used."""
    own_format(lambda row: QA | {"system_prompt": row["said"]})
    assert ({"messages": [SYSTEM, USER, FOUR]}, []) == shaped("sft", {"said": "Be brief."}, named="mine")


def test_a_format_of_a_wrong_signature_is_said(own_format):
    """Though no line of it was run."""
    own_format(lambda: QA)
    with pytest.raises(InputError, match=r"the format mine raised TypeError: .+ \(formats\.py\)\."):
        shaped("sft", QA, named="mine")


def test_a_syntax_error_in_the_formats_is_one_line(project, python):
    """With its number."""
    path = project / "llmrl/formats.py"
    number = len(path.read_text(encoding="utf-8").splitlines()) + 1
    with path.open("a", encoding="utf-8") as file:
        file.write("def mine(row) return row\n")
    done = python("-m", "llmrl.data.prepare", "sft")
    assert (2, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    assert f"llmrl/formats.py:{number}: " in done.stderr


def test_arguments_within_and_beside_a_function():
    """Those that are empty leave the place to the others; two that differ refuse the row."""
    call = {"function": {"name": "add", "arguments": {}}, "arguments": {"a": 2}}
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]}
    shaped, _ = Shaper("sft", {}, None).shape(row)
    assert {"a": 2} == shaped["messages"][1]["tool_calls"][0]["function"]["arguments"]
    call["function"]["arguments"] = {"a": 3}
    with pytest.raises(DefectiveError, match="call and function that differ"):
        Shaper("sft", {}, None).shape(row)


def test_a_system_text_beside_all_rows_of_a_document(prepared):
    """Is not lost: it must stand in each row."""
    document = {"system": "Be brief.", "data": [{"prompt": f"{n}?", "completion": "1"} for n in range(9)]}
    with pytest.raises(InputError, match=r"a\.json: system stands beside the rows of data; it must stand in each row"):
        prepared("sft", {"a.json": json.dumps(document).encode()})
