"""The part of a file that a reader is asked for, and its rows in time order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import iso_ms
from panther_core.data.table import TransactionTable

_FOREVER = 2**62


@dataclass(frozen=True)
class Period:
    """From `start_ms` (included) to `end_ms` (excluded), epoch ms."""

    start_ms: int = -_FOREVER
    end_ms: int = _FOREVER

    @classmethod
    def of(cls, start: str | date | datetime | None, end: str | date | datetime | None) -> Period:
        """The period between two dates, times or ISO 8601 texts; None: no limit on that side. Raises BadInput."""
        period = cls(_ms("start", start, -_FOREVER), _ms("end", end, _FOREVER))
        if period.start_ms >= period.end_ms:
            raise BadInput(f"expected start before end (end is exclusive), got start={start}, end={end}")
        return period

    def rows(self, time_ms: NDArray[np.int64]) -> NDArray[np.intp]:
        """Numbers of the rows whose time lies in the period."""
        return np.flatnonzero((time_ms >= self.start_ms) & (time_ms < self.end_ms))

    def parts(self, table: TransactionTable, batch_rows: int) -> Iterator[TransactionTable]:
        """The rows of `table` within the period in time order (ties in row order), at most `batch_rows` at a time."""
        rows = self.rows(table.time_ms)
        rows = rows[np.argsort(table.time_ms[rows], kind="stable")]
        for first in range(0, len(rows), batch_rows):
            yield table.take(rows[first : first + batch_rows])


def _ms(name: str, value: str | date | datetime | None, default: int) -> int:
    if value is None:
        return default
    try:
        return iso_ms(str(value))
    except ValueError:
        raise BadInput(f"expected {name} as a date like 2018-07-25 or an ISO 8601 time, got {value!r}") from None
