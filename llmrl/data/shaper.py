"""Tells which shape a row of a source has, makes it a row of ours, and says what of it was not used."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmrl.data import files
from llmrl.data.rows import BESIDE, NEEDED, SHAPES, SYSTEM, TOOLS, Row
from llmrl.data.settings import fields_of_template, format_names
from llmrl.data.turns import COVERED, MEDIA, REASONING, has_value
from llmrl.errors import DefectiveError, InputError

# What changes the meaning of a row, and is refused where nothing reads it. A reward may well be given an input.
LOST = frozenset((*MEDIA, *TOOLS, *SYSTEM, "function_call", "tool_calls", "chat_template_kwargs"))
LOST_OF = {"sft": frozenset(("input", "context", "history", *REASONING, *COVERED))}
LOST_OF["preference"] = LOST_OF["sft"] | {"instruction", "question", "query"}
WEIGHT_OF_ONE = ("1", "1.0", "true")  # which says nothing


class NoColumnError(KeyError):
    """A row has no such column."""


class Columns(Mapping[str, Any]):
    """A source's row by our names of its columns, `names` being {ours: theirs}, which remembers what was read: columns,
    and among them those of which a field was, as in reward_model.ground_truth.
    """

    __slots__ = ("in_part", "names", "read", "row", "unused")

    def __init__(self, row: Mapping[str, Any], names: dict[str, str]) -> None:
        self.row, self.names = row, names
        self.read, self.in_part = set[str](), set[str]()
        self.unused = set[str]()  # fields of its turns

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise NoColumnError(name)
        theirs = self.names.get(name, name)
        column = self.column(name)
        self.read.add(column)
        if column != theirs:
            self.in_part.add(column)
        return self.at(theirs)

    def at(self, theirs: str) -> Any:
        """A value by the source's own name of its column, or of a field within one. Raises DefectiveError."""
        if theirs in self.row:
            return self.row[theirs]
        column, *fields = theirs.split(".")
        value = self.row.get(column)
        for field in fields:
            if not isinstance(value, Mapping) or field not in value:
                raise DefectiveError(f"no {theirs}")
            value = value[field]
        return value

    def column(self, name: str) -> str:
        """The source's column in which the value of a name is."""
        theirs = self.names.get(name, name)
        return theirs if theirs in self.row else theirs.partition(".")[0]

    def __iter__(self) -> Iterator[str]:
        renamed = {*self.names.values()}
        return iter([*self.names, *(name for name in self.row if name not in self.names and name not in renamed)])

    def __len__(self) -> int:
        return len([*self])

    def __contains__(self, name: object) -> bool:
        return name in self.names or (name in self.row and name not in self.names.values())

    def has(self, name: str) -> bool:
        """Whether there is a value by that name, without reading it."""
        return files.has(self.row, self.column(name))

    def peek(self, name: str) -> Any:
        """The value by that name, without it being noted as read; None where there is none."""
        theirs = self.names.get(name, name)
        return self.at(theirs) if self.column(name) in self.row else None


class Shaper:
    """Makes rows of one source rows of ours, and counts as what they were recognised and what of them was not used."""

    def __init__(self, data_set: str, columns: dict[str, str], named: str | None, template: str | None = None) -> None:
        format_names()  # says where it is no Python
        from llmrl import formats

        self.data_set, self.columns, self.named, self.formats = data_set, columns, named, formats
        names = [columns.get(name, name) for name in fields_of_template(template or "")]
        self.template = {*names, *(name.partition(".")[0] for name in names)}  # columns that it names
        self.found: set[str] = set()  # our names in `columns` that some row had
        # What columns name wins over what a row has besides.
        ours = {*columns} & {name for needed in NEEDED[data_set] for name in needed}
        self.needed = [needed for needed in NEEDED[data_set] if ours <= {*needed}]
        self.by_columns = {} if ours else self.formats.BY_COLUMNS.get(data_set, {})
        self.lost = LOST | LOST_OF.get(data_set, frozenset())
        # Of rows that can have no other shape, by their columns' names: ours that are needed, and all that are read.
        self.plain: dict[tuple[str, ...], tuple[tuple[str, ...], set[str]]] = {}
        self.recognised: Counter[str] = Counter()  # rows, by their shape
        self.unused: Counter[str] = Counter()  # rows that have a value, by column or field of a turn

    def shape(self, given: Mapping[str, Any]) -> tuple[Row, Columns]:
        """A row of ours, and the source's row with what was read of it.

        Raises InputError where columns are missing, DefectiveError where the row cannot be trained on.
        """
        row, made = Columns(given, self.columns), given
        for ours, theirs in self.columns.items():
            if row.column(ours) in given:
                self.found.add(ours)
            elif ours not in BESIDE[self.data_set] or self.named:
                raise InputError(
                    f"data.{self.data_set}.columns in params.yaml names {theirs!r} as {ours}, which the row does not "
                    f"have; it has {', '.join(given) or 'no column'}."
                )
        if plan := self.plain.get((*given,)):
            name, needed, row.read = None, plan[0], plan[1].copy()
        else:
            name, needed = (self.named, ()) if self.named else self.told(row)
            made = self.formatted(name, row) if name else row
            needed = self.needed_of(name, made) if name else needed
        shaped = SHAPES[self.data_set](made, needed, row.unused)
        if name:
            # What it makes for another data set may well be left: gsm8k's solution, of sft.
            known = {*needed, *BESIDE[self.data_set], "completion", "solution"}
            for column in made:
                if column not in known:
                    self.require_meaningless(column, made)
                    if has_value(made[column]):
                        row.unused.add(column)
        for column in given:
            if column not in row.read and column not in self.template and files.has(given, column):
                self.require_meaningless(column, given)
                if self.data_set != "prompts":  # whose rewards are given it
                    row.unused.add(column)
        for column in row.in_part if self.data_set != "prompts" else ():
            self.check_rest(column, row)
        self.recognised[name or " + ".join(needed)] += 1
        if row.unused:  # which spares nearly all rows a slow call
            self.unused.update(row.unused)
        return shaped, row

    def formatted(self, name: str, row: Columns) -> Mapping[str, Any]:
        """The row that a format makes. Raises InputError where it cannot, DefectiveError where it leaves one out."""
        try:
            made: Mapping[str, Any] | None = getattr(self.formats, name)(row)
        except (InputError, DefectiveError):
            raise
        except NoColumnError as missing:
            raise InputError(
                f"the format {name} reads the column {missing.args[0]!r}, which the row does not have; it has "
                f"{', '.join(row) or 'no column'}. data.{self.data_set}.columns in params.yaml maps names to yours."
            ) from None
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f":{frame.lineno}" for frame in frames if frame.filename == self.formats.__file__]
            place = f"formats.py{lines[-1] if lines else ''}"
            raise InputError(f"the format {name} raised {type(error).__name__}: {error} ({place}).") from error
        if made is None:
            raise DefectiveError(f"left out by the format {name}")
        if not isinstance(made, Mapping):
            raise InputError(f"the format {name} returned {type(made).__name__}; a row is a map, or None.")
        return made

    def needed_of(self, name: str, made: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of our columns that the row of a format has. Raises InputError where they make none of the data set."""
        there = [needed for needed in NEEDED[self.data_set] if all(column in made for column in needed)]
        if not there:
            wanted = " or ".join(" + ".join(needed) for needed in NEEDED[self.data_set])
            raise InputError(
                f"the format {name} made a row of {', '.join(map(str, made)) or 'nothing'}; data/{self.data_set} needs "
                f"{wanted}."
            )
        return next((needed for needed in there if all(has_value(made[column]) for column in needed)), there[0])

    def told(self, row: Columns) -> tuple[str | None, tuple[str, ...]]:
        """The format that the columns of a row tell, or None and the columns of ours that it has."""
        if self.data_set == "preference" and any(is_transcript(row, one) for one in ("prompt", "chosen", "rejected")):
            return "hh_rlhf", ()
        found = [(name, needed) for name, needed in self.by_columns.items() if has_all(row, needed)][:1]
        whole = [(None, needed) for needed in self.needed if has_all(row, needed)]
        if len(whole) + len(found) > 1 and whole and whole[-1][1] == ("chosen", "rejected"):
            whole.pop()  # whose prompt stands beside them
        shapes: list[tuple[str | None, tuple[str, ...]]] = [*whole, *found]
        if len(shapes) > 1:
            several = " and ".join(" + ".join(needed) for _, needed in shapes)
            raise InputError(
                f"the row has the columns {several}, of which either would do; name those that are meant as "
                f"data.{self.data_set}.columns in params.yaml, as in {{{shapes[0][1][0]}: {shapes[0][1][0]}}}."
            )
        named = [(None, needed) for needed in self.needed] + [*self.by_columns.items()]
        empty = [(name, needed) for name, needed in named if all(column in row for column in needed)]
        if not (shapes or empty):
            wanted = " or ".join(" + ".join(needed) for needed in NEEDED[self.data_set])
            single = " A label on single answers does not do: a pair is two answers to one prompt."
            raise InputError(
                f"the row has the columns {', '.join(row) or '(none)'}; data/{self.data_set} needs {wanted}."
                f"{single if 'label' in row and self.data_set == 'preference' else ''} "
                f"data.{self.data_set}.columns in params.yaml maps these names to yours, as in {{{self.needed[0][0]}: "
                f"{next(iter(row), 'yours')}}}, and data.{self.data_set}.format names a function of llmrl/formats.py."
            )
        told = (shapes or empty)[0]
        there = [needed for needed in (*self.needed, *self.by_columns.values()) if all(name in row for name in needed)]
        if there == [told[1]] and told[0] is None and not self.columns and self.data_set != "preference":
            read = {name for name in row if name in (*told[1], *BESIDE[self.data_set])}
            self.plain[(*row.row,)] = told[1], read
        return told

    def check_rest(self, column: str, row: Columns) -> None:
        """Account for the other fields of a column of which some were read."""
        value, read = row.row[column], {*row.names.values()}
        for field in value if isinstance(value, Mapping) else ():
            theirs = f"{column}.{field}"
            if not any(f"{one}.".startswith(f"{theirs}.") for one in read) and has_value(value[field]):
                self.require_meaningless(field, value)
                row.unused.add(theirs)

    def require_meaningless(self, column: str, row: Mapping[str, Any]) -> None:
        """Raise DefectiveError where a column that nobody reads changes what the row means."""
        if column in self.lost and has_value(row[column]) and str(row[column]).lower() not in WEIGHT_OF_ONE:
            if column in MEDIA:
                raise DefectiveError(f"{column}, which cannot be trained on")
            raise DefectiveError(f"{column}, which would be lost")
        if column == "label" and self.data_set == "sft" and str(row[column]).lower() == "false":
            raise DefectiveError("an answer whose label is false")


def has_all(row: Columns, needed: Iterable[str]) -> bool:
    """Whether a row has values in all these columns."""
    return all(name in row and row.has(name) for name in needed)


def is_transcript(row: Columns, side: str) -> bool:
    text = row.peek(side)
    begins = isinstance(text, str) and text.startswith(("\n\nHuman:", "Human:"))
    return begins and (text.startswith("\n") or "\n\nAssistant:" in text)
