"""How a run ends early: by a signal, or because the DVC that started it is gone.

While it trains, a run is asked to stop: it ends its step and writes a checkpoint, if that takes no longer than its
grace. Everywhere else it stops at once; nothing that has a name is half-written.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from llmrl import started
from llmrl.errors import InputError
from llmrl.training import processes

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
POLL = 0.5  # seconds between two looks at what other processes do
FORCE = re.compile(r"--force|-[a-zA-Z]*f[a-zA-Z]*")  # of DVC, also as one of several letters
PARENT = os.getppid()  # who started this process: read at once, as it may be gone before anything else is done


class StoppedError(BaseException):
    """A signal ended the run. Not an Exception: nothing shall take it for a failure that can be handled."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(signal.Signals(number).name)


class Stop:
    """The wish to stop, and how long the run may take to follow it."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.again = started.again()  # asked at once: the DVC may be gone when it is to be said
        self.goes_on: Callable[[], str] = lambda: "begins this stage anew"
        self.asked: StoppedError | None = None
        self.within_step = False

    def hear(self, number: int, _: FrameType | None) -> None:
        """A signal: stop at once, or where a step can still be ended, after that."""
        again, self.asked = self.asked, StoppedError(number)
        # A launcher passes on what its processes may have had already, and kills them if they take too long.
        if not self.within_step or (again and processes.world() == 1):
            raise self.asked
        threading.Thread(target=self.wait, args=(self.asked,), daemon=True).start()

    def say(self, stopped: StoppedError) -> None:
        """Tell that the run is stopped, and how the next one goes on."""
        if processes.first():
            print(f"stopped by {stopped}; {self.again} {self.goes_on()}", file=sys.stderr, flush=True)

    def ask(self) -> None:
        """Have the run stop as if a signal had come, as it has to another of its processes."""
        self.asked = self.asked or StoppedError(signal.SIGTERM)

    def wait(self, asked: StoppedError) -> None:
        """End the process, whatever it is doing, when the grace is over."""
        time.sleep(self.grace)
        if self.within_step:
            self.say(asked)
            os._exit(asked.status)

    @contextmanager
    def after_step(self) -> Iterator[None]:
        """Within, a signal only asks to stop; who trains looks at `asked`. Raises StoppedError at the end."""
        self.within_step = True
        try:
            yield
        finally:
            self.within_step = False
        if self.asked:
            raise self.asked


@contextmanager
def heard(grace: float) -> Iterator[Stop]:
    """Listen to signals, and to the end of the DVC above; `grace` is in seconds.

    A run that is stopped ends with one line and a shell's status for a signal.
    """
    stop = Stop(grace)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop.hear)
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=follow, args=(stop,), daemon=True).start()
    try:
        try:
            yield stop
        except Exception as error:
            # It may but echo the end of another process of the stage: the launcher then tells.
            echo = processes.world() > 1 and not isinstance(error, InputError)
            if echo and not stop.asked:
                time.sleep(processes.ECHO)
            if echo and stop.asked:
                raise stop.asked from None
            raise
    except StoppedError as stopped:
        stop.say(stopped)
        sys.exit(stopped.status)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked_for() -> bool:
    """Whether a stage is to train whatever there is: it was started by hand, or by a DVC that was told to --force."""
    pid = started.dvc()
    with suppress(psutil.Error):
        return pid is None or any(FORCE.fullmatch(word) for word in psutil.Process(pid).cmdline())
    return False


def follow(stop: Stop) -> None:
    """Send this process SIGTERM when one above it, up to DVC, has ended: it shall not train on as an orphan."""
    chain = started.by_dvc()
    parents = [PARENT, *(started.parent(process) for process in chain[1:])]
    while None not in parents and parents == [started.parent(process) for process in chain]:
        time.sleep(POLL)
    if not stop.asked:
        os.kill(os.getpid(), signal.SIGTERM)
