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


def layout_1(length: int, cached: int) -> np.dtype[np.void]:
    """Before the behaviour patterns of an alert were kept with its decision."""
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
            ("decisions", _DECISION_1, 8),
        ]
    )


OLDER: dict[int, Layout] = {1: layout_1}


def migrate(old: NDArray[np.void], fresh: NDArray[np.void]) -> NDArray[np.void]:
    """`old` states of layout 1 as current ones, in `fresh` (states of new users, as many), field by field.

    What layout 1 does not know stays as in a fresh state: no pattern near any alert.
    """
    for name in set(old.dtype.names or ()) - {"version", "decisions"}:
        fresh[name] = old[name]
    for name in _DECISION_1.names or ():
        fresh["decisions"][name] = old["decisions"][name]
    return fresh
