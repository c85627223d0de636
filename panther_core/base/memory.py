"""What a process has freed, given back to the machine."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give freed memory back to the machine; nothing where the C library has no `malloc_trim`.

    glibc keeps what is freed of arrays below 32 MB, and cannot give it back by itself while anything lies above it. So
    after a stage of a training whose arrays come and go, much more would stay with the process than it holds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
