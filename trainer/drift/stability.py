"""How far two samples lie apart: figures that are about size, not about how sure one may be that there is a difference.

Of a hundred thousand payments any difference is significant; what asks for a refresh is a large one. Each figure has
taken off, or stands beside, what chance alone makes of samples of these sizes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SHIFTED = 0.25  # population stability index, from which on a population counts as another one
_RARE_SHARE, _LEAST_SHARE = 0.01, 1e-3
_SURE = 1.96  # standard errors of an interval of 95 %


def counts_of(codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """How often each code from 0 to the largest one comes."""
    return np.bincount(codes).astype(np.int64)


def stability_index(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Population stability index of counts by value: sum over values of (now - before) * log(now / before), of shares.

    Values that were rare before count as one. What chance alone makes of samples of these sizes is taken off:
    (values - 1) * (1 / rows before + 1 / rows now), to first order.
    """
    size = max(len(before), len(now))
    counts = np.stack([np.pad(part, (0, size - len(part))) for part in (before, now)]).astype(np.float64)
    rows = counts.sum(axis=1)
    rare = counts[0] < _RARE_SHARE * rows[0]
    merged = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    merged = merged[:, merged.any(axis=0)]
    shares = np.maximum(merged / np.maximum(rows[:, None], 1), _LEAST_SHARE)
    found = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    by_chance = float((merged.shape[1] - 1) * (1 / np.maximum(rows, 1)).sum())
    return max(0.0, found - by_chance)


def spans_a_day(hour: NDArray[np.integer]) -> bool:
    """Whether payments with these hours of the week [N] are of a day or more. Those of fewer hours (a stream that began
    this morning, the newest part of a young log) lie apart from any others in the hour of the day, whoever pays."""
    return len(np.unique(hour)) >= 24


def least_distance(before: tuple[float, int], now: tuple[float, int], deviation: float | None = None) -> float:
    """The least distance of two means that chance leaves possible, in standard deviations.

    `before`, `now`: mean and number of rows. Without a `deviation` the means are shares, and the distance is Cohen's h:
    the difference of 2 * arcsin(sqrt(share)). From .2 on an effect is small, from .5 on medium, from .8 on large
    (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988).
    """
    (a, rows_a), (b, rows_b) = before, now
    if deviation is None:
        found = 2 * (math.asin(math.sqrt(b)) - math.asin(math.sqrt(a)))
    else:
        found = (b - a) / max(deviation, 1e-9)
    chance = _SURE * math.sqrt(1 / max(rows_a, 1) + 1 / max(rows_b, 1))
    return max(0.0, abs(found) - chance)


def least_ratio(before: tuple[int, int], now: tuple[int, int]) -> float:
    """The least ratio of two rare shares that chance leaves possible, up or down: 1 where they may be equal.

    `before`, `now`: events and rows; events are taken to come one by one (Poisson).
    """
    (a, rows_a), (b, rows_b) = ((events + 0.5, rows) for events, rows in (before, now))
    found = abs(math.log((b / max(rows_b, 1)) / (a / max(rows_a, 1))))
    return math.exp(max(0.0, found - _SURE * math.sqrt(1 / a + 1 / b)))
