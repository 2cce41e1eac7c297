"""The one way to say that what the user gave, or the machine has, cannot be used."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from llmrl import started

# What a disk can refuse, and what may help.
DISK = {
    errno.ENOSPC: "no space is left on the disk; free some (runs/, `dvc gc --all-commits --all-experiments`)",
    errno.EDQUOT: "your disk quota is used up; free some (runs/, `dvc gc --all-commits --all-experiments`)",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "permission is denied; make it yours (chown, chmod)",
    errno.EPERM: "the operation is not permitted; make it yours (chown, chmod, chattr)",
}
NUMBER = re.compile(r"(?:os error|code:|errno) (\d+)", re.IGNORECASE)  # as safetensors and pyarrow have it in texts


class InputError(Exception):
    """What is wrong, where (file, key, line, row), and what would be right, in words meant for the user."""


class DefectiveError(Exception):
    """A row of data that cannot be trained on; its message is the reason it is counted under."""


@contextmanager
def reported() -> Iterator[None]:
    """End the process with the message of an `InputError`, or of a disk that refuses, on stderr and exit status 2,
    without a traceback.
    """
    try:
        yield
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (text := refused(error)) is None:
            raise
        print(f"{text}. Nothing is half-written; then {started.again()} goes on.", file=sys.stderr)
        sys.exit(2)


def refused(error: BaseException | None) -> str | None:
    """What a disk refused, in words, where that is at the bottom of an error."""
    while error is not None:
        said = NUMBER.search(str(error))
        number = getattr(error, "errno", None) or (said and int(said[1]))
        if number in DISK:
            return f"{getattr(error, 'filename', None) or 'writing'}: {DISK[number]}"
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):  # torch.save does not say why
            return f"writing a checkpoint: {DISK[errno.ENOSPC]}"
        error = error.__cause__ or error.__context__
    return None
