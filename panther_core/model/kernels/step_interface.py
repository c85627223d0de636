"""What one incremental step must do, on whatever device: append one new event a row to the slabs.

Shapes as in panther_core.model.kernels.pool; B rows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor


class Step(Protocol):
    """Both calls append to the slabs; no two rows have the same slot. `slot` and `at` are int64 [B]."""

    def advance(self, x_BD: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        """All layers for the one position `at` of each row's slab, from their input `x`: their output [B, D].

        `x` may be overwritten, and the output holds until the next call only.
        """

    def pooled(self, new_BP: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        """Text-convolution features [B, P] to cache after the event at window position `at`, given its activations."""

    def computing(self) -> AbstractContextManager[object]:
        """The arithmetic of `advance`, for a full pass over the same layers."""
