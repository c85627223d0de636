"""Which replica encodes which user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rendezvous(users: NDArray[np.uint64], seeds: Sequence[int]) -> NDArray[np.intp]:
    """Position in `seeds` of the replica that each user goes to: the one with the highest hash of both.

    Taking a seed away moves its own users only, evenly over the others. The order of seeds does not matter.
    """
    x = users[None, :] ^ np.asarray(seeds, np.uint64)[:, None]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    highest: NDArray[np.intp] = (x ^ (x >> np.uint64(31))).argmax(axis=0)
    return highest
