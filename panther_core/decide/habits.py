"""What is usual for a user, for people who read an alert: out of the newest payments that the state holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import Usual
from panther_core.data.schema import AttributeSchema

_NEWEST, _FEWEST = 64, 5  # payments that are looked at; of fewer nothing is said
#: payments of one batch may have taken the places of the oldest ones in the ring already
_TAKEN = 8
_MOST = 0.8  # share of the payments that is usual
_CATEGORIES, _CHANNELS = 3, 2


def usual_of(states: NDArray[np.void], history_len: NDArray[np.int64], schema: AttributeSchema) -> list[Usual | None]:
    """Of users' states [B], before the payment that is event `history_len` [B]; None where too little is known."""
    return [_of(state["ring"], count, schema) for state, count in zip(states, history_len.tolist(), strict=True)]


def _of(ring: NDArray[np.void], count: int, schema: AttributeSchema) -> Usual | None:
    looked_at = min(count, len(ring) - _TAKEN, _NEWEST)
    if looked_at < _FEWEST:
        return None
    codes = ring[np.arange(count - looked_at, count) % len(ring)]
    edges = (0.0, *schema.amount_edges, float("inf"))
    buckets = np.sort(codes["amount"][(codes["amount"] > 0) & (codes["amount"] < len(edges))]).astype(np.int64)
    if not len(buckets):
        return None
    low, high = buckets[int((1 - _MOST) / 2 * len(buckets))], buckets[int((1 + _MOST) / 2 * (len(buckets) - 1))]
    top = edges[high]
    first, last = _hours(codes["hour"] % 24)
    return Usual(
        payments=looked_at,
        amount_from=edges[low - 1],
        amount_to=None if top == float("inf") else top,
        hour_from=first,
        hour_to=last,
        categories=_words(codes["category"], schema.categories, _CATEGORIES),
        channels=_words(codes["channel"], schema.channels, _CHANNELS),
    )


def _hours(hours: NDArray[np.uint8]) -> tuple[int, int]:
    """The shortest stretch of the day with most of the payments: its first and its last hour."""
    counts = np.bincount(hours, minlength=24)
    around = np.concatenate([[0], np.cumsum(np.tile(counts, 2))])
    for length in range(1, 25):
        within = around[length : length + 24] - around[:24]
        if within.max() >= _MOST * len(hours):
            first = int(within.argmax())
            return first, (first + length - 1) % 24
    return 0, 23


def _words(codes: NDArray[np.integer], words: tuple[str, ...], most: int) -> list[str]:
    found, counts = np.unique(codes[(codes > 0) & (codes <= len(words))], return_counts=True)
    order = np.lexsort((found, -counts))[:most]
    return [words[int(code) - 1] for code in found[order]]
