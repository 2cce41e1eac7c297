"""Runs modules as `python -m` does, each run in a fork of one process that has already imported what takes long."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVER = """
import json, os, runpy, sys, time, traceback
exec(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(asked["output"], name), os.O_CREAT | os.O_WRONLY), number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[0], sys.argv = asked["folder"], asked["command"]
    time.sleep = lambda _: None  # the Hub's client waits before it asks again
    sys.modules.pop(sys.argv[0], None)  # or runpy warns
    status = 0
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)  # tidying up all that was imported takes longer than the run
"""


class Forks:
    """A process that has run `imports`, in an environment of which each run may change what is read later."""

    def __init__(self, imports: str, environment: dict[str, str]) -> None:
        self.environment = environment
        self.process = subprocess.Popen(
            (sys.executable, "-c", SERVER, imports),
            cwd="/",  # where there is no .env
            env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a module with its arguments in a folder."""
        with tempfile.TemporaryDirectory() as output:
            asked = {"folder": str(folder), "command": command, "output": output}
            print(json.dumps(asked | {"environment": self.environment | settings}), file=self.process.stdin, flush=True)
            status = int(self.process.stdout.readline())
            said = [(Path(output) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(command, status, *said)

    def close(self) -> None:
        """End it."""
        self.process.communicate()
