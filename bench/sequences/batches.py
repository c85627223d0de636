"""Training batches and evaluation inputs of `panther bench seqrec` and `rerank`, from a leave-one-out split.

The model reads the newest `length` items of a user, as in the published protocols. Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panther_core.data.formats.sequences import LeaveOneOut
from panther_core.model.bulk import chunks

HeldOutStage = Literal["validation", "test"]
_POOL = 16  # batches whose rows are sorted by length together: little padding, and batches still mix at random


class SequenceInputs:
    """Rows items[begin : end], cut to their last `length` items; each position predicts the item after it."""

    def __init__(self, items: NDArray[np.int32], begin: NDArray[np.int64], end: NDArray[np.int64], length: int) -> None:
        self._items = items
        self.begin, self.end = np.maximum(begin, end - length), end

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Items of each row, [rows]."""
        return self.end - self.begin

    def take(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Input items [B, T] and the item that follows each of them [B, T]; both padded with 0 on the right."""
        at = self.begin[rows, None] + np.arange(int(self.lengths[rows].max()))
        there = at < self.end[rows, None]
        at = np.where(there, at, 0)
        x, y = self._items[at], self._items[np.minimum(at + 1, len(self._items) - 1)]
        return np.where(there, x, 0).astype(np.int64), np.where(there, y, 0).astype(np.int64)


def training_inputs(split: LeaveOneOut, length: int) -> SequenceInputs:
    """One row for every user with at least two training items."""
    begin, end = split.sequences.bounds[:-1], split.train_end - 1
    users = end > begin
    return SequenceInputs(split.sequences.items, begin[users], end[users], length)


def held_out_inputs(split: LeaveOneOut, stage: HeldOutStage, length: int) -> SequenceInputs:
    """One row for every evaluated user; the item after the row's last position is the held-out item of `stage`."""
    end = split.train_end[split.evaluated] + (stage == "test")
    return SequenceInputs(split.sequences.items, split.sequences.bounds[:-1][split.evaluated], end, length)


def batches(lengths: NDArray[np.int64], positions: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Row numbers of each batch of one pass over all rows.

    Rows of a batch have about the same length and at most `positions` positions once padded; the order is random.
    """
    order = rng.permutation(len(lengths))
    pool = max(1, round(_POOL * positions / max(1.0, float(lengths.mean()))))
    parts = [
        order[start : start + pool][part]
        for start in range(0, len(order), pool)
        for part in chunks(lengths[order[start : start + pool]], positions)
    ]
    for i in rng.permutation(len(parts)):
        yield parts[i]
