"""How the C library's allocator keeps memory: it decides how much is resident on a CPU, and no byte."""

from __future__ import annotations

import ctypes
from contextlib import suppress

MMAP_THRESHOLD, LARGE = -3, 2**21  # M_MMAP_THRESHOLD of malloc.h; bytes


def returns_large_blocks() -> None:
    """Have blocks from 2 MiB on go back to the system as soon as they are freed.

    By itself glibc raises that bound to up to 32 MiB (https://man7.org/linux/man-pages/man3/mallopt.3.html). Tensors
    below it share a heap: between those that a backward pass waits for there stay holes, of up to half as much, and
    after the training all of it (docs/memory.md has figures). Another C library is left alone.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
