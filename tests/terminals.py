"""A terminal for a command, and what it shows there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path


def shown_on_a_terminal(*command: str, cwd: Path, environment: Mapping[str, str], columns: int = 160) -> str:
    """All that a command writes to a terminal, which must end well."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    wide = {**environment, "COLUMNS": str(columns), "TERM": "xterm"}  # which counts before the terminal's own width
    process = subprocess.Popen(command, cwd=cwd, env=wide, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # its end
        while some := os.read(ours, 2**16):
            shown += some
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()
