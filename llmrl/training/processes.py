"""The processes that run a stage: how many params.yaml starts, which of them this one is, and what they agree on.

A stage under torchrun is N equal processes with a device each. The first writes all there is to write: checkpoints, the
model, figures, the run's folder. What one alone knows (a clock, a signal) decides nothing before all know it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmrl.errors import InputError

if TYPE_CHECKING:
    import torch

LAUNCHERS = re.compile(r"\b(torchrun|torch\.distributed\.run|accelerate)\b")
SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # as accelerate names them in its launcher's variables
COPIES = (
    "as yet only copies of the model that share their gradients (DDP) were tried, as torchrun gives them: "
    "no FSDP, no DeepSpeed."
)
# While the first waits for a device, or measures answers alone, the others wait for it.
PATIENCE = timedelta(days=30)
ECHO = 2.0  # seconds within which torchrun tells the processes of a stage that one of them has ended


def count(command: str) -> int:
    """The processes that a launcher starts, in all.

    >>> count("python"), count("torchrun --nnodes=2 --nproc_per_node=4")
    (1, 8)

    Raises InputError where it, or the config file of accelerate's that it names, says none, or leaves the number to the
    machine: the sums of a step depend on it.
    """
    if not LAUNCHERS.search(command):
        return 1
    given = {name.replace("-", "_"): value for name, value in re.findall(r"--([\w-]+)[= ](?!-)(\S+)", command)}
    each, nodes = given.get("nproc_per_node", given.get("num_processes")), given.get("nnodes", "1")
    if each is None and (file := given.get("config_file")):
        try:
            return int(yaml.safe_load(Path(file).read_text())["num_processes"])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise InputError(f"num_processes of {file} cannot be read: {error!r}") from None
    if not (each and each.isdigit() and nodes.isdigit()):
        raise InputError("say how many processes it starts, as in torchrun --standalone --nproc_per_node=2")
    return int(each) * int(nodes)


def world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def devices() -> int | None:
    """How many devices the processes of this machine take together; None for all but its first, which has them held."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if os.environ.get("LOCAL_RANK", "0") == "0" else None


def require(expected: int) -> None:
    """Raise InputError where other than the expected processes were started, or to share more than gradients."""
    for name in SHARDED:
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":  # on CPUs it trains copies all the same
            raise InputError(f"params.yaml: launch asks for {name}; {COPIES}")
    if world() != expected:
        raise InputError(
            f"params.yaml: launch asks for {expected} processes and {world()} was started (WORLD_SIZE): "
            "`accelerate launch --cpu` starts one whatever it is told, torchrun --standalone --nproc_per_node=N as "
            "many as it says; a stage that is started by hand needs the same launcher."
        )


@contextmanager
def one_voice() -> Iterator[None]:
    """Leave it to the first process to say what is wrong: where that is wrong for it too, torchrun ends the others
    while they wait.
    """
    try:
        yield
    except InputError:
        if not first():
            time.sleep(ECHO)
        raise


def join(kind: str) -> None:
    """Meet the other processes; `kind` of device decides how they talk."""
    if world() == 1:
        return
    from accelerate import PartialState

    if kind == "cpu":
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"  # else it numbers CPUs, and torch.load knows no cpu:0
    state = PartialState(cpu=kind == "cpu", timeout=PATIENCE)
    if state.num_processes != world():
        raise InputError(f"{world()} processes were started and {state.num_processes} have met.")


def require_shared(model: torch.nn.Module) -> None:
    """Raise InputError where several processes would train, but not one model by the mean of their gradients."""
    if world() == 1:
        return
    from torch.nn.parallel import DistributedDataParallel

    if not isinstance(model, DistributedDataParallel):
        raise InputError(f"params.yaml: launch: {world()} processes would train a {type(model).__name__}; {COPIES}")


def wait() -> None:
    """Go on when all have come here."""
    gathered(None)


def gathered(value: Any) -> list[Any]:
    """What every process has, by rank, in all of them."""
    if world() == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Each flag, raised where any process has raised it."""
    return tuple(any(each) for each in zip(*gathered(flags), strict=True))
