"""Slices of transactions that reports look at: by length of the user's history, amount, and the most frequent words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panther_core.report.curves import Floats

_LENGTHS = (0, 1, 10, 50, 256)  # history lengths at which slices begin
_SHARES = (0.25, 0.5, 0.75, 0.95)  # quantiles of the amount at which its slices are cut
_MOST = 12  # so many values of a property get a slice, the most frequent

Parts = tuple[list[str], NDArray[np.int64]]
"""Names of a property's values, and the index of each row's value (-1: the value gets no slice)."""


def by_history(history_len: NDArray[np.integer[Any]]) -> Parts:
    """By the number of the user's earlier events [N]."""
    names = [f"{low} to {high - 1}" if high - low > 1 else str(low) for low, high in pairwise(_LENGTHS)]
    return [*names, f"{_LENGTHS[-1]} and more"], np.searchsorted(_LENGTHS, history_len, side="right") - 1


def by_amount(amount: Floats, measured: NDArray[np.bool_]) -> Parts:
    """By amount [N], cut at quantiles of the measured rows."""
    cuts = np.unique(np.quantile(amount[measured], _SHARES))
    ends = ["", *(f"{cut:,.2f}" for cut in cuts.tolist()), ""]
    names = [
        f"{low} to {high}" if low and high else f"below {high}" if high else f"{low} and more"
        for low, high in pairwise(ends)
    ]
    return names, np.searchsorted(cuts, amount, side="right")


class Words(Protocol):
    """A word of each row: index [N] into `words`, -1 for none (panther_core.data.table.Words)."""

    @property
    def index(self) -> NDArray[np.int32]:
        """[N]."""
        ...

    @property
    def words(self) -> Sequence[str]:
        """Each once."""
        ...


def by_word(words: Words, some: NDArray[np.bool_], missing: str = "not given") -> Parts:
    """By word, the most frequent ones of `some` rows. `missing`: name of the rows without one, or with an empty one."""
    counts = np.bincount(words.index[some] + 1, minlength=len(words.words) + 1)
    shown = [int(value) for value in np.argsort(-counts, kind="stable")[:_MOST] if counts[value]]
    place = np.full(len(counts), -1)
    place[shown] = np.arange(len(shown))
    return [missing if value == 0 else words.words[value - 1] or missing for value in shown], place[words.index + 1]
