"""What a user usually spends, and what was unusual lately: sums by day in the state, and their columns.

The usual amount is the mean of the user's payments without outliers. A payment of more than UNUSUAL times of it is
unusual. The state counts by calendar day (UTC), for the last DAYS days: payments, unusual ones, their ratios to the
usual amount, and the excess: how unusual the unusual ones were. All are whole numbers, so late payments may come in any
order. Shapes: B users, D days.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.state.record import DAYS

WINDOWS_D = (1, 3, 7, 14, 30)
UNUSUAL = 2.5  # times the usual amount
_DROPPED = 3.0  # times the usual amount: larger amounts are left out of the mean
_SETTLED = 3  # payments that a mean needs before amounts are judged by it
_RATIO_MAX, _NEVER_D = 8.0, 99.0
_MEMORY_D = 14  # an unusual amount is remembered for so many calendar days
_RATIO_UNIT, _EXCESS_UNIT = 1 / 16, 1 / 64  # of the sums
_COUNT, _UNUSUAL, _RATIOS, _EXCESS = range(4)  # rows of `days`

Floats = NDArray[np.float64]


def usual_amount(states: NDArray[np.void], amount: Floats) -> Floats:
    """The user's usual amount [B] before a payment; the payment's own amount for users without one."""
    total, known = states["usual"][:, 0], states["usual"][:, 1]
    return np.maximum(np.where(known > 0, total / np.maximum(known, 1), amount), 1e-2)


class Spending:
    """What features of spending are made of, for B payments before they are applied."""

    def __init__(self, states: NDArray[np.void], amount: Floats, time_ms: NDArray[np.int64]) -> None:
        self._states, self._time_ms = states, time_ms
        self.known = states["usual"][:, 1]
        self.ratio = np.maximum(amount, 1e-2) / usual_amount(states, amount)
        day = time_ms // DAY_MS
        place = np.arange(DAYS)
        newest = states["day"][:, None]
        self._age = day[:, None] - (newest - (newest - place) % DAYS)  # days before the payment's, of each place [B, D]
        self._days = states["days"]

    @cached_property
    def _sums(self) -> Floats:
        """Sums [B, rows of `days`, WINDOWS_D], exact: of whole numbers."""
        age = self._age[:, :, None]
        held = (age >= 0) & (age < np.array(WINDOWS_D))
        return np.asarray(self._days.astype(np.float64) @ held.astype(np.float64))

    def within(self, row: int, days: int) -> Floats:
        """Sums [B] over the payment's day and the `days` - 1 days before it."""
        return self._sums[:, row, WINDOWS_D.index(days)]

    def count(self, days: int) -> Floats:
        """Payments [B] of a window."""
        return self.within(_COUNT, days)

    def unusual(self, days: int) -> Floats:
        """Unusual payments [B] of a window."""
        return self.within(_UNUSUAL, days)

    def mean_ratio(self, days: int) -> Floats:
        """Mean ratio [B] of a window's payments to the usual amount, drawn towards 1."""
        return (self.within(_RATIOS, days) * _RATIO_UNIT + 2) / (self.within(_COUNT, days) + 2)

    def excess(self, days: int) -> Floats:
        """Sum [B] of log(ratio / 2) over a window's ratios above 2."""
        return self.within(_EXCESS, days) * _EXCESS_UNIT

    @cached_property
    def began_d(self) -> Floats:
        """Days [B] since the first unusual payment that is remembered; 99 for none."""
        odd = (self._days[:, _UNUSUAL] > 0) & (self._age >= 0) & (self._age < _MEMORY_D)
        return np.asarray(np.where(odd.any(axis=1), np.where(odd, self._age, -1).max(axis=1), _NEVER_D), np.float64)

    def since_began(self) -> Floats:
        """Payments [B] from that day on."""
        held = (self._age >= 0) & (self._age <= np.where(self.began_d < _NEVER_D, self.began_d, -1)[:, None])
        return np.asarray(np.where(held, self._days[:, _COUNT], 0).sum(axis=1), np.float64)

    def last_d(self) -> Floats:
        """Days [B] since the newest unusual payment; 99 for none."""
        last = self._states["odd_time_ms"]
        passed = np.maximum(self._time_ms - last, 0) / DAY_MS
        return np.where(last > 0, np.minimum(passed, _NEVER_D), _NEVER_D)


def take_payments(states: NDArray[np.void], amount: Floats, time_ms: NDArray[np.int64]) -> None:
    """Apply payments [B] to their users' states, in place."""
    rows, day = np.arange(len(states)), time_ms // DAY_MS
    usual, known = usual_amount(states, amount), states["usual"][:, 1]
    ratio, settled = np.maximum(amount, 1e-2) / usual, known >= _SETTLED
    unusual = settled & (ratio > UNUSUAL)
    kept = ~settled | (amount <= _DROPPED * usual)
    states["usual"][:, 0] += np.where(kept, np.minimum(amount, np.where(settled, UNUSUAL * usual, np.inf)), 0)
    states["usual"][:, 1] += kept
    newest = unusual & (time_ms >= states["odd_time_ms"])
    states["odd_time_ms"] = np.where(newest, time_ms, states["odd_time_ms"])
    states["odd_ratio"] = np.where(newest, np.minimum(ratio, _RATIO_MAX), states["odd_ratio"])
    first = states["n"] == 0
    passed = np.where(first, DAYS, np.maximum(day - states["day"], 0))
    newest_day = np.where(first, day, np.maximum(day, states["day"]))
    stale = (newest_day[:, None] - np.arange(DAYS)) % DAYS < passed[:, None]
    if stale.any():
        states["days"] = np.where(stale[:, None, :], 0, states["days"])
    states["day"] = newest_day
    held = day > newest_day - DAYS
    capped = np.minimum(ratio, _RATIO_MAX)
    more: tuple[Any, ...] = (
        held,
        held & unusual,
        np.where(held, np.round(capped / _RATIO_UNIT), 0),
        np.where(held, np.round(np.log(np.maximum(capped, 2) / 2) / _EXCESS_UNIT), 0),
    )
    for row, value in enumerate(more):
        at = (rows, row, day % DAYS)
        states["days"][at] = np.minimum(states["days"][at] + np.asarray(value, np.int64), 2**16 - 1)
