"""Fitting the tokenizer: buckets of a continuous attribute, and which combinations of codes become tokens (paper 3.2).

A token is a combination (amount, channel, category, counterparty risk) out of their Cartesian product. Nearly all of
the product never occurs; of what occurs, the most frequent combinations are kept, a fixed number of them (top_k), or
the fewest that cover a share of the events (coverage), whichever is less. The rest is [UNK].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["quantile", "log"]
SCALES: tuple[Scale, ...] = ("quantile", "log")
ATTRIBUTES = ("amount", "channel", "category", "risk")
_TAILS = (0.001, 0.999)  # log buckets span the quantiles between, so that one absurd amount does not stretch them all


def bucket_edges(values: NDArray[np.float64], buckets: int, scale: Scale = "quantile") -> tuple[float, ...]:
    """At most buckets - 1 ascending inner edges, six digits each.

    "quantile": buckets of equal counts; fewer where values repeat. "log": buckets of equal ratio between the outer
    thousandths of the positive values; what is outside falls into the first and the last bucket.
    """
    if scale == "quantile":
        edges = np.quantile(values, np.linspace(0, 1, buckets + 1)[1:-1])
    else:
        positive = values[values > 0]
        low, high = np.quantile(positive, _TAILS) if len(positive) else (1.0, 1.0)
        edges = np.geomspace(low, high, buckets - 1)
    return tuple(sorted({float(f"{edge:.6g}") for edge in edges}))


@dataclass(frozen=True)
class Combinations:
    """How often each combination of codes occurs: numbers [C] ascending (mixed radix of ATTRIBUTES) and counts [C]."""

    numbers: NDArray[np.int64]
    counts: NDArray[np.int64]
    radix: tuple[int, int, int, int]

    @classmethod
    def of(cls, codes: NDArray[np.void], radix: tuple[int, int, int, int]) -> Combinations:
        """Count a flat CODE array."""
        numbers, counts = np.unique(combination(codes, radix), return_counts=True)
        return cls(numbers, counts.astype(np.int64), radix)

    @classmethod
    def total(cls, parts: Iterable[Combinations], radix: tuple[int, int, int, int]) -> Combinations:
        """The sum of several counts."""
        found = list(parts)
        every = np.concatenate([part.numbers for part in found] or [np.zeros(0, np.int64)])
        counts = np.concatenate([part.counts for part in found] or [np.zeros(0, np.int64)])
        numbers, index = np.unique(every, return_inverse=True)
        out = np.zeros(len(numbers), np.int64)
        np.add.at(out, index, counts)
        return cls(numbers, out, radix)

    @property
    def events(self) -> int:
        """Events counted."""
        return int(self.counts.sum())

    def attribute(self, name: str) -> NDArray[np.int64]:
        """Code [C] of one attribute in each combination."""
        at = ATTRIBUTES.index(name)
        return self.numbers // math.prod(self.radix[at + 1 :]) % self.radix[at]

    def ranked(self) -> NDArray[np.intp]:
        """Places [C] by falling count; ties by number, so that the same data gives the same vocabulary."""
        return np.lexsort((self.numbers, -self.counts))

    def needed(self, coverage: float) -> int:
        """The fewest combinations that make up at least this share of the events."""
        if not len(self.numbers):
            return 0
        covered = np.cumsum(self.counts[self.ranked()])
        return int(np.searchsorted(covered, math.ceil(coverage * int(covered[-1]) - 1e-6), side="left")) + 1

    def keys(self, top_k: int, coverage: float = 1.0) -> tuple[int, ...]:
        """Numbers of the combinations that become tokens, ascending."""
        kept = self.ranked()[: min(top_k, self.needed(coverage))]
        return tuple(int(number) for number in np.sort(self.numbers[kept]))


def combination(codes: NDArray[np.void], radix: Sequence[int]) -> NDArray[np.int64]:
    """Number of each (amount, channel, category, risk) combination, mixed radix."""
    number = codes["amount"].astype(np.int64)
    for name, size in zip(ATTRIBUTES[1:], radix[1:], strict=True):
        number = number * size + codes[name]
    return number
