"""Units of time, in milliseconds. Every time in this project is in milliseconds since the epoch, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def iso_ms(text: str) -> int:
    """Epoch ms of a day or an ISO 8601 time, of UTC where it has no offset. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def span(seconds: float) -> str:
    """A length of time for people, like 10 s, 1.5 min, 6 h or 2 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def now_ms() -> int:
    """Wall clock, epoch ms."""
    return time.time_ns() // 1_000_000
