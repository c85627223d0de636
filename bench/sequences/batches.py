"""Training batches and evaluation inputs of a leave-one-out split; the newest `length` items count, as published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panther_core.data.formats.sequences import LeaveOneOut
from panther_core.model.bulk import chunks

Stage = Literal["validation", "test"]
_POOL = 16  # batches that are sorted by length together: little padding, and still chance in what meets what


class Inputs:
    """Rows items[begin : end] predicting the item after each of theirs; right-padded with 0 when taken."""

    def __init__(self, items: NDArray[np.int32], begin: NDArray[np.int64], end: NDArray[np.int64], length: int) -> None:
        self._items = items
        self.begin, self.end = np.maximum(begin, end - length), end

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[rows]."""
        return self.end - self.begin

    def take(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs [B, T] and, for each position, the item that came next [B, T]; 0 where padded."""
        at = self.begin[rows, None] + np.arange(int(self.lengths[rows].max()))
        there = at < self.end[rows, None]
        at = np.where(there, at, 0)
        x, y = self._items[at], self._items[np.minimum(at + 1, len(self._items) - 1)]
        return np.where(there, x, 0).astype(np.int64), np.where(there, y, 0).astype(np.int64)


def training_inputs(split: LeaveOneOut, length: int) -> Inputs:
    """A row a user that has at least two training items."""
    begin, end = split.sequences.bounds[:-1], split.train_end - 1
    users = end > begin
    return Inputs(split.sequences.items, begin[users], end[users], length)


def held_out_inputs(split: LeaveOneOut, stage: Stage, length: int) -> Inputs:
    """A row an evaluated user; the next item after its last position is the one held out."""
    end = split.train_end[split.evaluated] + (stage == "test")
    return Inputs(split.sequences.items, split.sequences.bounds[:-1][split.evaluated], end, length)


def batches(lengths: NDArray[np.int64], positions: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Rows of each batch of one pass: about the same length, at most `positions` when padded, in random order."""
    order = rng.permutation(len(lengths))
    pool = max(1, round(_POOL * positions / max(1.0, float(lengths.mean()))))
    parts = [
        order[start : start + pool][part]
        for start in range(0, len(order), pool)
        for part in chunks(lengths[order[start : start + pool]], positions)
    ]
    for i in rng.permutation(len(parts)):
        yield parts[i]
