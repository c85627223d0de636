"""Stops a worker that was paused for longer than its consumer group waits: its partitions belong to another worker.

SIGSTOP, a frozen virtual machine, a laptop that slept: when the process goes on, its first requests to Kafka would
publish decisions and states that another worker has made meanwhile. The consumer's heartbeat notices the pause only
later. So every produce request looks at the clock first, and a request that notices a long gap stops the worker; the
partitions' new owner decides the events that this worker had in hand.

The gap is measured against a thread that does nothing but note the time. A slow event loop (a large artifact that is
hashed, a disk that stalls a write) is no gap: the consumer's thread sends heartbeats meanwhile, and the partitions stay
this worker's. Whatever keeps that thread from running keeps the heartbeats too.
"""

from __future__ import annotations

import asyncio
import threading
import time

from panther_core.base.errors import PantherError


class Suspended(PantherError):
    """The process stood still for too long; start the worker again (a supervisor does)."""


class Suspension:
    """Notices gaps between the ticks of a thread; `limit_s`: the longest harmless one."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s, self._ticked_s, self._gap_s = limit_s, _now_s(), 0.0
        self._ended = threading.Event()

    def check(self) -> None:
        """Raises Suspended once a gap beyond the limit was noticed, and from then on.

        After a pause either the thread or a caller of this is the first to run, so both look.
        """
        self._note(_now_s() - self._ticked_s)
        if self._gap_s:
            raise Suspended(
                f"expected to be running, but this worker stood still for {self._gap_s:.1f} s: its group waits for "
                f"{self._limit_s:.1f} s, so its partitions are another worker's by now; start it again"
            )

    async def run(self) -> None:
        """Tick, and check at regular intervals, for the life of the agent; ends by raising Suspended."""
        self._ticked_s = _now_s()
        threading.Thread(target=self._tick, name="suspension", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(self._limit_s / 16)
                self.check()
        finally:
            self._ended.set()

    def _tick(self) -> None:
        while not self._ended.wait(self._limit_s / 16):
            now_s = _now_s()
            self._note(now_s - self._ticked_s)  # before the tick, which hides the gap from `check`
            self._ticked_s = now_s

    def _note(self, gap_s: float) -> None:
        if gap_s > self._limit_s:
            self._gap_s = max(self._gap_s, gap_s)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps
