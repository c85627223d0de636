"""Copies in a log: the same user, id and content within the horizon, however the log is cut into parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panther_core.base.times import HOUR_MS
from panther_core.data.table import EVENT
from panther_core.state.copies import Copies


def rows(*events: tuple[int, int, int]) -> NDArray[np.void]:
    """EVENT rows of (user, transaction id, content)."""
    out = np.zeros(len(events), EVENT)
    for i, (user, transaction, content) in enumerate(events):
        out[i]["user"], out[i]["transaction"], out[i]["content"] = user, transaction, content
    return out


@pytest.mark.parametrize(
    ("events", "hours", "copies", "reused"),
    [
        ([(1, 1, 5), (1, 1, 5)], [0, 1], [0, 1], [0, 0]),
        ([(1, 1, 5), (2, 1, 5)], [0, 1], [0, 0], [0, 0]),  # two users, one id
        ([(1, 1, 5), (1, 1, 6), (1, 1, 6), (1, 1, 5)], [0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 0, 0]),
        ([(1, 1, 5), (1, 1, 5), (1, 1, 5)], [0, 7, 8], [0, 0, 1], [0, 0, 0]),  # beyond six hours, then again
        ([(1, 1, 5), (1, 1, 6)], [0, 7], [0, 0], [0, 0]),  # the id is free again
        ([(1, 1, 5), (1, 1, 5)], [3, 0], [0, 1], [0, 0]),  # by the records' clocks the copy is older
    ],
)
def test_what_is_a_copy(
    events: list[tuple[int, int, int]], hours: list[int], copies: list[int], reused: list[int]
) -> None:
    copy, again = Copies(6 * HOUR_MS).find(rows(*events), np.array(hours) * HOUR_MS)
    assert copy.tolist() == [bool(c) for c in copies]
    assert again.tolist() == [bool(r) for r in reused]


@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3)), max_size=40),
    st.integers(1, 7),
)
@settings(deadline=None, max_examples=50)
def test_parts_give_what_the_whole_gives(log: list[tuple[int, int, int, int]], size: int) -> None:
    events = rows(*((user, transaction, content) for user, transaction, content, _ in log))
    received = np.cumsum([hours for *_, hours in log]).astype(np.int64) * HOUR_MS
    whole, parts = Copies(6 * HOUR_MS), Copies(6 * HOUR_MS)
    expected = whole.find(events, received)
    got: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]] = []
    for low in range(0, len(log), size):
        again = Copies(6 * HOUR_MS)
        again.restore(parts.memory())
        parts = again
        got.append(parts.find(events[low : low + size], received[low : low + size]))
    for i in (0, 1):
        assert np.concatenate([part[i] for part in got] or [np.zeros(0, np.bool_)]).tolist() == expected[i].tolist()
