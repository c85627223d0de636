"""Notices that a worker decides nothing although something waits for it, whatever the cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

#: seconds without any decision, and without any intake from one partition, while something waits
STILL_S, PARTITION_STILL_S = 5.0, 30.0
#: seconds without an answer to a fetch; a healthy broker answers after some ten milliseconds, records or not
SILENT_S = 4.0


class Stillness:
    """Looks at counts that only grow; to be asked about once a second. `now_s`: a clock that does not go back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._done, self._since_s = -1.0, now_s()
        self._taken: dict[int, tuple[int | None, float]] = {}  # by partition: offset, and since when
        self._answered: dict[int, tuple[int | None, float]] = {}

    def of_all(self, waiting: int, done: float) -> str | None:
        """What is wrong where `waiting` records are not decided and the count `done` of decided ones stands still."""
        now_s = self._now_s()
        if not waiting or done != self._done:
            self._done, self._since_s = done, now_s
        still_s = now_s - self._since_s
        if still_s < STILL_S:
            return None
        return f"{waiting} transactions wait, and none has been decided for {still_s:.0f} s"

    def of_partitions(self, lags: Mapping[int, int], taken: Mapping[int, int | None]) -> str | None:
        """What is wrong where a partition has a lag and the offset last taken in stands still."""
        still = self._still(self._taken, {p: taken.get(p) if lag else -1 for p, lag in lags.items()}, PARTITION_STILL_S)
        stuck = [p for p in still if lags[p]]
        if not stuck:
            return None
        waiting, still_s = sum(lags[p] for p in stuck), min(still[p] for p in stuck)
        return f"{waiting} transactions wait in the partitions {stuck}, and none was taken in for {still_s:.0f} s"

    def of_fetches(self, answered_ms: Mapping[int, int | None]) -> list[int]:
        """Partitions whose fetches Kafka does not answer: the time of the last answer stands still."""
        return sorted(self._still(self._answered, answered_ms, SILENT_S))

    def _still(
        self, seen: dict[int, tuple[int | None, float]], now: Mapping[int, int | None], limit_s: float
    ) -> dict[int, float]:
        """Partitions whose value has not changed for `limit_s`, and the seconds; forgets partitions that have gone."""
        now_s = self._now_s()
        for partition in seen.keys() - now.keys():
            del seen[partition]
        for partition, value in now.items():
            if partition not in seen or seen[partition][0] != value:
                seen[partition] = (value, now_s)
        return {p: now_s - since_s for p, (_, since_s) in seen.items() if now_s - since_s >= limit_s}
