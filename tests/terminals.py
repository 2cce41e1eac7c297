"""A terminal for a command, and what it shows there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import tempfile
import termios
from collections.abc import Mapping
from pathlib import Path

# A command's Python draws a bar whenever it is told of something, and not ten times a second: what there is for less
# than that is shown, too, however fast the machine.
DRAWN_AT_ONCE = """
from rich.progress import Progress

update = Progress.update
Progress.update = lambda self, *given, **named: update(self, *given, **named, refresh=True)
"""


def shown_on_a_terminal(*command: str, cwd: Path, environment: Mapping[str, str], columns: int = 160) -> str:
    """All that a command writes to a terminal, which must end well."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    wide = {**environment, "COLUMNS": str(columns), "TERM": "xterm"}  # which counts before the terminal's own width
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(DRAWN_AT_ONCE)
        wide["PYTHONPATH"] = f"{folder}:{environment.get('PYTHONPATH', '')}".rstrip(":")
        process = subprocess.Popen(command, cwd=cwd, env=wide, stdout=its, stderr=its)
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # its end
            while some := os.read(ours, 2**16):
                shown += some
        os.close(ours)
        ended = process.wait()
    assert ended == 0, shown.decode()
    return shown.decode()
