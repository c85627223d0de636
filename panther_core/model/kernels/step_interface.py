"""The interface of the incremental step, which appends one new event a row to the slabs of a pool.

Shapes as in panther_core.model.kernels.pool; B rows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor


class Step(Protocol):
    """`advance` and `pooled` append to the slabs. Rows have different slots. `slot` and `at` are int64 [B]."""

    def advance(self, x_BD: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        """Output [B, D] of all layers at position `at` of each row's slab, from the first layer's input `x` there.

        `x` may be overwritten; the output is valid until the next call.
        """

    def pooled(self, new_BP: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        """Text features [B, P] to cache after the event at window position `at`, from the activations `new` of windows
        that end at it."""

    def computing(self) -> AbstractContextManager[object]:
        """A context in which torch computes with the precision of `advance`, for a full pass over the same layers."""
