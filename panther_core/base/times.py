"""Units of time, in milliseconds. Every time in this project is in milliseconds since the epoch, UTC."""

from __future__ import annotations

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
