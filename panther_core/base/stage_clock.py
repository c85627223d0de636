"""Seconds of each stage of a long run, such as a training or a benchmark."""

from __future__ import annotations

import time

from panther_core.base.console import say


class StageClock:
    """Runs from its creation; `seconds` has the duration of each finished stage, by name, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """Record and print the duration of `stage`, which ends now and began at the last mark (or the creation)."""
        now = time.perf_counter()
        self.seconds[stage], self._last = round(now - self._last, 2), now
        say(f"  {stage}: {self.seconds[stage]} s")
