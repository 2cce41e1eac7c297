"""What the driver's own tool says of the GPUs, and where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import hardware, plan

BROKEN = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"
WORKING = """
case "$*" in
  --query-gpu=uuid*) echo GPU-a; echo GPU-b ;;
  -i\\ GPU-a\\ *) echo 'NVIDIA H200, 143000, 9.0' ;;
  *) echo 'No devices were found'; exit 6 ;;
esac
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in the place of nvidia-smi."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def put(script: str) -> None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("script", "visible", "devices", "kind"),
    [
        (WORKING, None, ["GPU-a", "GPU-b"], "cuda"),
        (WORKING, "GPU-a,", ["GPU-a"], "cuda"),
        (WORKING, "GPU-c", ["GPU-c"], "cpu"),
        (WORKING, "-1", [], "cpu"),
        (WORKING, "", [], "cpu"),
        (BROKEN, None, [], "cpu"),
        (BROKEN, "0", ["0"], "cpu"),
    ],
    ids=["two", "one that is allowed", "one that is not there", "forbidden", "none allowed", "broken", "named, broken"],
)
def test_what_the_tool_answers(tool, monkeypatch, script, visible, devices, kind):
    """Its complaints are no GPUs, neither to the locks nor to the plan."""
    tool(script)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert devices == hardware.devices()
    assert kind == plan.machine().kind
