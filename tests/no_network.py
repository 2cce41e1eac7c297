"""An environment whose Python processes reach nothing, and leave a note of each that tries."""

from __future__ import annotations

import os
from pathlib import Path

GUARD = """
import socket, sys

connect = socket.socket.connect

def refuse(*arguments, **_):
    with open({attempts!r}, "a") as file:
        print(sys.argv, arguments, file=file)
    raise OSError("no network here")

def to_a_file_alone(self, address):
    return connect(self, address) if self.family == socket.AF_UNIX else refuse(self, address)

socket.socket.connect = socket.socket.connect_ex = to_a_file_alone
socket.getaddrinfo = refuse
"""


class NoNetwork:
    """`environment`, in which nobody but the guard forbids anything; what tried is in the file `attempts`."""

    def __init__(self, folder: Path) -> None:
        self.attempts, self.home = folder / "attempts", folder / "home"
        (folder / "sitecustomize.py").write_text(GUARD.format(attempts=str(self.attempts)))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        self.environment = inherited | {"PYTHONPATH": str(folder), "HF_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
