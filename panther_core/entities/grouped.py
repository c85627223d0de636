"""Rows of one key (a user, a merchant) in time order, with window sums that only look back.

Shapes: N rows, Q queries, K keys. A position is a place in the order by (key, arrival); a key's rows are a contiguous
stretch of positions, so a count or a sum over a window is the difference of two prefix sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_MARGIN_MS = 1000 * DAY_MS  # cuts may lie this far before the first row


@dataclass(frozen=True)
class Grouped:
    """`keys` [N] are dense numbers 0..K-1, `time_ms` [N] ascends. Raises BadInput when it does not."""

    order: Ints  # [N] rows by (key, arrival)
    position: Ints  # [N] position of each row
    bounds: Ints  # [K + 1] key k's stretch is bounds[k]:bounds[k + 1]
    stamp: Ints  # [N] key and time in one ascending number, by position
    origin_ms: int
    span_ms: int

    @classmethod
    def of(cls, keys: Ints, time_ms: Ints, key_count: int) -> Grouped:
        """Group the rows."""
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
        """Position [Q] behind the last row of each key with a time <= `cut_ms` (the key's first if there is none)."""
        shifted = np.clip(cut_ms - self.origin_ms, 0, self.span_ms - 1)
        return np.searchsorted(self.stamp, keys.astype(np.int64) * self.span_ms + shifted, side="right")

    def running(self, values: NDArray[np.generic]) -> Floats:
        """Prefix sums [N + 1] by position of one value a row: the sum over positions a..b-1 is out[b] - out[a]."""
        return np.concatenate([[0.0], np.cumsum(values[self.order].astype(np.float64))])


def last_true(mask: NDArray[np.bool_]) -> Ints:
    """Newest place at or before each one where `mask` holds; -1 if none. Places cross keys: check against `first`."""
    out: Ints = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
    return out


def segment_minimum(values: Floats, starts: NDArray[np.bool_]) -> Floats:
    """Running minimum [N] that starts anew wherever `starts` holds."""
    distinct, rank = np.unique(values, return_inverse=True)
    shift = np.cumsum(starts) * (len(distinct) + 1)  # every stretch lies below the one before; exact in integers
    return np.asarray(distinct[np.minimum.accumulate(rank - shift) + shift], np.float64)
