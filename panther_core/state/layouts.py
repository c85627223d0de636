"""Older layouts of a user's state, as they were written, and the way from each to the current one.

A layout in this file never changes again: it says what the bytes in existing state folders and changelogs mean. To
change the current layout (panther_core.state.record): copy it here under its number with everything it is made of,
raise LAYOUT_VERSION by one, and write the step from the old layout to the new one. The copies are deliberate: a layout
that shared its definition with the current one would change along with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: makes the record dtype of a layout for L events and K cached floats
Layout = Callable[[int, int], np.dtype[np.void]]

_CODE_1 = np.dtype(
    [
        ("amount", "u1"),
        ("channel", "u1"),
        ("category", "<u2"),
        ("risk", "u1"),
        ("gap", "u1"),
        ("hour", "u1"),
        ("flags", "u1"),
    ]
)
_DECISION_1 = np.dtype(
    [
        ("transaction", "<u8"),
        ("scored_at", "<i8"),
        ("latency_ms", "<i4"),
        ("score", "<f8"),
        ("threshold", "<f8"),
        ("history_len", "<i4"),
        ("model_version", "<u4"),
        ("flags", "u1"),
        ("degraded", "u1"),
        ("reason", "u1", 3),
        ("contribution", "<f4", 3),
        ("expected", _CODE_1, 3),
    ]
)


_DECISION_2 = np.dtype([*_DECISION_1.descr, ("prototype", "<u2", 3), ("similarity", "<f4", 3)])


def layout_1(length: int, cached: int) -> np.dtype[np.void]:
    """With the user's last eight decisions."""
    return _layout_with(_DECISION_1, length, cached)


def layout_2(length: int, cached: int) -> np.dtype[np.void]:
    """With the behaviour patterns of alerts among those decisions."""
    return _layout_with(_DECISION_2, length, cached)


def _layout_with(decision: np.dtype[np.void], length: int, cached: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("version", "<u2"),
            ("model_version", "<u4"),
            ("schema", "<u8"),
            ("n", "<i8"),
            ("cached_n", "<i8"),
            ("first_time_ms", "<i8"),
            ("last_time_ms", "<i8"),
            ("last_offset", "<i8"),
            ("window_hash", "<u8"),
            ("amount_mean", "<f8"),
            ("amount_var", "<f8"),
            ("counts", "<f8", 4),
            ("sums", "<f8", 4),
            ("merchants", "<u8", 16),
            ("country", "<u8"),
            ("device", "<u8"),
            ("profile", "u1", 8),
            ("ring", _CODE_1, length),
            ("cached", "<f4", cached),
            ("expected", _CODE_1, 3),
            ("n_decisions", "<i8"),
            ("decisions", decision, 8),
        ]
    )


def layout_3(length: int, cached: int) -> np.dtype[np.void]:
    """Without decisions, which workers hold in a store of their own since."""
    fields = layout_2(length, cached).descr
    return np.dtype([(name, *rest) for name, *rest in fields if name not in ("n_decisions", "decisions")])


OLDER: dict[int, Layout] = {1: layout_1, 2: layout_2, 3: layout_3}
_KNOWN = 3  # payments that the usual amount of a migrated state counts for: as many as let it be judged by


def migrate(old: NDArray[np.void], fresh: NDArray[np.void]) -> NDArray[np.void]:
    """`old` states as current ones, in `fresh` (states of new users, as many), field by field.

    The decisions of layouts 1 and 2 are left out: workers hold those of the last hours in a store of their own
    (stream.worker.decided), which is read from `fraud.scores`. Layouts 1 to 3 know no sums by day, which begin empty,
    and of the usual amount the mean logarithm.
    """
    kept = {*(fresh.dtype.names or ())} & {*(old.dtype.names or ())} - {"version"}
    for name in kept:
        fresh[name] = old[name]
    known = np.minimum(old["n"], _KNOWN)
    fresh["usual"] = np.stack([known * np.expm1(np.minimum(old["amount_mean"], 25)), known], axis=1)
    return fresh
