"""Seconds of each stage of a long run, such as a training or a benchmark."""

from __future__ import annotations

import time

from panther_core.base.console import say


class StageClock:
    """Runs from its creation; `seconds` has what each finished stage took, by name, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """Note and say the seconds since the last mark: `stage` has just ended."""
        now = time.perf_counter()
        self.seconds[stage], self._last = round(now - self._last, 2), now
        say(f"  {stage}: {self.seconds[stage]} s")
