"""Times, amounts and numbers as the pages write them: filters of their templates."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from markupsafe import Markup, escape

_ROW, _CELL = re.compile(r"<tr>.*?</tr>", re.DOTALL), re.compile("<td>")


def day(time_ms: int) -> str:
    """Date of an epoch time, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def minute(time_ms: int) -> str:
    """Date and time of day of an epoch time, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def money(amount: float) -> str:
    """An amount in the log's own unit."""
    return f"{amount:,.0f}" if abs(amount) >= 1000 else f"{amount:,.2f}"


def odds(contribution: float) -> str:
    """By how much a contribution to the logit, in nats, multiplies the odds of fraud."""
    times = math.exp(min(contribution, 20.0))
    return "over 1,000 times" if times >= 1000 else f"{times:,.0f} times" if times >= 10 else f"{times:.2g} times"


def formatted(value: float | None, spec: str) -> str:
    """A number by a format specification such as ",.1f" or ".2%"; nothing for None."""
    return "" if value is None else format(value, spec)


def named(rows: str, head: Sequence[str]) -> Markup:
    """Rows of a table (HTML) whose cells know the names of their columns: on a phone a row is a block of lines."""

    def row(found: re.Match[str]) -> str:
        names = iter(head)

        def cell(_: re.Match[str]) -> str:
            name = next(names, "")
            return f'<td data-name="{escape(name)}">' if name else "<td>"

        return _CELL.sub(cell, found[0])

    return Markup(_ROW.sub(row, str(rows)))
