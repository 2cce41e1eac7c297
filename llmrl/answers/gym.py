"""The package reasoning-gym, in a process of its own: its tasks, their entries and what their scorers say of an answer.

    {"do": "entry", "task": "chain_sum", "options": {"min_terms": 2}, "seed": 1, "index": 0}
      -> {"question": "State the final answer to …", "answer": "-4", "digest": "5f3c…"}

An entry depends on its task, options, seed and index alone. In this process it would not: some tasks draw from random
numbers that are everybody's, or seed them anew, and some go through sets, whose order each process has for itself. And
scorers are given whatever a model writes: some hand it to `eval`, some work without bound. So what could call anything
is not handed to those that evaluate, and one that works for too long is ended and has found it wrong.
https://github.com/open-thought/reasoning-gym
"""

from __future__ import annotations

import atexit
import copy
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from llmrl.errors import InputError

NAME, PACKAGE = "reasoning_gym", "reasoning-gym"
SIZE = 1000  # entries of one seed, on whose number some tasks' depend; one task makes all of them at once
SECONDS = 5  # of a processor, which no scorer needs for an answer that is meant as one
MAX_CHARACTERS = 10_000  # of an answer; the longest of the tasks' own, a board, has some 2,000
MEMORY = 8 << 30  # bytes that the process may ask for
FULL = 1 - 1e-9  # what a right answer is given at least
TOO_MUCH = (-signal.SIGPROF, -signal.SIGSEGV)  # how it ends where a scorer works for too long, or in too deep a nest
# Which scorers evaluate an answer: as Python, where nothing is called without a parenthesis; as sympy does, which is
# Python too, where functions of mathematics alone may be called.
PYTHON = {"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"}
SYMPY = {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
FUNCTIONS = {"sqrt", "exp", "log", "ln", "Abs", "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh"}
FUNCTIONS |= {f"a{name}" for name in FUNCTIONS if name[:3] in ("sin", "cos", "tan", "sec", "csc", "cot")}
FORMULA = re.compile(r"(?:[\s+\-*/^(),!]|\d+(?:\.\d*)?|(?<![\w.])[A-Za-z]\w*)+", re.ASCII)


def version() -> str:
    """That of the package. Raises InputError where it is not installed."""
    if importlib.util.find_spec(NAME) is None:
        raise InputError(f"{PACKAGE} is not installed in {sys.prefix}: `make reasoning-gym` installs it.")
    return importlib.metadata.version(PACKAGE)


def tasks() -> list[str]:
    """The names of the tasks. Raises InputError where the package is not installed."""
    return ask(do="tasks")["tasks"]


def options(task: str) -> list[str]:
    """The names of a task's options. Raises InputError where the package is not installed."""
    return ask(do="options", task=task)["options"]


def why_not(task: str, options: dict[str, Any]) -> str | None:
    """Why a task does not take these options, in its words, if it does not."""
    return ask(do="refusal", task=task, options=options)["refusal"]


def entry(task: str, options: dict[str, Any], seed: int, index: int) -> dict[str, Any]:
    """A `question`, the `answer` that the task has for it, if any, and the `digest` of both.

    Raises InputError where the task can make none of these options.
    """
    found = ask(do="entry", task=task, options=options, seed=seed, index=index)
    if "error" in found:
        raise InputError(f"{NAME}:{task} makes no entry {index} of options {options}: {found['error']}")
    return found


def score(task: str, options: dict[str, Any], seed: int, index: int, answer: str) -> tuple[float, str]:
    """What a task's scorer gives an answer to an entry, from 0 to 1, and the entry's digest. 0 also where the scorer
    raises, works for too long, or would run what it is given.
    """
    return points_of(json.dumps([task, options, seed, index]), answer)


@lru_cache(maxsize=2**14)
def points_of(key: str, answer: str) -> tuple[float, str]:
    known = dict(zip(("task", "options", "seed", "index"), json.loads(key), strict=True))
    digest = entry(**known)["digest"]  # first, as an entry may take its time
    found = ask(**known, do="score", answer=answer) if len(answer) <= MAX_CHARACTERS else {"score": 0.0}
    return found.get("score", 0.0), digest


def ask(**request: Any) -> dict[str, Any]:
    """The reply to a request; none where a scorer was ended. Raises InputError where the process cannot be asked."""
    working = started()
    assert working.stdin
    assert working.stdout
    with suppress(BrokenPipeError):  # somebody has ended it: said below, as where it ends at this request
        working.stdin.write(json.dumps(request, default=str) + "\n")
        working.stdin.flush()
    if reply := working.stdout.readline():
        found: dict[str, Any] = json.loads(reply)
        return found
    started.cache_clear()
    if (status := working.wait()) not in TOO_MUCH:
        raise InputError(f"{PACKAGE} {version()} ended at {request} with exit status {status}.")
    return {}


@cache
def started() -> subprocess.Popen[str]:
    """The process, which waits for requests. It ends with this one, and is told no signal: what it was asked would
    otherwise be found wrong when a stage is told to end.
    """
    version()
    command = [sys.executable, "-W", "ignore", "-m", __name__]
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    working = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    atexit.register(closed, working)
    return working


def closed(working: subprocess.Popen[str]) -> None:
    """End the process, which ends by itself when there is nothing more to read."""
    assert working.stdin
    assert working.stdout
    with suppress(BrokenPipeError):  # where it has ended already
        working.stdin.close()
    working.wait()
    working.stdout.close()


def serve() -> None:
    """Reply to requests, a line each, until there are no more: what the process does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some tasks print
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        replies.write(json.dumps(reply(json.loads(line))) + "\n")
        replies.flush()


def reply(request: dict[str, Any]) -> dict[str, Any]:
    from reasoning_gym.factory import DATASETS

    if request["do"] == "tasks":
        return {"tasks": sorted({*DATASETS} - {"composite"})}  # a mixture, as a list of sources is here
    task, known = request["task"], DATASETS[request["task"]][1].__dataclass_fields__
    if request["do"] == "options":
        return {"options": [name for name in known if name not in ("seed", "size")]}
    given = json.dumps(request["options"])
    if request["do"] == "refusal":
        try:
            data_set_of(task, given, 0)
        except Exception as error:
            return {"refusal": str(error) or type(error).__name__}
        return {"refusal": None}
    try:
        found, digest = remade(task, given, request["seed"], request["index"])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if request["do"] == "entry":
        return {"question": found["question"], "answer": found["answer"], "digest": digest}
    dataset = data_set_of(task, given, request["seed"] + request["index"] // SIZE * SIZE)
    return {"score": limited(task, dataset, found, request["answer"])}


MADE: dict[str, tuple[str, dict[int, Any]]] = {}


def data_set_of(task: str, options: str, seed: int) -> Any:
    """The data set of a task and a seed. Of one task those of the same options alone: codeio's share what they read."""
    from reasoning_gym import create_dataset

    if MADE.get(task, ("",))[0] != options:
        MADE[task] = options, {}
    seeds = MADE[task][1]
    if seed not in seeds:
        seeds[seed] = create_dataset(task, seed=seed, size=SIZE, **json.loads(options))
    return seeds[seed]


@lru_cache(maxsize=2**12)
def remade(task: str, options: str, seed: int, index: int) -> tuple[dict[str, Any], str]:
    """An entry, and its digest. Of a seed's entries each begins at the seed and its place among them: the next seed
    that has others is the one SIZE further.
    """
    random.seed(seed + index)  # which one task draws from
    found = data_set_of(task, options, seed + index // SIZE * SIZE)[index % SIZE]
    said = json.dumps([found["question"], found["answer"]])
    return found, hashlib.sha256(said.encode()).hexdigest()[:16]


def limited(task: str, dataset: Any, found: dict[str, Any], answer: str) -> float:
    """What the scorer gives, within bounds: of what it may evaluate and for how long. The system ends the process
    beyond SECONDS, as no exception could within the arithmetic of large numbers.
    """
    if not harmless(task, answer, str(found["answer"])):
        return 0.0
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        given = 0.0 if misleads(task, answer, found) else float(dataset.score_answer(answer, copy.deepcopy(found)))
    except Exception:
        return 0.0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return min(1.0, max(0.0, given)) if math.isfinite(given) else 0.0


def harmless(task: str, answer: str, known: str) -> bool:
    """Whether a scorer may be given an answer: what it evaluates calls nothing but functions of mathematics, and such
    as stand in the task's own answer.
    """
    if task in PYTHON:
        return "(" not in answer
    names = {*re.findall(r"[A-Za-z_]\w*", answer)}
    of_mathematics = FUNCTIONS | {*re.findall(r"[A-Za-z]\w*", known)}
    return task not in SYMPY or (
        FORMULA.fullmatch(answer) is not None and all(len(name) == 1 or name in of_mathematics for name in names)
    )


def misleads(task: str, answer: str, found: dict[str, Any]) -> bool:
    """Whether a scorer may take an answer for right that is not: a number that only begins as the right one does, any
    text for a truth value, any four numbers that make 24, and what is no number.
    """
    known = str(found["answer"])
    if task == "coin_flip":
        return abs(Fraction(answer) - Fraction(known)) > Fraction(1, 10_000)
    if task == "complex_arithmetic":
        return "nan" in answer.lower()
    if task == "game_of_life_halting":
        return answer.strip().lower() != known.lower()
    if task == "puzzle24":
        return sorted(map(int, re.findall(r"\d+", answer))) != sorted(found["metadata"]["numbers"])
    return False


if __name__ == "__main__":
    serve()
