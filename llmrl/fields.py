"""What a setting may be, and reading a section of params.yaml: types, bounds and choices stand on a dataclass's fields.

    batch: Annotated[int, at_least(1), "sequences an optimizer step"]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

The text is the setting's line in docs/settings.md.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

Keys = tuple[str | int, ...]  # names of sections, and places in lists
Found = Iterator[tuple[Keys, str]]  # a setting, and what is wrong with it
Kinds = tuple[type, ...] | None  # the YAML types of a value; None admits any
Unknown = Callable[[Keys, Any, "dict[str, Field]"], str]  # of a name and its value, and what its section knows

NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")
ENGLISH = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a map", list: "a list"}
LARGEST, LARGEST_FLOAT = 2**63 - 1, 3.4e38  # of numbers that torch computes with


@dataclass(frozen=True)
class Bound:
    """What a number must be: `right` says it, `wrong` what one is for which `holds` is false."""

    holds: Callable[[float], bool]
    right: str
    wrong: str


def at_least(least: float) -> Bound:
    return Bound(lambda value: value >= least, f"at least {least:g}", f"is less than {least:g}")


def above(limit: float) -> Bound:
    return Bound(lambda value: value > limit, f"greater than {limit:g}", f"is not greater than {limit:g}")


def at_most(most: int) -> Bound:
    return Bound(lambda value: value <= most, f"at most {most}", f"is greater than {most}")


SHARE = Bound(lambda value: 0 <= value <= 1, "between 0 and 1", "is not between 0 and 1")
BELOW_ONE = Bound(lambda value: 0 <= value < 1, "at least 0 and less than 1", "is not at least 0 and less than 1")
# Training draws by Python, NumPy and torch; NumPy takes the least.
SEED = Bound(
    lambda value: value < 2**32, f"at most {2**32 - 1}", f"is greater than {2**32 - 1}, the most that NumPy takes"
)


@dataclass(frozen=True)
class Field:
    """What is known of a setting; `default` is ... where it must be given, `inner` the dataclass that its map, or each
    map in its list, makes, and `items` are the types of what else its map or list holds.
    """

    kinds: Kinds
    bounds: tuple[Bound, ...] = ()
    choices: tuple[str, ...] = ()
    default: Any = ...
    note: str = ""
    inner: Any = None
    items: Kinds = None


@cache
def fields_of(cls: type) -> dict[str, Field]:
    """The settings of a section, which a dataclass declares."""
    hints, found = typing.get_type_hints(cls, include_extras=True), {}
    for one in fields(cls):
        hint, extras = hints[one.name], list[Any]()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
        kinds, choices, inner, items = list[type](), list[str](), None, None
        alternatives = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
        for part in alternatives:
            plain, arguments = typing.get_origin(part) or part, typing.get_args(part)
            if plain is typing.Literal:
                kinds.append(str)
                choices += arguments
            else:
                kinds += [dict] if is_dataclass(plain) else [int, float] if plain is float else [plain]
                inner = next((made for made in (plain, *arguments) if is_dataclass(made)), inner)
                choices += [one for made in arguments for one in typing.get_args(made) if plain is list]
                if arguments:  # of a map the last is its values'
                    items = {str: (str,), float: (int, float)}.get(arguments[-1], items)
        bounds = tuple(extra for extra in extras if isinstance(extra, Bound))
        note = " ".join(extra for extra in extras if isinstance(extra, str))
        default = one.default if one.default_factory is MISSING else one.default_factory()
        default = ... if default is MISSING else default
        found[one.name] = Field(tuple(kinds), bounds, tuple(choices), default, note, inner, items)
    return found


def from_section(cls: Any, section: dict[str, Any]) -> Any:
    """A checked section as its dataclass, with those below it."""
    values = dict(section)
    for name, value in section.items():
        inner = fields_of(cls)[name].inner
        if inner and isinstance(value, dict):
            values[name] = from_section(inner, value)
        elif inner and isinstance(value, list):
            values[name] = [from_section(inner, part) for part in value]
    return cls(**values)


def wrong(known: dict[str, Field], section: dict[str, Any], unknown: Unknown, keys: Keys = ()) -> Found:
    """What is missing in a section, each name in it that is not known, of which `unknown` tells what is wrong, and each
    value that a setting cannot have; so of the sections below it.
    """
    for name, field in known.items():
        if field.default is ... and name not in section:
            yield (*keys, name), " is missing."
    for name, value in section.items():
        here: Keys = (*keys, name)
        if name not in known:
            yield here, unknown(here, value, known)
        elif reason := refusal(value, known[name]):
            yield here, f": {reason}"
        elif inner := known[name].inner:
            if isinstance(value, dict):
                yield from wrong(fields_of(inner), value, unknown, here)
            for place, part in enumerate(value) if isinstance(value, list) else ():
                if isinstance(part, dict):
                    yield from wrong(fields_of(inner), part, unknown, (*here, place))
        else:
            yield from within(value, Field(known[name].items), here)


def within(value: Any, field: Field, keys: Keys) -> Found:
    """What is wrong with what a map or a list holds, which is of the field's type, and with what that holds."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for place, part in items:
        if reason := refusal(part, field):
            yield (*keys, place), f": {reason}"
        else:
            yield from within(part, Field(None), (*keys, place))


def refusal(value: Any, field: Field) -> str | None:
    """What is wrong with a value, or None: its type, its choice, its size."""
    if field.kinds is None and not isinstance(value, str | int | float | dict | list | None):
        return f"{as_yaml(value)} is {english(type(value))}; a text that looks like one is written in quotes."
    allowed = [kind for kind in field.kinds or () if not (kind is int and float in (field.kinds or ()))]
    number = isinstance(value, str) and NUMBER.fullmatch(value) and (int in allowed or float in allowed)
    unquoted = "; write it without quotes" if number else ""
    if not fits(value, field.kinds):
        words = [field.choices[0] if kind is str and len(field.choices) == 1 else english(kind) for kind in allowed]
        return f"{as_yaml(value)} is {english(type(value))}, not {' or '.join(words)}{unquoted}."
    if value == [] and field.choices:
        return f"[] is empty; name one or several of {', '.join(field.choices)}."
    for one in many(value) if field.choices else ():
        if one not in field.choices and not (fits(one, field.kinds) and fits(one, (int, float, bool))):
            others = [english(kind) for kind in allowed if kind in (bool, int, float)]
            first, *more = [*field.choices, *others]
            right = f"none of {', '.join(field.choices)}"
            if len(field.choices) == 1:
                right = f"neither {first} nor {' or '.join(more)}" if more else f"not {first}"
            return f"{as_yaml(one)} is {right}{unquoted}.{meant(one, field.choices)}"
    if fits(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return f"{as_yaml(value)} is not finite."
        most, bits = (LARGEST_FLOAT, 32) if isinstance(value, float) else (LARGEST, 64)
        if abs(value) > most:
            return f"{as_yaml(value):.40} is more than {bits} bits hold."
        return next((f"{as_yaml(value)} {bound.wrong}." for bound in field.bounds if not bound.holds(value)), None)
    return None


def fits(value: Any, allowed: Kinds) -> bool:
    """Whether a value is of one of the types."""
    # YAML's true is an int to Python, and no number to a user.
    return allowed is None or (bool in allowed if isinstance(value, bool) else isinstance(value, allowed))


def many(value: Any) -> list[Any]:
    """A list as it stands, nothing as no value, anything else as one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def meant(name: Any, valid: Iterable[str], prefix: str = "") -> str:
    """A question for the nearest valid name, where one is near."""
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f" Did you mean {prefix}{near[0]}?" if near else ""


def as_yaml(value: Any) -> str:
    """A value as YAML has it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def english(kind: type) -> str:
    return (ENGLISH | {type(None): "null"}).get(kind, f"a {kind.__name__}")
