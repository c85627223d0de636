"""Units of time in the epoch milliseconds that every time in this project is in, and days by name."""

from __future__ import annotations

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
