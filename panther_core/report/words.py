"""Times, amounts and numbers as the pages write them: filters of their templates."""

from __future__ import annotations

from datetime import UTC, datetime


def day(time_ms: int) -> str:
    """Date of an epoch time, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def minute(time_ms: int) -> str:
    """Date and time of day of an epoch time, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def money(amount: float) -> str:
    """An amount in the log's own unit."""
    return f"{amount:,.0f}" if abs(amount) >= 1000 else f"{amount:,.2f}"


def formatted(value: float | None, spec: str) -> str:
    """A number by a format specification such as ",.1f" or ".2%"; nothing for None."""
    return "" if value is None else format(value, spec)
