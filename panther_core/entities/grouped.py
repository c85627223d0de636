"""Rows of a table grouped by key (a user or a merchant), for counts and sums over windows of time that only look back.

Shapes: N rows, Q queries, K keys. A position is a place in the order by (key, arrival). The rows of a key have adjacent
positions, so a count or a sum over a window is the difference of two prefix sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_MARGIN_MS = 1000 * DAY_MS  # a query's time may lie so far before the first row or after the last row


@dataclass(frozen=True)
class Grouped:
    """Where the rows of each key lie in the order by (key, arrival)."""

    order: Ints  # [N] rows by (key, arrival)
    position: Ints  # [N] position of each row
    bounds: Ints  # [K + 1] key k has the positions from bounds[k] to bounds[k + 1] - 1
    stamp: Ints  # [N] key and time in one ascending number, by position
    origin_ms: int
    span_ms: int

    @classmethod
    def of(cls, keys: Ints, time_ms: Ints, key_count: int) -> Grouped:
        """Group rows by `keys` [N], numbers 0..K-1; `time_ms` [N] must ascend. Raises BadInput when it does not."""
        if len(time_ms) and (np.diff(time_ms) < 0).any():
            row = int(np.argmax(np.diff(time_ms) < 0)) + 1
            raise BadInput(f"expected rows in time order, got row {row} before the row it follows: sort them first")
        order = np.argsort(keys, kind="stable")
        position = np.empty(len(keys), np.int64)
        position[order] = np.arange(len(keys))
        low, high = (int(time_ms[0]), int(time_ms[-1])) if len(time_ms) else (0, 0)
        origin, span = low - _MARGIN_MS, high - low + 2 * _MARGIN_MS
        bounds = np.searchsorted(keys[order], np.arange(key_count + 1)).astype(np.int64)
        stamp = keys[order].astype(np.int64) * span + (time_ms[order] - origin)
        return cls(order, position, bounds, stamp, origin, span)

    def first(self, keys: Ints) -> Ints:
        """Position [Q] of each key's first row."""
        return self.bounds[keys]

    def until(self, keys: Ints, cut_ms: Ints) -> Ints:
        """Position [Q] after the last row of each key with a time <= `cut_ms`; the key's first if there is none."""
        shifted = np.clip(cut_ms - self.origin_ms, 0, self.span_ms - 1)
        return np.searchsorted(self.stamp, keys.astype(np.int64) * self.span_ms + shifted, side="right")

    def running(self, values: NDArray[np.generic]) -> Floats:
        """Prefix sums [N + 1] by position of a value a row: the sum over the positions a..b-1 is out[b] - out[a]."""
        return np.concatenate([[0.0], np.cumsum(values[self.order].astype(np.float64))])


def last_true(mask: NDArray[np.bool_]) -> Ints:
    """For each place the last place up to it where `mask` is true, or -1. It may belong to another key: the caller
    compares it with `Grouped.first`."""
    out: Ints = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
    return out


def segment_minimum(values: Floats, starts: NDArray[np.bool_]) -> Floats:
    """Running minimum [N] that starts again wherever `starts` is true."""
    distinct, rank = np.unique(values, return_inverse=True)
    # shifted ranks of a segment all lie below those of the segment before, so one running minimum serves all segments
    shift = np.cumsum(starts) * (len(distinct) + 1)
    return np.asarray(distinct[np.minimum.accumulate(rank - shift) + shift], np.float64)
