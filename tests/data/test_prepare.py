"""`python -m llmrl.data.prepare`: what becomes of a source's rows."""

import csv
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrl import params
from llmrl.data import prepare, spool
from llmrl.data.asking import opening
from llmrl.data.settings import DATA_SETS
from llmrl.errors import reported

QUESTIONS = [f"{number} + 1?" for number in range(60)]


@pytest.fixture
def raw(project, change):
    """The folder of the user's own files, of which every data set is made: without limits, half of it held out."""
    for name in DATA_SETS:
        for key, value in {"source": "raw", "rows": "null", "eval_rows": "null"}.items():
            change(f"data.{name}.{key}", value)
    change("data.eval_share", "0.5")
    return project / "data/raw"


def save(path, rows):
    """Write rows as the file's ending says; a CSV's lists as JSON."""
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            for row in rows:
                writer.writerow(
                    {key: json.dumps(cell) if isinstance(cell, list) else cell for key, cell in row.items()}
                )


def prepared(name):
    """The rows of both sides, and the report."""
    prepare.main(name)
    sides = (pq.read_table(f"data/{name}/{side}.parquet").to_pylist() for side in ("train", "eval"))
    with open(f"data/{name}/source.json", encoding="utf-8") as file:  # noqa: PTH123
        return *sides, json.load(file)


def turn(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("conversational", [True, False])
def test_raw_of_any_kind_become_the_same_rows(raw, ending, conversational):
    """JSON Lines, Parquet and CSV, plain or conversational, give the same data set."""
    rows = [{"prompt": question, "completion": 'so, "4"\nor 5, é'} for question in QUESTIONS]
    if conversational:
        rows = [{"messages": [turn("user", row["prompt"]), turn("assistant", row["completion"])]} for row in rows]
    save(raw / f"sft/mine.{ending}", rows)
    train, held_out, report = prepared("sft")
    expected = {question: [turn("user", question), turn("assistant", 'so, "4"\nor 5, é')] for question in QUESTIONS}
    assert expected == {row["messages"][0]["content"]: row["messages"] for row in train + held_out}
    counts = {"read": 60, "train": len(train), "eval": len(held_out)}
    assert counts | dict.fromkeys(prepare.UNUSED_FOR, 0) == report["rows"]
    assert {"read": 60, "kept": 60, "dropped": {}} == report["sources"][0]["rows"]
    assert 10 < len(held_out) < 50


def test_files_are_read_by_name_and_recorded(raw):
    """All files of the folder are read in the order of their names, in which the rows to train on stay; their hashes
    are recorded.
    """
    folder = raw / "prompts"
    save(folder / "b.csv", [{"prompt": question, "solution": "1"} for question in QUESTIONS[30:]])
    save(folder / "a.jsonl", [{"prompt": question} for question in QUESTIONS[:30]])
    train, held_out, report = prepared("prompts")
    numbers = [[int(row["prompt"][0]["content"].split()[0]) for row in rows] for rows in (train, held_out)]
    assert sorted(numbers[0]) == numbers[0]
    assert sorted(numbers[1]) != numbers[1]  # so that the first of them are a sample
    expected = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a.jsonl", "b.csv")}
    assert expected == report["sources"][0]["files"]


def test_own_columns_are_mapped(raw, change):
    """`columns` maps our names to those of the source, and these stand under ours alone."""
    change("data.prompts.columns", "{prompt: question, solution: answer}")
    save(raw / "prompts/a.jsonl", [{"question": question, "answer": 3, "id": 1} for question in QUESTIONS])
    train, held_out, _ = prepared("prompts")
    assert {"3"} == {row["solution"] for row in train + held_out}
    assert set(QUESTIONS) == {row["prompt"][0]["content"] for row in train + held_out}
    assert {'{"id": 1}'} == {row["extra"] for row in train + held_out}


def extra(rows):
    """The further columns of each row, by its prompt."""
    return {row["prompt"][0]["content"]: row["extra"] and json.loads(row["extra"]) for row in rows}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_further_columns_are_kept(raw, capsys, ending):
    """Lists and maps too; a CSV's cell is a text. A row has those that it has a value of."""
    rows = [
        {"prompt": question, "task": "sum", "tests": [{"in": [number, 1], "é": "é"}, None], "hint": number or None}
        for number, question in enumerate(QUESTIONS)
    ]
    save(raw / f"prompts/a.{ending}", rows)
    train, held_out, report = prepared("prompts")
    expected = {row["prompt"]: {name: row[name] for name in ("task", "tests", "hint")} for row in rows}
    for row in expected.values() if ending == "csv" else ():
        row |= {"tests": json.dumps(row["tests"]), "hint": str(row["hint"])}
    del expected[QUESTIONS[0]]["hint"]
    assert expected == extra(train + held_out)
    assert ["task", "tests", "hint"] == report["sources"][0]["extra_columns"]
    assert "  dropped: none\n  for rewards also: task, tests, hint\n" in capsys.readouterr().out


def test_an_id_makes_no_row_another(raw, change):
    """A prompt with its solution that stands twice is a duplicate, whatever its further columns are."""
    change("data.max_defective", "0.5")
    save(raw / "prompts/a.jsonl", [{"prompt": QUESTIONS[id_ // 2], "id": id_} for id_ in range(120)])
    train, held_out, report = prepared("prompts")
    assert {question: {"id": 2 * number} for number, question in enumerate(QUESTIONS)} == extra(train + held_out)
    assert {"duplicate": 60} == report["sources"][0]["rows"]["dropped"]


def test_sources_of_a_mixture_have_their_own_further_columns(raw, change, capsys):
    """Each row has those of its source; the file's names are those of all, on both sides."""
    change(
        "data.prompts.source", "\n      - {source: raw, columns: {solution: tests}}\n      - source: builtin:arithmetic"
    )
    save(raw / "prompts/a.jsonl", [{"prompt": question, "tests": "1", "task": "sum"} for question in QUESTIONS])
    train, held_out, report = prepared("prompts")
    found = extra(train + held_out)
    assert {True: [{"task": "sum"}], False: [None]} == {
        mine: [*{str(one): one for question, one in found.items() if (question in QUESTIONS) == mine}.values()]
        for mine in (True, False)
    }
    assert [["task"], []] == [source["extra_columns"] for source in report["sources"]]
    for side in ("train", "eval"):
        assert b'["task"]' == pq.read_metadata(f"data/prompts/{side}.parquet").metadata[b"extra_columns"]
    assert "  for rewards also: task\n" in capsys.readouterr().out


def test_what_cannot_be_handed_on_is_said(raw, capsys):
    """Bytes, and what a reward is given something else by: in source.json and on the terminal; also where not every row
    has a value.
    """
    some = {"marks": 1, "map": [("a", 1), ("b", None)], "day": 0}
    rows = [{"prompt": question, "sound": None if n % 2 else b"\x89"} | some for n, question in enumerate(QUESTIONS)]
    fields = [("prompt", pa.string()), ("sound", pa.binary()), ("marks", pa.int8()), ("day", pa.date32())]
    schema = pa.schema([*fields, ("map", pa.map_(pa.string(), pa.int64()))])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), raw / "prompts/a.parquet")
    train, held_out, report = prepared("prompts")
    assert {'{"day": "1970-01-01", "map": {"a": 1, "b": null}}'} == {row["extra"] for row in train + held_out}
    assert ["day", "map"] == report["sources"][0]["extra_columns"]
    reasons = {"marks": "a reward is given something else by this name", "sound": "bytes are no JSON"}
    assert reasons == report["sources"][0]["left_out"]
    said = capsys.readouterr().out
    assert "  for rewards also: day, map\n  not handed on to rewards: " in said
    for column, reason in reasons.items():
        assert f"{column} ({reason})" in said


def test_a_column_that_only_some_rows_can_say_is_not_handed_on(raw):
    """The files' names are without it, and its rows, once one is read that cannot: a sound, its bytes in some rows."""
    sounds = [{"bytes": b"\x89" if n == 10 else None, "path": "a.png"} for n in range(len(QUESTIONS))]
    rows = [{"prompt": question, "sound": sound, "id": 1} for question, sound in zip(QUESTIONS, sounds, strict=True)]
    save(raw / "prompts/a.parquet", rows)
    train, held_out, report = prepared("prompts")
    for side in ("train", "eval"):
        assert b'["id"]' == pq.read_metadata(f"data/prompts/{side}.parquet").metadata[b"extra_columns"]
    found = extra(train + held_out)
    assert [{"id": 1}] * 50 == [found[question] for question in QUESTIONS[10:]]
    assert (["id"], {"sound": "bytes are no JSON"}) == tuple(
        report["sources"][0][key] for key in ("extra_columns", "left_out")
    )


def test_half_a_character_in_a_further_column_is_a_defect(raw, change):
    """Of its row alone: a whole one with the same prompt is no duplicate of it."""
    change("data.max_defective", "0.1")
    rows = [{"prompt": question, "tests": ["\ud83d\ude00"]} for question in QUESTIONS]
    save(raw / "prompts/a.jsonl", [rows[0] | {"tests": ["\ud83d"]}, *rows])
    train, held_out, report = prepared("prompts")
    assert {question: {"tests": ["😀"]} for question in QUESTIONS} == extra(train + held_out)
    assert {"half a Unicode character": 1} == report["sources"][0]["rows"]["dropped"]


def test_defective_rows_are_counted_by_reason(raw, change):
    """A few defective rows are dropped and counted; the others are kept, each once."""
    change("data.max_defective", "0.2")
    rows = [{"prompt": question, "chosen": "yes", "rejected": "no"} for question in QUESTIONS]
    bad = [rows[0], rows[1] | {"rejected": "yes"}, rows[2] | {"chosen": ""}, rows[3] | {"chosen": " "}]
    save(raw / "preference/a.jsonl", rows + bad)
    train, held_out, report = prepared("preference")
    assert 60 == len(train) + len(held_out)
    assert {"chosen equal to rejected": 1, "duplicate": 1, "empty": 2} == report["sources"][0]["rows"]["dropped"]


def test_an_empty_cell_is_no_solution(raw):
    """A CSV file's empty solution means that there is none."""
    rows = [{"prompt": question, "solution": "1" if index % 2 else ""} for index, question in enumerate(QUESTIONS)]
    save(raw / "prompts/a.csv", rows)
    train, held_out, _ = prepared("prompts")
    assert {None, "1"} == {row["solution"] for row in train + held_out}


def test_no_prompt_is_trained_on_here_and_held_out_there(raw):
    """A prompt that one of the three sets holds out is in no set's training rows."""
    save(raw / "sft/a.jsonl", [{"prompt": question, "completion": "1"} for question in QUESTIONS])
    pairs = [{"chosen": f"{question} yes", "rejected": f"{question} no"} for question in QUESTIONS]
    save(raw / "preference/a.jsonl", pairs)
    save(raw / "prompts/a.csv", [{"prompt": [turn("user", question)]} for question in QUESTIONS])
    both = [prepared(name)[:2] for name in DATA_SETS]
    trained, held_out = ({opening(row) for sides in both for row in sides[side]} for side in (0, 1))
    assert set() == trained & held_out
    assert len(QUESTIONS) == len(trained | held_out)


def test_the_built_in_sets_share_no_prompt_across_the_split(project):
    """The same holds for the built-in task, whose three sets do meet in some prompts."""
    both = [prepared(name)[:2] for name in DATA_SETS]
    data = params.experiment().data
    limits = [data.sft, data.preference, data.prompts]
    assert [(limit.rows, limit.eval_rows) for limit in limits] == [tuple(map(len, sides)) for sides in both]
    trained, held_out = ([{opening(row) for row in sides[side]} for sides in both] for side in (0, 1))
    assert trained[0] & trained[2]
    assert set() == set().union(*trained) & set().union(*held_out)
    assert not (project / "data/.sft").exists()


def test_more_rows_keep_the_old_ones(change):
    """Ten times the rows begin with the old rows, each on its old side."""
    change("data.sft.rows", "150")
    change("data.sft.eval_rows", "20")
    few = prepared("sft")
    change("data.sft.rows", "1500")
    change("data.sft.eval_rows", "200")
    many = prepared("sft")
    assert (1500, 200) == (len(many[0]), len(many[1]))
    assert few[:2] == (many[0][:150], many[1][:20])


def test_more_rows_of_a_file_keep_the_old_ones(raw):
    """Each on its old side, and in the old order, where a user's own file has grown."""
    rows = [{"prompt": f"{number} + 1?", "completion": "1"} for number in range(600)]
    save(raw / "sft/a.jsonl", rows[:60])
    few = prepared("sft")
    save(raw / "sft/a.jsonl", rows)
    many = prepared("sft")
    assert few[0] == [row for row in many[0] if row in few[0]]
    assert few[1] == [row for row in many[1] if row in few[1]]


def test_a_cell_may_be_long(raw):
    """A CSV file's cell holds a whole document, of more than the 128 KiB that Python allows by itself."""
    rows = [{"prompt": question, "completion": "word " * 30_000} for question in QUESTIONS]
    save(raw / "sft/a.csv", rows)
    train, held_out, _ = prepared("sft")
    assert {rows[0]["completion"]} == {row["messages"][1]["content"] for row in train + held_out}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_said(project, monkeypatch, capsys):
    """Where the rows that are read find no room, that is said without a traceback, and nothing is left behind."""
    new_file = pa.ipc.new_file
    monkeypatch.setattr(pa.ipc, "new_file", lambda _, schema: new_file("/dev/full", schema))
    with pytest.raises(SystemExit, match="2"), reported():
        prepare.main("sft")
    assert "no space is left on the disk" in capsys.readouterr().err
    assert [] == [path for name in ("sft", ".sft") if (path := project / "data" / name).exists()]


def test_limits_bound_each_side(raw, change):
    """`rows` and `eval_rows` are upper limits, and what is beyond them is counted."""
    change("data.sft.rows", "10")
    save(raw / "sft/a.jsonl", [{"prompt": question, "completion": "1"} for question in QUESTIONS])
    train, held_out, report = prepared("sft")
    assert 10 == len(train)
    assert 60 == 10 + len(held_out) + report["rows"]["more than rows and eval_rows ask for"]


def test_the_same_source_gives_the_same_bytes(project):
    """Two preparations of one source write equal files, also over one another."""
    files = [project / "data/prompts" / name for name in ("train.parquet", "eval.parquet", "source.json")]
    prepare.main("prompts")
    first = [file.read_bytes() for file in files]
    (project / "data/prompts/stray").touch()
    prepare.main("prompts")
    assert first == [file.read_bytes() for file in files]
    assert not (project / "data/prompts/stray").exists()


def test_rows_are_written_in_chunks(change, monkeypatch):
    """No more rows than a chunk are held, and the file is the same as if written at once."""
    change("data.sft.rows", "105")
    whole = prepared("sft")
    monkeypatch.setattr(spool, "CHUNK", 10)
    assert whole == prepared("sft")
    assert 11 == pq.ParquetFile("data/sft/train.parquet").num_row_groups


def test_preparing_is_light(python):
    """Preparing a built-in data set imports none of the heavy libraries."""
    code = "import sys; from llmrl.data import prepare; prepare.main('sft'); "
    code += "assert not {'torch', 'transformers', 'trl', 'datasets', 'sympy'} & set(sys.modules)"
    done = python("-c", code)
    assert (0, "") == (done.returncode, done.stderr)
