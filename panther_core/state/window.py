"""The context window: a pure function of how many events a user has had (docs/architecture.md).

While fewer than L events are known, all of them are the context. At L it falls back to the last L/2, then grows
to L - 1 again, and so on. Between two falls every event only appends, so keys and values computed for earlier
events, and their absolute positions, stay valid. Trainer, replay and server all derive the window from here.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

#: newest known events that ride along with a new one: enough for every convolution window that it touches
RECENT = 3

IntOrArray = TypeVar("IntOrArray", int, NDArray[np.int64])


def window_start(n: IntOrArray, length: int) -> IntOrArray:
    """Index of the first event in the context of a user with `n` events. `length` is L, even."""
    half = length // 2
    return (n // half - 1) * half * (n >= length)


def window_length(n: IntOrArray, length: int) -> IntOrArray:
    """How many events the context holds: `n` below L, else between L/2 and L - 1."""
    return n - window_start(n, length)


def blocks(n: int, length: int, known: int = 0) -> list[tuple[int, int, int]]:
    """Cover the outputs after events known + 1..n of one history with as few forwards as there were falls.

    Returns (start, stop, first) triples: one forward over events[start:stop] yields, at its positions, exactly
    the outputs the stream had after events `first`..`stop - 1` (0-based index of the newest event).
    """
    half = length // 2
    out, first = [], known
    while first < n:
        # after event `first` the user has first + 1 events; the window started here grows to length - 1 events
        start = window_start(first + 1, length)
        stop = min(n, start + length - 1)
        out.append((start, stop, first))
        first = stop
    assert half * 2 == length, f"context length must be even, got {length}"
    return out
