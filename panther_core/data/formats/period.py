"""The part of a file that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput

_FOREVER = 2**62


@dataclass(frozen=True)
class Period:
    """[start_ms, end_ms) in epoch ms."""

    start_ms: int = -_FOREVER
    end_ms: int = _FOREVER

    @classmethod
    def of(cls, start: str | date | datetime | None, end: str | date | datetime | None) -> Period:
        """From dates, times or ISO 8601 words; None is unbounded. Raises BadInput."""
        period = cls(_ms("start", start, -_FOREVER), _ms("end", end, _FOREVER))
        if period.start_ms >= period.end_ms:
            raise BadInput(f"expected start before end (end is exclusive), got start={start}, end={end}")
        return period

    def rows(self, time_ms: NDArray[np.int64]) -> NDArray[np.intp]:
        """Numbers of the rows that lie within."""
        return np.flatnonzero((time_ms >= self.start_ms) & (time_ms < self.end_ms))


def _ms(name: str, value: str | date | datetime | None, default: int) -> int:
    if value is None:
        return default
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise BadInput(f"expected {name} as a date like 2018-07-25 or an ISO 8601 time, got {value!r}") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
