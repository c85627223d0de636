"""A stretch of a log (a chunk of a replay) whose users had events before it: what encoding it needs of those events.

A window begins at most L events back (panther_core.state.window), and the ring of a user's state holds the codes of
these events. They are put before the user's own events as rows of a history, so that encoding and scoring need no case
for users with a past. G users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import EXPECTED
from panther_core.model.bulk import EncodedHistory
from panther_core.state.history import History
from panther_core.state.transition import code_array, context


@dataclass(frozen=True)
class ContinuedHistory:
    """Some users' part of a stretch. Rows 0..len(rows)-1 of `history` are events of the stretch, later rows the
    past."""

    history: History
    rows: NDArray[np.int64]  # row number in the stretch of each of `history`'s first len(rows) rows
    known: NDArray[np.int64]  # [G] events of each user before the stretch
    place: NDArray[np.int64]  # [G] place of the last event before the stretch, -1 for a new user

    def put_outputs(self, encoded: EncodedHistory, cached: NDArray[np.float32], expected: NDArray[np.void]) -> None:
        """Put the outputs [G, K] and [G, 3] that each user's state held into `encoded`, at the last event before the
        stretch."""
        there = self.known > 0
        encoded.cached[self.place[there]] = cached[there]
        encoded.expected[self.place[there]] = (
            np.ascontiguousarray(expected[there]).view(np.uint64).reshape(-1, EXPECTED)
        )

    def last_outputs(self, encoded: EncodedHistory) -> tuple[NDArray[np.float32], NDArray[np.void]]:
        """Outputs [G, K] and [G, 3] after each user's last event."""
        last = self.history.bounds[1:] - 1
        return encoded.cached[last], code_array(encoded.expected[last])


def history_continued_from(history: History, low: int, high: int, before: NDArray[np.void]) -> ContinuedHistory:
    """History of users low..high-1 of `history`, their past put in front; `before` are their states when it began."""
    rows = history.order[history.bounds[low] : history.bounds[high]].astype(np.int64)
    codes, length = context(before)
    past = np.arange(codes.shape[1]) < length[:, None]
    own = np.diff(history.bounds[low : high + 1])
    users = np.arange(high - low)
    # sort by user, the past (even key) before the stretch (odd key); a stable sort keeps the order within each
    keys = np.r_[np.repeat(2 * users + 1, own), np.repeat(2 * users, length)]
    order = np.argsort(keys, kind="stable").astype(np.int32)
    bounds = np.r_[0, np.cumsum(own + length)]
    joined = replace(
        history,
        features=history.features[rows],
        seller=history.seller[rows],
        code=np.r_[history.code[rows], codes[past]],
        history_len=history.history_len[rows],
        profile=np.r_[history.profile[rows], np.repeat(before["profile"], length, axis=0)],
        late=history.late[rows],
        order=order,
        bounds=bounds,
    )
    return ContinuedHistory(
        joined, rows, before["n"].astype(np.int64), np.where(length > 0, bounds[:-1] + length - 1, -1)
    )


def groups(history: History, before: NDArray[np.void], length: int, positions: int) -> list[tuple[int, int]]:
    """Ranges of users (low, high) with at most `positions` events each, past ones included; or with one user."""
    size = np.diff(history.bounds) + np.minimum(before["n"], length)
    total = np.r_[0, np.cumsum(size)]
    out, low = [], 0
    while low < len(size):
        high = max(low + 1, int(np.searchsorted(total, total[low] + positions, side="right")) - 1)
        out.append((low, high))
        low = high
    return out
