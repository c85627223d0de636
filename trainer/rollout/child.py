"""Processes that end with the one that has started them, also where that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# In the child, before it becomes the command: code between fork and exec is not safe in a process with threads. The
# first line of prctl is PR_SET_PDEATHSIG, which outlives exec; a parent that has died before it is found by its id.
_BIND = (
    f"import ctypes, os, sys; ctypes.CDLL(None).prctl(1, {int(signal.SIGTERM)}); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)


def ends_with_this(command: Sequence[str]) -> list[str]:
    """The command line of a child that gets a SIGTERM when this process ends, however it does.

    To be started from the main thread: what the kernel looks at is the thread that has started the child. `command`
    begins with a path. Linux only, as the project.
    """
    return [sys.executable, "-S", "-E", "-c", _BIND, str(os.getpid()), *command]
