"""The rows generators pass around, and the two sources of chance: a stream by purpose, and a hash of facts.

A hash gives a fact without a table of it: the favourite pharmacy of user 17 in spring is a function of those words,
so facts cost no memory however many users, merchants and seasons there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW = np.dtype(
    [
        ("time_ms", "i8"),
        ("amount", "f8"),
        ("user", "i4"),
        ("merchant", "i4"),
        ("device", "i4"),  # -1 = not given
        ("category", "u1"),
        ("channel", "u1"),
        ("country", "u1"),
        ("kind", "i1"),  # index in FRAUD_KINDS, -1 legitimate
    ]
)
Rows = NDArray[np.void]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers for one purpose: another part of the generator that draws more does not shift them."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def uniform(seed: int, *facts: Any) -> Floats:
    """A number in [0, 1) that is a function of the facts (integers or arrays that broadcast): splitmix64."""
    with np.errstate(over="ignore"):
        h = np.asarray(seed, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        for fact in facts:
            h = h ^ (np.asarray(fact).astype(np.int64).astype(np.uint64) * np.uint64(0xD1342543DE82EF95))
            h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            h = h ^ (h >> np.uint64(31))
    out: Floats = (h >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return out


def bell(seed: int, *facts: Any) -> Floats:
    """A roughly normal number (mean 0, deviation 1, within 2.45) that is a function of the facts."""
    out: Floats = (uniform(seed, 1, *facts) + uniform(seed, 2, *facts) - 1.0) * 2.449489742783178
    return out


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """For groups of the given sizes laid end to end: each member's group, and its place in the group."""
    group = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    return group, place
