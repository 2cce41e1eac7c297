"""Files of rows: JSON Lines, JSON, CSV, Parquet and Arrow, read a row at a time with little of the file in memory.

    {"prompt": "2 + 2?", "solution": "4"}                 .jsonl, .ndjson, and .json where it holds such lines
    [{"prompt": "2 + 2?", "solution": "4"}, …]            .json, on any number of lines
    {"version": 1, "data": [{"prompt": "2 + 2?", …}, …]}  .json, whose one list of objects are the rows
    prompt;solution                                       .csv, cut at commas, semicolons, tabs or |; .tsv
    columns                                               .parquet; .arrow, as `datasets.save_to_disk` writes it

Those of text are UTF-8, and may be compressed. Whatever else they are is an InputError that names the place.
"""

from __future__ import annotations

import csv
import json
import lzma
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, NoReturn

import pyarrow as pa

from llmrl.data.batches import BatchRow, Numbered, Row, arrow, parquet, twice
from llmrl.errors import InputError

Rows = Iterator[tuple[str, Row]]  # where each stands, as file:line, or from 1 file:row where there are no lines

KINDS = {
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # pyarrow's, faster than Python's; it has no .xz
ENDINGS = ".jsonl, .ndjson, .json, .csv, .tsv (or one of these in .gz, .bz2, .zst, .xz), .parquet, .arrow"
ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}  # what `datasets` says of rows
FOR_ALL_ROWS = {"system", "system_prompt", "instruction", "tools", "functions"}  # what these say of every row
JUNK = {"__macosx", "thumbs.db", "desktop.ini"}  # what macOS and Windows leave in folders
DELIMITERS = ",;\t|"
CHUNK = 2**18  # characters of a .json file read at once
CUT = 12  # characters from the end of a chunk in which a token may be cut in two: \ud83d\ude00
SPACES = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()
UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")  # how such a file begins where it is read as UTF-8
TURNS = ({"role", "content"}, {"from", "value"})  # a list of these is a conversation, thus part of a row

csv.field_size_limit(2**31 - 1)  # the most there is everywhere: a cell may be a whole document


def kind(path: str) -> str | None:
    """What a file is by the ending of its name, in any case; None where it holds no rows that can be read.

    >>> kind("data/Train.JSONL.gz"), kind("a.tsv"), kind("dataset_info.json"), kind("a.parquet.gz")
    ('json_lines', 'tsv', None, None)
    """
    name = PurePath(path.lower())
    if name.name in ABOUT:
        return None
    if name.suffix not in (*CODECS, ".xz"):
        return KINDS.get(name.suffix)
    found = KINDS.get(PurePath(name.stem).suffix)
    return None if found in ("parquet", "arrow") else found


def readable(path: str) -> bool:
    """Whether a file holds rows, by its name."""
    return kind(path) is not None


def hidden(path: str) -> bool:
    """Whether a path below a folder is no data of the user's, but what an editor or a system has left there.

    >>> hidden("a/.ipynb_checkpoints/b.csv"), hidden("__MACOSX/._a.csv"), hidden("~$a.csv"), hidden("a.csv")
    (True, True, True, False)
    """
    return any(part.startswith((".", "~$")) or part.lower() in JUNK for part in PurePath(path).parts)


def rows_of(path: Path, name: str) -> Rows:
    """The rows of a readable file, which is spoken of by `name`. Raises InputError naming the place where it is broken;
    asking a row of Parquet or Arrow for a value raises DefectiveError where Python has no such value.
    """
    read = READERS[str(kind(path.name))]
    try:
        for number, row in read(path):
            yield f"{name}:{number}", row
    except InputError as error:
        raise InputError(f"{name}:{error}") from None
    except (OSError, EOFError, ValueError, OverflowError, lzma.LZMAError, pa.ArrowException) as error:
        raise InputError(f"{name}: cannot be read as {path.suffix}: {error}") from None


def has(row: Row, column: str) -> bool:
    """Whether a row has a value in that column, which is not converted to find out."""
    return row.has(column) if isinstance(row, BatchRow) else row.get(column) is not None


def decompressed(path: Path, newline: str | None = None) -> TextIOWrapper:
    """The text of a file, decompressed. Bytes that are not UTF-8 become surrogates, which `misread` finds."""
    suffix = path.suffix.lower()
    xz = suffix == ".xz"
    binary = lzma.open(path) if xz else pa.input_stream(path, compression=CODECS.get(suffix))  # noqa: SIM115
    return TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline)


def misread(text: str) -> int | None:
    """Where in it the first byte stands that is not UTF-8."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def not_utf8(text: str, position: int) -> str:
    if position == 0 and text.startswith(UTF_16):
        return "UTF-16, not UTF-8, in which the file must be saved"
    return f"not UTF-8, in which the file must be saved: byte 0x{ord(text[position]) - 0xDC00:02x}"


def lines_of(text: TextIOWrapper) -> Iterator[str]:
    """Its lines, decoded one by one so that the broken one can be named."""
    for number, line in enumerate(text, 1):
        if (position := misread(line)) is not None:
            raise InputError(f"{number}: {not_utf8(line, position)}")
        yield line


# The readers: what they raise begins with the number of the line or row, or with a space where there is none.


def json_lines(path: Path) -> Numbered:
    """An object a line; the numbers are the lines'."""
    with decompressed(path) as text:
        for number, line in enumerate(lines_of(text), 1):
            try:
                row = DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                if not line.strip():
                    continue
                column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                raise InputError(f"{number}: broken JSON: {decoding_error(error)}{column}") from None
            if not isinstance(row, dict):
                raise InputError(f"{number}: each line must be one JSON object, {{...}}")
            yield number, row


def decoding_error(error: ValueError | RecursionError) -> str:
    """Why a text is no JSON."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"an integer of more than {sys.get_int_max_str_digits():,} digits"  # Python's own limit


def json_document(path: Path) -> Numbered:
    """An array of objects, an object with one list of objects in it, an object that is a row, or JSON Lines."""
    with decompressed(path) as text:
        document = Document(text)
        match document.peek():
            case "":
                return
            case "[":
                yield from objects(document)
                document.end()
                return
            case "{":
                lists, is_row, names = outline(document)  # a first pass: that no other list follows is known at the end
                follows = document.peek()
            case _:
                document.fail("broken JSON: expected [ or {")
    if follows:
        yield from json_lines(path)
    elif len(lists) == 1:
        if beside := [name for name in names if name in FOR_ALL_ROWS]:
            raise InputError(f" {beside[0]} stands beside the rows of {lists[0]}; it must stand in each row")
        with decompressed(path) as text:
            document = Document(text)
            for name in document.members():
                if name in lists:
                    yield from objects(document)
                else:
                    document.value()
    elif is_row and not lists:
        with decompressed(path) as text:
            yield 1, Document(text).value()
    else:
        found = f"several ({', '.join(lists)})" if lists else "none"
        raise InputError(
            f" one JSON object, in which there must be one list of rows, but there is {found}; an array of objects, "
            "[{...}, ...], is read too, and an object a line"
        )


def outline(document: Document) -> tuple[list[str], bool, list[str]]:
    """The names of the lists of objects in an object, none where it is a row by its conversation; whether it may be a
    row: it has a conversation, or a value that is neither list nor object; and all names.
    """
    lists, names = list[str](), list[str]()
    is_row = is_conversation = False
    for name in document.members():
        names.append(name)
        if document.peek() != "[":
            is_row |= not isinstance(document.value(), dict)
            continue
        elements = document.elements()
        first = next(elements, None)
        deque(elements, maxlen=0)
        if isinstance(first, dict):
            lists.append(name)
            is_conversation |= any(first.keys() >= turn for turn in TURNS)
    return ([], True, names) if is_conversation else (lists, is_row, names)


def objects(document: Document) -> Numbered:
    for row in document.elements():
        if not isinstance(row, dict):
            document.fail("each element must be one JSON object, {...}, unlike the one that ends")
        yield document.row, row


class Document:
    """A JSON text of which about as much is in memory as its longest element needs."""

    def __init__(self, text: TextIOWrapper) -> None:
        self.text = text
        self.held, self.position = "", 0
        self.line, self.column = 1, 1  # where what is held begins
        self.row = 0  # the element that is being read, from 1

    def read_on(self) -> bool:
        """Hold more, and no longer what has been taken. False at the end of the file."""
        more = self.text.read(max(CHUNK, len(self.held) - self.position))  # doubled, so that a long element is no n²
        if not more:
            return False
        self.line, self.column = self.place(self.position)
        self.held, self.position = self.held[self.position :] + more, 0
        if (position := misread(more)) is not None:
            self.row = 0  # another may have it
            self.fail(f"{not_utf8(more, position)},", len(self.held) - len(more) + position)
        return True

    def place(self, position: int) -> tuple[int, int]:
        """The line and column in the file."""
        newline = self.held.rfind("\n", 0, position)
        column = position - newline if newline >= 0 else self.column + position
        return self.line + self.held.count("\n", 0, position), column

    def fail(self, what: str, position: int | None = None) -> NoReturn:
        line, column = self.place(self.position if position is None else position)
        raise InputError(f"{self.row or ''}{': ' if self.row else ' '}{what} at line {line}, column {column}")

    def peek(self) -> str:
        """The next character that is no space; none at the end."""
        while True:
            self.position = SPACES.match(self.held, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.held):
                return self.held[self.position]
            if not self.read_on():
                return ""

    def take(self, characters: str) -> str:
        """The next character that is no space, which must be one of those."""
        found = self.peek()
        if not found or found not in characters:
            self.fail(f"broken JSON: expected {' or '.join(characters)}")
        self.position += 1
        return found

    def value(self) -> Any:
        """The value that comes next."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.held) - CUT
                if not (cut and self.read_on()):
                    self.fail(f"broken JSON: {decoding_error(error)}", error.pos)
            except (ValueError, RecursionError) as error:
                self.fail(f"broken JSON: {decoding_error(error)}, in what begins")
            else:
                if end <= len(self.held) - CUT or not self.read_on():  # a number may go on
                    self.position = end
                    return value

    def elements(self) -> Iterator[Any]:
        """Those of the array that comes next."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        self.row = 1
        yield self.value()
        while self.take(",]") == ",":
            self.row += 1
            yield self.value()
        self.row = 0

    def members(self) -> Iterator[str]:
        """The names in the object that comes next; whoever asks for one takes its value before the next."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        yield self.name()
        while self.take(",}") == ",":
            yield self.name()

    def name(self) -> str:
        if self.peek() != '"':
            self.fail("broken JSON: expected a name in double quotes")
        name = self.value()
        self.take(":")
        return name

    def end(self) -> None:
        """Nothing comes any more."""
        if self.peek():
            self.fail("broken JSON: something follows the array")


def comma_separated(path: Path, delimiters: str = DELIMITERS) -> Numbered:
    """Cells below the names of columns, cut at whichever delimiter makes most of the names; the numbers are of the
    lines that rows end on.
    """
    with decompressed(path, newline="") as text:
        lines = lines_of(text)
        ended = 0
        try:
            opening = list(islice(lines, 100))  # names may have line breaks in them
            cut = [(one, next(filter(None, csv.reader(opening, delimiter=one)), [])) for one in delimiters]
            delimiter = max(cut, key=lambda pair: len(pair[1]))[0]
            reader = csv.reader(chain(opening, lines), delimiter=delimiter, strict=True)
            names: list[str] = []
            for cells in reader:
                ended = reader.line_num
                if not cells:  # an empty line
                    continue
                if not names:
                    names = cells
                    check_names(names, ended)
                    continue
                if len(cells) != len(names):
                    raise InputError(f"{ended}: more or fewer cells than the first line has names")
                # An empty cell is no value.
                yield ended, {name: cell or None for name, cell in zip(names, cells, strict=True)}
        except csv.Error as error:
            raise InputError(f"{ended + 1}: broken CSV: {error}") from None


def check_names(names: list[str], line: int) -> None:
    """The first may be empty, as pandas names its index. Raises InputError."""
    if "" in names[1:]:
        number = names.index("", 1) + 1
        raise InputError(f"{line}: column {number} has no name; the first line must name each column")
    if (name := twice(names)) is not None:
        raise InputError(f"{line}: two columns are named {name!r}; the first line must name each differently")


def tab_separated(path: Path) -> Numbered:
    """The same, cut at tabs."""
    return comma_separated(path, "\t")


READERS: dict[str, Callable[[Path], Numbered]] = {
    "json_lines": json_lines,
    "json": json_document,
    "csv": comma_separated,
    "tsv": tab_separated,
    "parquet": parquet,
    "arrow": arrow,
}
