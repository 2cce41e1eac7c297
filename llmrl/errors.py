"""The one way to say that what the user gave cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """What is wrong, where (file, key, line, row), and what would be right, in words meant for the user."""


@contextmanager
def reported() -> Iterator[None]:
    """End the process with the message of an `InputError` on stderr and exit status 2, without a traceback."""
    try:
        yield
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
