"""The rows that parts of the generator exchange, and its two sources of random numbers.

`stream` draws numbers for one purpose. `uniform` and `bell` hash facts into a number: the favourite pharmacy of user 17
in spring is a function of user, category and season, so it needs no table, and memory does not grow with the number of
users, merchants and seasons.
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
    """Random numbers for one purpose; they stay the same when another purpose draws more or fewer numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def uniform(seed: int, *facts: Any) -> Floats:
    """A number in [0, 1) for each combination of facts (integers, or arrays that broadcast), hashed by splitmix64."""
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
    """A roughly normal number for each combination of facts: mean 0, deviation 1, none beyond 2.45."""
    out: Floats = (uniform(seed, 1, *facts) + uniform(seed, 2, *facts) - 1.0) * 2.449489742783178
    return out


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """Lay groups of the given sizes end to end; returns each member's group, and its place in the group from 0 on."""
    group = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    return group, place
