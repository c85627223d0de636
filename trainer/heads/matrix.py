"""The feature columns that all heads of the benchmarks share: the context features that decisions are made on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.entities.arrays import Ints
from panther_core.state.features import NAMES

#: columns that only grow with time, so that every value in a test window lies beyond those seen in training
_CLOCKS = ("log_age_d",)


@dataclass(frozen=True)
class Matrix:
    """Feature columns: values [N, F], and the F names."""

    values: NDArray[np.float32]
    names: tuple[str, ...]

    @classmethod
    def of_context(cls, features_NF: NDArray[np.float32]) -> Matrix:
        """The context features of N rows, without clocks."""
        return cls(features_NF, NAMES).without(_CLOCKS)

    def without(self, prefixes: tuple[str, ...]) -> Matrix:
        """The matrix without the columns whose name starts with one of `prefixes`."""
        kept = [i for i, name in enumerate(self.names) if not name.startswith(prefixes)]
        return Matrix(self.values[:, kept], tuple(self.names[i] for i in kept))

    def take(self, rows: Ints) -> Matrix:
        """The given rows."""
        return Matrix(self.values[rows], self.names)

    def beside(self, values: NDArray[np.float32], names: tuple[str, ...]) -> Matrix:
        """The matrix with further columns on the right."""
        return Matrix(np.hstack([self.values, values]), (*self.names, *names))
