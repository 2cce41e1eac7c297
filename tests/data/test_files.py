"""`llmrl.data.files`: whatever a file of rows is, its rows, or one message with the place."""
# ruff: noqa: E501 - a mistake is a line of a table

import bz2
import csv
import gzip
import json
import lzma
import math
import random
import tracemalloc
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrl.data import files
from llmrl.data.files import ENDINGS, has, hidden, kind, readable, rows_of
from llmrl.errors import DefectiveError, InputError

ROWS = [{"prompt": f'{number} + 1?\n"é" 😀; | ,', "solution": str(number + 1)} for number in range(2500)]
COMPRESS = {
    ".gz": gzip.compress,
    ".GZ": lambda content: gzip.compress(content[:99]) + gzip.compress(content[99:]),  # as `cat` joins them
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


def delimited(rows, delimiter, path):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path.read_bytes()


def ipc(rows, new, path):
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2000)
    return path.read_bytes()


def parquet(rows, path):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=700)
    return path.read_bytes()


# Each way to write rows, as the bytes of a file.
WAYS = {
    "lines.jsonl": lambda rows, _: "\n".join(map(json.dumps, rows)).encode(),
    "mac.jsonl": lambda rows, _: "\r".join(map(json.dumps, rows)).encode(),
    "a.NDJSON": lambda rows, _: b"\xef\xbb\xbf" + "\r\n\r\n".join(map(json.dumps, rows)).encode(),
    "lines.json": lambda rows, _: "\n".join(map(json.dumps, rows)).encode(),
    "array.json": lambda rows, _: json.dumps(rows, ensure_ascii=False).encode(),
    "pretty.json": lambda rows, _: b"\xef\xbb\xbf\n " + json.dumps(rows, indent=2).encode() + b"\n",
    "inside.json": lambda rows, _: json.dumps({"version": 1, "tags": ["a"], "of": {}, "data": rows, "n": [1]}).encode(),
    "a.csv": lambda rows, path: b"\xef\xbb\xbf" + delimited(rows, ",", path),
    "semicolons.csv": lambda rows, path: b"\n\r\n" + delimited(rows, ";", path),
    "tabs.csv": lambda rows, path: delimited(rows, "\t", path),
    "bars.csv": lambda rows, path: delimited(rows, "|", path),
    "a.tsv": lambda rows, path: delimited(rows, "\t", path),
    "a.Parquet": parquet,
    "stream.arrow": lambda rows, path: ipc(rows, pa.ipc.new_stream, path),
    "file.arrow": lambda rows, path: ipc(rows, pa.ipc.new_file, path),
}


def read(path, content=None):
    """The rows of a file, whose content may be given here."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [dict(row) for _, row in rows_of(path, path.name)]


@pytest.mark.parametrize("name", WAYS)
def test_each_kind_gives_the_same_rows(tmp_path, name):
    """With cells of several lines, delimiters and quotes, in several batches."""
    assert ROWS == read(tmp_path / name, WAYS[name](ROWS, tmp_path / "written"))


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_text_may_be_compressed(tmp_path, name, ending):
    """Each kind of text, by each means; cut short it is an error."""
    ways = {"a.jsonl": "lines.jsonl", "a.json": "pretty.json", "a.csv": "semicolons.csv"}
    content = COMPRESS[ending](WAYS[ways[name]](ROWS, tmp_path / "written"))
    assert ROWS == read(tmp_path / f"{name}{ending}", content)
    with pytest.raises(
        InputError, match=f"{name}{ending}: cannot be read as {ending}: " if ending else ":2501:|:7501:"
    ):
        read(tmp_path / f"{name}{ending}", content[:-3])


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", ["array.json", "pretty.json", "inside.json"])
def test_json_may_be_cut_anywhere(tmp_path, monkeypatch, name, size):
    """Chunks that end inside a number, a literal or an escape are read on, and places stay what they are."""
    monkeypatch.setattr(files, "CHUNK", size)
    rows = [{"a": [-1.5e-07, True, None, math.inf], "é": "😀"}]
    content = WAYS[name](rows * 50, None)
    assert rows * 50 == read(tmp_path / name, content)
    broken = content.replace(b"null", b"nulk")
    before = broken[: broken.index(b"nulk")]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    with pytest.raises(InputError, match=rf"broken JSON: Expecting value at line {line}, column {column}$"):
        read(tmp_path / name, broken)


PLACES = {
    "a.jsonl": ('{"a": 1}\n\n{"a": 2}', ["a.jsonl:1", "a.jsonl:3"]),
    "lines.json": ('{"a": 1}\n\n{"a": 2}', ["lines.json:1", "lines.json:3"]),
    "array.json": ('[\n\n{"a": 1},\n\n{"a": 2}]', ["array.json:1", "array.json:2"]),
    "inside.json": ('{"b": [1, 2],\n"a":\n[{"a": 1},\n\n{"a": 2}]}', ["inside.json:1", "inside.json:2"]),
    "a.csv": ('a\n"1\n1"\n\n2\n', ["a.csv:3", "a.csv:5"]),
}


@pytest.mark.parametrize("name", PLACES)
def test_each_row_has_its_place(tmp_path, name):
    """The line that it ends on, or its number where a row is no line."""
    content, expected = PLACES[name]
    (tmp_path / name).write_text(content)
    assert expected == [where for where, _ in rows_of(tmp_path / name, name)]


def test_rows_of_tables_count_from_1(tmp_path):
    """Of Parquet and Arrow, also beyond what is in memory at once."""
    table = pa.table({"a": range(1001)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as arrow:
        arrow.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        assert [f"{name}:{row}" for row in range(1, 1002)] == [where for where, _ in rows_of(tmp_path / name, name)]


# The file, its content and the rows in it.
AS_THEY_ARE = {
    "numbers that JSON has not": ("a.jsonl", '{"a": [Infinity, 123456789012345678901234567890]}', [{"a": [math.inf, 123456789012345678901234567890]}]),
    "half a character": ("a.json", r'[{"a": "\ud83d"}]', [{"a": "\ud83d"}]),
    "an object that is a row": ("a.json", '{"a": "1", "b": [1]}', [{"a": "1", "b": [1]}]),
    "an object on several lines": ("a.json", '{\n"a": "1"\n}\n', [{"a": "1"}]),
    "a conversation": ("a.json", '{"m": [{"role": "user", "content": ""}], "tools": [{}]}', [{"m": [{"role": "user", "content": ""}], "tools": [{}]}]),
    "an empty array": ("a.json", " [ ] ", []),
    "an empty list of rows": ("a.json", '{"n": 0, "a": []}', [{"n": 0, "a": []}]),
    "nothing": ("a.json", "\n", []),
    "no lines": ("a.jsonl", "\n \n", []),
    "an empty CSV": ("a.csv", "", []),
    "names alone": ("a.csv", "a,b\n", []),
    "one column": ("a.csv", "a\n1 2\n", [{"a": "1 2"}]),
    "one column without a cell": ("a.csv", 'a\n""\n', [{"a": None}]),
    "an index of pandas": ("a.csv", ",a\n0,\n", [{"": "0", "a": None}]),
    "delimiters in quotes": ("a.csv", '"a,b,c";d\n1;2\n', [{"a,b,c": "1", "d": "2"}]),
    "a name on two lines": ("a.csv", '"a\nb"|c\n1|2\n', [{"a\nb": "1", "c": "2"}]),
    "returns alone": ("a.csv", 'a,b\r1,"2\r3"\r', [{"a": "1", "b": "2\r3"}]),
    "mixed line ends": ("a.csv", "a,b\r\n1,2\n3,4\r\r\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    "commas between tabs": ("a.tsv", "a,b,c\td\n1\t2\n", [{"a,b,c": "1", "d": "2"}]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), AS_THEY_ARE.values(), ids=AS_THEY_ARE)
def test_rows_are_as_they_stand(tmp_path, name, content, expected):
    """What is unusual, and no mistake."""
    assert expected == read(tmp_path / name, content)


UTF_8 = "in which the file must be saved"
MISTAKES = {
    "broken line": ("a.jsonl", '{"a": 1}\n\n{"a": 2,}', "a.jsonl:3: broken JSON: Expecting property name enclosed in double quotes at column 9"),
    "long integer": ("a.jsonl", f'{{"a": {"1" * 4301}}}', "a.jsonl:1: broken JSON: an integer of more than 4,300 digits"),
    "nested": ("a.jsonl", "[" * 99_999, "a.jsonl:1: broken JSON: nested too deeply"),
    "no object": ("a.jsonl", "5", "a.jsonl:1: each line must be one JSON object, {...}"),
    "latin-1": ("a.jsonl", '{"a": 1}\n{"a": "é"}\n'.encode("latin-1"), f"a.jsonl:2: not UTF-8, {UTF_8}: byte 0xe9"),
    "UTF-16": ("a.csv", "a,b\n".encode("utf-16"), f"a.csv:1: UTF-16, not UTF-8, {UTF_8}"),
    "UTF-16 array": ("a.json", "[]".encode("utf-16-be").join([b"\xfe\xff", b""]), f"a.json: UTF-16, not UTF-8, {UTF_8}, at line 1, column 1"),
    "latin-1 array": ("a.json", '[{"a": 1},\n{"a": "é"}]'.encode("latin-1"), f"a.json: not UTF-8, {UTF_8}: byte 0xe9, at line 2, column 8"),
    "broken element": ("a.json", '[{"a": 1},\n{"a": 2,}]', "a.json:2: broken JSON: Expecting property name enclosed in double quotes at line 2, column 9"),
    "long integer in an array": ("a.json", f'[\n{{"a": {"1" * 4301}}}]', "a.json:1: broken JSON: an integer of more than 4,300 digits, in what begins at line 2, column 1"),
    "nested array": ("a.json", "[" * 99_999, "a.json:1: broken JSON: nested too deeply, in what begins at line 1, column 2"),
    "element that is no object": ("a.json", '[{"a": 1},\n5]', "a.json:2: each element must be one JSON object, {...}, unlike the one that ends at line 2, column 2"),
    "no comma": ("a.json", '[{"a": 1}\n{"a": 2}]', "a.json:1: broken JSON: expected , or ] at line 2, column 1"),
    "a comma too many": ("a.json", '[{"a": 1},]', "a.json:2: broken JSON: Expecting value at line 1, column 11"),
    "cut array": ("a.json", '[{"a": 1},\n{"a"', "a.json:2: broken JSON: Expecting ':' delimiter at line 2, column 5"),
    "array and more": ("a.json", "[]\n[]", "a.json: broken JSON: something follows the array at line 2, column 1"),
    "no JSON": ("a.json", "prompt", "a.json: broken JSON: expected [ or { at line 1, column 1"),
    "broken object": ("a.json", '{"n": 1, a: 2}', "a.json: broken JSON: expected a name in double quotes at line 1, column 10"),
    "broken line of .json": ("a.json", '{"a": 1}\n{"a": 2,}', "a.json:2: broken JSON: Expecting property name enclosed in double quotes at column 9"),
    "two lists": ("a.json", '{"train": [{}], "n": 1, "test": [{}]}', "a.json: one JSON object, in which there must be one list of rows, but there is several (train, test); an array"),
    "columns": ("a.json", '{"a": {"0": 1}, "b": ["2"]}', "a.json: one JSON object, in which there must be one list of rows, but there is none; an array"),
    "name twice": ("a.csv", "\na,b,a\n", "a.csv:2: two columns are named 'a'; the first line must name each differently"),
    "no name": ("a.csv", "a,,b\n", "a.csv:1: column 2 has no name; the first line must name each column"),
    "cell too few": ("a.csv", "a,b\n1\n", "a.csv:2: more or fewer cells than the first line has names"),
    "open quote": ("a.csv", 'a\n1\n"2\n3\n', "a.csv:3: broken CSV: unexpected end of data"),
    "empty Parquet": ("a.parquet", "", "a.parquet: cannot be read as .parquet: Parquet file size is 0 bytes"),
    "no Arrow": ("a.arrow", "prompt", "a.arrow: cannot be read as .arrow: "),
    "no gzip": ("a.csv.gz", "a,b\n", "a.csv.gz: cannot be read as .gz: "),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(tmp_path, name, content, said):
    """With its place."""
    with pytest.raises(InputError) as refused:
        read(tmp_path / name, content)
    assert said == str(refused.value)[: len(said)]


def columnar(path, arrays):
    """A Parquet or Arrow file of these columns, given as (name, array)."""
    names, columns = zip(*arrays, strict=True)
    table = pa.Table.from_arrays(columns, names)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    return list(rows_of(path, path.name))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_what_python_cannot_hold_harms_its_value_alone(tmp_path, name):
    """A date beyond year 9999 and a text that is not UTF-8 are defects of their rows, for who asks for them."""
    offsets = pa.array([0, 2, 4, 4], pa.int32()).buffers()[1]
    text = pa.StringArray.from_buffers(3, offsets, pa.py_buffer("éÿ".encode("latin-1") + b"\xc3\xa9"))
    day = pa.array([10**7, 0, None], pa.date32())
    found = columnar(tmp_path / name, [("prompt", pa.array(["a", "b", "c"])), ("day", day), ("text", text)])
    rows = [row for _, row in found]
    assert [f"{name}:1", f"{name}:2", f"{name}:3"] == [where for where, _ in found]
    assert ["a", "b", "c"] == [row["prompt"] for row in rows]
    assert [True, True, False] == [has(row, "day") for row in rows]
    assert [date(1970, 1, 1), None] == [row["day"] for row in rows[1:]]
    assert ["prompt", "day", "text"] == list(rows[0])
    for column, why in {"day": "a value that Python cannot hold", "text": "not UTF-8"}.items():
        with pytest.raises(DefectiveError, match=f"^{column} cannot be read: {why}$"):
            rows[0][column]


def test_only_what_is_asked_for_is_converted(tmp_path):
    """Neither the names of columns, nor whether there is a value, is asked of the values."""
    ((_, row),) = columnar(tmp_path / "a.parquet", [("a", pa.array([1])), ("b", pa.array([b"\x89"]))])
    assert (True, False, True, False) == ("b" in row, "c" in row, has(row, "b"), has(row, "c"))
    assert {"a", "b"} == row.keys()
    assert {} == row.batch.values
    assert (1, ["a"]) == (row["a"], list(row.batch.values))


def test_has_is_of_any_row():
    """A row of another kind is a dict."""
    row = {"a": 0, "b": None}
    assert (True, False, False) == (has(row, "a"), has(row, "b"), has(row, "c"))


def test_maps_become_dicts(tmp_path):
    """They are lists of pairs to pyarrow."""
    array = pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64()))
    assert [{"a": 1}, None] == [row["a"] for _, row in columnar(tmp_path / "a.parquet", [("a", array)])]


def test_arrow_that_points_outside_itself_is_refused(tmp_path):
    """Read as it stands it would end the process."""
    content = bytearray(ipc([{"a": "some text"}, {"a": "more"}], pa.ipc.new_stream, tmp_path / "written"))
    offsets = bytes(pa.array([0, 9, 13], pa.int32()).buffers()[1])[:12]
    start = content.index(offsets)
    content[start + 4 : start + 8] = (2**30).to_bytes(4, "little")
    with pytest.raises(InputError, match=r"^a.arrow: cannot be read as .arrow: "):
        read(tmp_path / "a.arrow", bytes(content))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_columns_of_one_name_are_refused(tmp_path, name):
    """Of two, no row could have both."""
    with pytest.raises(InputError, match=f"^{name}: two columns are named 'a'; each must be named differently$"):
        columnar(tmp_path / name, [("a", pa.array([1])), ("a", pa.array([2]))])


def test_kinds_by_name():
    """In any case; what `datasets` says of rows holds none, and columns are not compressed from without."""
    assert ["json_lines", "json", "csv", "tsv", "parquet", "arrow"] == [
        kind(f"data/A.{ending}") for ending in ("JSONL", "json.XZ", "csv.zst", "Tsv.bz2", "parquet", "arrow")
    ]
    others = ("dataset_info.json", "a/state.json", "a.parquet.gz", "a.arrow.zst", "README.md", "a.gz", "jsonl", ".csv")
    assert [False] * len(others) == [readable(name) for name in others]
    assert all(ending in ENDINGS for ending in (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow"))


def test_what_is_hidden():
    """Files of editors and systems, and whatever lies in their folders."""
    those = (".a.csv", "a/.git/a.csv", "~$a.csv", "__MACOSX/a/a.csv", "a/Thumbs.db", "DESKTOP.INI", "a/._a.csv")
    assert [True] * len(those) == [hidden(path) for path in those]
    assert [False] * 3 == [hidden(path) for path in ("a.csv", "a/b.c/d~.csv", "a/MACOSX.csv")]


def peak(work):
    """What it gives, and the most bytes that Python and pyarrow have held at once for it."""
    default = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(default)


@pytest.mark.parametrize("name", ["array.json", "inside.json", "lines.jsonl", "a.csv", "a.parquet", "stream.arrow"])
def test_memory_is_that_of_a_few_rows(tmp_path, name):
    """However large the file is, on one line or in one row group."""
    path, text = tmp_path / name, random.Random(0).randbytes(2000).hex()
    rows = [{"prompt": f"{number} {text[number % 2000 :]}"} for number in range(10_000)]
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, compression=None, use_dictionary=False)
    else:
        path.write_bytes(WAYS[name](rows, tmp_path / "written"))
    read, size = peak(lambda: sum(len(row["prompt"]) > 0 for _, row in rows_of(path, name)))
    assert len(rows) == read
    assert size < path.stat().st_size / 2
