"""What the C library's allocator keeps of what is freed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from small import ROOT

SCRIPT = """
import sys

import numpy
import psutil

from llmrl.session import allocator

if sys.argv[1] == "set":
    allocator.returns_large_blocks()
numpy.ones(2**21)  # of 16 MiB: from now on glibc takes what is smaller from its heap
blocks = [numpy.ones(2**20) for _ in range(40)]
held = psutil.Process().memory_info().rss
del blocks[::2]
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such bound")
def test_large_blocks_go_back_at_once() -> None:
    """Of 40 blocks of 8 MiB each other one is freed, between two that stay: 160 MiB are no longer resident; where
    nothing is set, they are.
    """
    command = (sys.executable, "-c", SCRIPT)
    given, left = (
        int(subprocess.run((*command, how), cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        for how in ("set", "left")
    )

    assert 150 * 2**20 < given < 170 * 2**20
    assert left < 20 * 2**20
