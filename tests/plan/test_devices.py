"""What the driver's own tool says of the GPUs, and where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from clone import Clone, micro_clone

from llmrl import devices
from llmrl.session import locks

A, B = "GPU-8f2c41d6-d33d-2b2c-524d-9e3d8d2b8a77", "GPU-8e90aa17-68b6-5900-d7d1-74026173bb44"
TWO = f"GPU 0: NVIDIA GeForce GTX 1080 (UUID: {A})\nGPU 1: NVIDIA H200 (UUID: {B})"
ONE = f"GPU 0: NVIDIA H200 (UUID: {A})"
LOST = f"Unable to determine the device handle for GPU0: 0000:05:00.0: Unknown Error\nGPU 1: NVIDIA H200 (UUID: {B})"
SLICE, OTHER = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"
CUT = f"""GPU 0: NVIDIA A100-SXM4-80GB (UUID: {A})
  MIG 3g.40gb     Device  0: (UUID: {SLICE})
  MIG 1c.2g.20gb  Device  1: (UUID: {OTHER})
GPU 1: NVIDIA A100-SXM4-80GB (UUID: {B})"""
OF_OLD = f"MIG-{A}/1/0"
CUT_OF_OLD = f"GPU 0: A100-SXM4-40GB (UUID: {A})\n  MIG 1g.5gb Device 0: (UUID: {OF_OLD})"
MISMATCH = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"
NO_DRIVER = """
echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA"
echo 'driver is installed and running.'
exit 9
"""
NO_GPUS = "echo 'No devices found.'"
HANGS = "exec sleep 60"
NEXT = "from llmrl.session import locks\nwith locks.device('sft'): print('held', flush=True); input()"
SEVERAL = {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}


ASKED = "--query-gpu=compute_cap,memory.free,memory.total --format=csv,noheader,nounits"


def working(listed: str, answer: str = "9.0, 143000, 143771", status: int = 0) -> str:
    """A tool that lists its GPUs and answers for each of them by its UUID, not by a slice's."""
    return f"""
case "$*" in
  -L) cat <<'END'
{listed}
END
  ;;
  "-i GPU-"*" {ASKED}") echo '{answer}'; exit {status} ;;
  *) echo 'No devices were found'; exit 6 ;;
esac
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in the place of nvidia-smi."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "")  # or what the test sets would stay
        monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def put(script: str) -> None:
        (tmp_path / "bin/nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin/nvidia-smi").chmod(0o755)
        devices.cards.cache_clear()

    yield put
    devices.cards.cache_clear()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """The micro experiment."""
    return micro_clone(tmp_path / "clone")


def names(monkeypatch: pytest.MonkeyPatch, visible: str | None) -> list[str]:
    """The devices where CUDA_VISIBLE_DEVICES is so."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return devices.visible()


@pytest.mark.parametrize(
    ("script", "visible", "expected", "kind"),
    [
        (working(TWO), None, [A, B], "cuda"),
        (working(TWO), "1,0", [B, A], "cuda"),
        (working(TWO), " 1", [B], "cuda"),
        (working(TWO), "GPU-8f2", [A], "cuda"),
        (working(TWO), "GPU-8", [], "cpu"),
        (working(TWO), f"{B},", [B], "cuda"),
        (working(TWO), "0,-1,1", [A], "cuda"),
        (working(TWO), "0,7,1", [A], "cuda"),
        (working(TWO), ",1", [], "cpu"),
        (working(TWO), "1,1", [], "cpu"),
        (working(TWO), "GPU-c", [], "cpu"),
        (working(TWO), "-1", [], "cpu"),
        (working(TWO), "", [], "cpu"),
        (working(LOST), "1", [B], "cuda"),
        (working(LOST), "0", [], "cpu"),
        (MISMATCH, None, [], "cpu"),
        (NO_DRIVER, None, [], "cpu"),
        (NO_GPUS, None, [], "cpu"),
        (NO_DRIVER, "0,GPU-8f2,-1,2", ["0", "GPU-8f2"], "cpu"),
    ],
)
def test_what_the_tool_answers(tool, monkeypatch, script, visible, expected, kind):
    """A card has one name, whatever CUDA_VISIBLE_DEVICES calls it; complaints of the tool's are no GPUs."""
    tool(script)

    assert expected == names(monkeypatch, visible)
    assert kind == devices.machine().kind


@pytest.mark.parametrize(
    ("listed", "visible", "expected"),
    [
        (CUT, None, [SLICE, OTHER, B]),
        (CUT, OTHER, [OTHER]),
        (CUT, f"{OTHER},{SLICE}", [OTHER, SLICE]),
        (CUT, "0", [SLICE]),
        (CUT, "GPU-8f2c", [SLICE]),
        (CUT, OF_OLD, [OF_OLD]),
        (CUT, "MIG-c6d4f1ef", []),
        (CUT_OF_OLD, None, [OF_OLD]),
        (TWO, SLICE, []),
    ],
)
def test_slices(tool, monkeypatch, listed, visible, expected):
    """Those of a card that is cut are devices, in its place; the card's own names are its first slice, as to CUDA."""
    tool(working(listed))

    assert expected == names(monkeypatch, visible)


def test_a_number_is_the_same_card_to_cuda(tool):
    """It counts along the bus, as nvidia-smi does, not from the fastest card."""
    tool(working(TWO))
    devices.visible()

    assert "PCI_BUS_ID" == os.environ["CUDA_DEVICE_ORDER"]


@pytest.mark.parametrize(
    ("listed", "answer", "visible", "expected"),
    [
        (ONE, "9.0, 143000, 143771", None, ("NVIDIA H200", "bf16", 143000 * 2**20, 143771 * 2**20, ())),
        (ONE, "7.5, 0, 143771", None, ("NVIDIA H200", "fp16", 0, 143771 * 2**20, ())),
        (ONE, "12.1, [N/A], [N/A]", None, ("NVIDIA H200", "bf16", None, None, ("nvidia-smi on its free memory: N/A",))),
        (CUT, "8.0, [Insufficient Permissions], 81920", OTHER, (
            "MIG 1c.2g.20gb of NVIDIA A100-SXM4-80GB", "bf16", 20 * 2**30, 17.5 * 2**30,
            ("that is the most 1c.2g.20gb can have, nvidia-smi does not tell what is free",),
        )),
        (CUT, "8.0, [N/A], 81920", OF_OLD, (
            f"{OF_OLD} of NVIDIA A100-SXM4-80GB", "bf16", None, None, ("nvidia-smi does not tell its memory",),
        )),
        (ONE, "[N/A], [Insufficient Permissions], 9", None, ("NVIDIA H200", "fp16", None, 9 * 2**20, (
            "nvidia-smi on its free memory: Insufficient Permissions",
            "nvidia-smi on its compute capability: N/A, so fp16 is assumed, which all cards have",
        ))),
    ],
)  # fmt: skip
def test_what_the_tool_does_not_tell(tool, monkeypatch, listed, answer, visible, expected):
    """The plan goes on without, and says so; of a slice it has the card's capability, and the memory of the profile:
    the most that may be free, the least it may have in all.
    """
    tool(working(listed, answer))
    names(monkeypatch, visible)
    found = devices.machine()

    assert expected == (found.name, found.precision, found.memory, found.total, found.unknown)


def test_a_tool_that_cannot_be_asked_of_a_card(tool):
    """Of a card that is listed, but not answered for, the plan knows its name."""
    tool(working(ONE, 'Field "compute_cap" is not a valid field to query.', status=2))
    found = devices.machine()

    assert ("cuda", "NVIDIA H200", "fp16", None) == (found.kind, found.name, found.precision, found.memory)
    assert ["no answer" in said for said in found.unknown] == [True, True]


def test_the_plan_prints_what_it_does_not_know(tool, clone: Clone):
    """In the line of the device, beside what it knows."""
    tool(working(CUT, "[N/A], [N/A], [N/A]"))
    clone.environment["CUDA_VISIBLE_DEVICES"] = SLICE
    printed = clone.run(sys.executable, "-m", "llmrl.plan")
    line = (
        "device MIG 3g.40gb of NVIDIA A100-SXM4-80GB, fp16; 40.00 GiB by MIG 3g.40gb of NVIDIA A100-SXM4-80GB; "
        "that is the most 3g.40gb can have, nvidia-smi does not tell what is free; "
        "nvidia-smi on its compute capability: N/A, so fp16 is assumed, which all cards have"
    )

    assert line in " ".join(printed.split())


def test_named_and_nobody_to_ask(tool, monkeypatch):
    """Where the tool is silent of what CUDA_VISIBLE_DEVICES names, the plan is for a CPU and says why."""
    tool(MISMATCH)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    assert ("CUDA_VISIBLE_DEVICES names 0, of which nvidia-smi says nothing",) == devices.machine().unknown


def test_a_tool_that_hangs(tool, monkeypatch, capfd):
    """It has failed after a while, which is said once, in a line."""
    tool(HANGS)
    monkeypatch.setattr(devices, "PATIENCE", 0.2)

    assert [] == devices.visible()
    assert "cpu" == devices.machine().kind
    assert ["0"] == names(monkeypatch, "0")
    assert "nvidia-smi has not answered for 0.2 s: it is waited for no longer\n" == capfd.readouterr().err


@contextmanager
def process(**environment: str) -> Iterator[subprocess.Popen[str]]:
    """One that takes a device and holds it until it is told something."""
    command, pipe = (sys.executable, "-c", NEXT), subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | environment, stdin=pipe, stdout=pipe, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("first", [{}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": A}])
def test_one_card_by_three_names(tool, first):
    """Unset, its number, its UUID and the UUID's beginning: each process waits for the one that has the card."""
    tool(working(ONE))
    others = [{}, *({"CUDA_VISIBLE_DEVICES": name} for name in ("0", A, "GPU-8f2"))]
    with process(**first) as holder, ExitStack() as stack:
        assert "held\n" == holder.stdout.readline()
        waiting = [stack.enter_context(process(**other)) for other in others]
        for one in waiting:
            assert one.stdout.readline().startswith(f"waiting for {A}: sft, process {holder.pid}, since ")
        for one in (holder, *waiting):
            one.stdin.write("\n")
            one.stdin.flush()
        for one in waiting:
            assert one.stdout.read().endswith("held\n")


@pytest.mark.usefixtures("project")
def test_the_one_that_is_free(tool, monkeypatch):
    """Of several the process sees the free one alone, by a name that CUDA takes; by which another finds it taken."""
    tool(working(CUT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with ExitStack() as stack:
        assert SLICE == locks.first_free([SLICE], "dpo", stack, quiet=True)
        with locks.device("sft"):
            assert B == os.environ["CUDA_VISIBLE_DEVICES"]
            assert locks.first_free([B], "dpo", stack, quiet=True) is None


@pytest.mark.usefixtures("project")
def test_two_that_need_two(tool):
    """They take them in one order, whatever CUDA_VISIBLE_DEVICES has: who waits for the first holds no other."""
    tool(working(TWO))
    first, last = sorted((A, B))
    with ExitStack() as stack:
        assert first == locks.first_free([first], "dpo", stack, quiet=True)
        for order in ("0,1", "1,0"):
            with process(CUDA_VISIBLE_DEVICES=order, **SEVERAL) as other, ExitStack() as free:
                assert other.stdout.readline().startswith(f"waiting for {first}: ")
                assert last == locks.first_free([last], "dpo", free, quiet=True)
