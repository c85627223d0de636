"""The vocabulary: which combinations of codes are tokens, and how it is fitted (paper 3.2).

A token is a combination (amount, channel, category, counterparty risk) out of their Cartesian product. Nearly all of
the product never occurs; of what occurs, the most frequent combinations are kept, a fixed number of them (top_k), or
the fewest that cover a share of the events (coverage), whichever is less. The rest is [UNK].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.data.schema import CODE, AttributeSchema

#: attributes whose codes make up a token
ATTRIBUTES = ("amount", "channel", "category", "risk")


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


class Vocabulary(msgspec.Struct, frozen=True):
    """The top-K combinations of (amount, channel, category, risk); token 0 is [UNK] (paper 3.2).

    `keys` are sorted combination numbers; the token of keys[i] is i + 1. `radix` are the attribute sizes.
    """

    keys: tuple[int, ...]
    radix: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """Number of tokens, [UNK] included."""
        return len(self.keys) + 1

    def problem(self, radix: tuple[int, int, int, int]) -> str | None:
        """What is wrong with a vocabulary from elsewhere, used with a schema of these attribute sizes ("expected ..."
        without that word). None where nothing is."""
        if self.radix != radix:
            return f"a vocabulary for attributes of {radix} codes, got {self.radix}"
        bounds = (-1, *self.keys, math.prod(radix))
        if any(low >= high for low, high in pairwise(bounds)):
            return f"ascending keys from 0 to below {math.prod(radix)}, got others"
        return None

    def tokens(self, codes: NDArray[np.void]) -> NDArray[np.int64]:
        """Token id of each CODE record, same shape."""
        keys = np.asarray(self.keys, np.int64)
        number = combination(codes, self.radix)
        at = np.searchsorted(keys, number)
        hit = (at < len(keys)) & (keys[np.minimum(at, len(keys) - 1)] == number)
        return np.where(hit, at + 1, 0)

    def codes(self) -> NDArray[np.void]:
        """CODE record of every token, shape [size]; token 0 is all zeros, and so are gap, hour and flags."""
        out = np.zeros(self.size, CODE)
        number = np.asarray(self.keys, np.int64)
        for name, size in reversed(list(zip(ATTRIBUTES, self.radix, strict=True))):
            out[name][1:] = number % size
            number = number // size
        return out


def fit_vocabulary(
    schema: AttributeSchema, codes: NDArray[np.void], top_k: int = 60_000, coverage: float = 1.0
) -> tuple[Vocabulary, float]:
    """The most frequent combinations in `codes` (flat CODE array); also the share of events they cover.

    At most `top_k`, and no more than the fewest that cover `coverage` of the events.
    """
    counts = Combinations.of(codes, radix_of(schema))
    vocabulary = Vocabulary(keys=counts.keys(top_k, coverage), radix=counts.radix)
    kept = np.isin(counts.numbers, np.asarray(vocabulary.keys, np.int64))
    return vocabulary, float(counts.counts[kept].sum() / max(1, counts.events))


def radix_of(schema: AttributeSchema) -> tuple[int, int, int, int]:
    """Sizes of the attributes that make up a token, in the order of ATTRIBUTES."""
    amount, channel, category, risk = (schema.sizes[name] for name in ATTRIBUTES)
    return amount, channel, category, risk
