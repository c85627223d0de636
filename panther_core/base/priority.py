"""Work that may take its time, so that what is waited for does not stand in line behind it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_NICE = 10  # a tenth of the share of a thread of niceness 0: it takes its time, and is not starved


def unhurried(work: Callable[[], T]) -> T:
    """What `work` returns, done by a thread that gets only what other threads and processes leave of the CPUs.

    Linux knows a niceness for each thread, and raising one's own needs no right that lowering it again would. So a
    process that is to answer quickly later can begin slowly: threads that `work` starts inherit the niceness, the
    calling one keeps its own. Elsewhere `work` is done as ever.
    """
    if sys.platform != "linux":
        return work()

    def lowered() -> T:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        return work()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lowered).result()


def load_unhurried(load: Callable[[], object], args: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """`unhurried` for a model instance of Triton, whose `initialize` gets `args`, if one thread of the CPU will answer.

    A pool of several threads, and the driver of a GPU, would keep the niceness of the thread that has started them.
    """
    one = environment.get("PANTHER_TORCH_THREADS", "1") == "1" and environment.get("PANTHER_DEVICE", "cpu") == "cpu"
    if one and not args.get("model_instance_kind", "").endswith("GPU"):
        unhurried(load)
    else:
        load()
