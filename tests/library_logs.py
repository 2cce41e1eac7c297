"""What transformers logs, which its own handler writes past whatever pytest captures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as theirs


class Heard(logging.Handler):
    """Keeps the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def logged_by_transformers() -> Iterator[list[str]]:
    """The messages that a terminal would show, within; those of which there is one a process, too."""
    theirs.warning_once.cache_clear()
    heard, logger = Heard(), theirs.get_logger("transformers")
    logger.addHandler(heard)
    try:
        yield heard.messages
    finally:
        logger.removeHandler(heard)
