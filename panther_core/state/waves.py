"""A batch of events, split so that no part holds two events of one user: states are read and written by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def waves(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Split a batch so that each wave has unique users and every user's order is kept. `rows`: user of each event."""
    if np.bincount(rows).max(initial=0) == 1:  # the usual case online, where this function is part of the latency
        return [np.arange(len(rows))]
    order = np.argsort(rows, kind="stable")
    grouped = rows[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])[: len(rows)]
    rank = np.empty(len(rows), np.intp)
    rank[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    by_rank = np.argsort(rank, kind="stable")
    return [w for w in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]) if len(w)]
