"""Stops a worker that was paused for longer than its consumer group waits: its partitions belong to another worker.

SIGSTOP, a frozen virtual machine, a laptop that slept: when the process goes on, its first requests to Kafka would
publish decisions and states that another worker has made meanwhile. The consumer's heartbeat notices the pause only
later. So every produce request looks at the clock first, and a request that notices a long gap stops the worker; the
partitions' new owner decides the events that this worker had in hand.
"""

from __future__ import annotations

import asyncio
import time

from panther_core.base.errors import PantherError


class Suspended(PantherError):
    """The process stood still for too long; start the worker again (a supervisor does)."""


class Suspension:
    """Notices gaps between calls of `check`, which `run` makes regular; `limit_s`: the longest harmless one."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s, self._seen_s, self._gap_s = limit_s, _now_s(), 0.0

    def check(self) -> None:
        """Raises Suspended once a gap beyond the limit was noticed, and from then on."""
        now_s = _now_s()
        gap_s, self._seen_s = now_s - self._seen_s, now_s
        if gap_s > self._limit_s:
            self._gap_s = gap_s
        if self._gap_s:
            raise Suspended(
                f"expected to be running, but this worker stood still for {self._gap_s:.1f} s: its group waits for "
                f"{self._limit_s:.1f} s, so its partitions are another worker's by now; start it again"
            )

    async def run(self) -> None:
        """Check at regular intervals; ends by raising Suspended."""
        while True:
            self.check()
            await asyncio.sleep(self._limit_s / 16)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps
