"""Which replica encodes which user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rendezvous(users: NDArray[np.uint64], seeds: Sequence[int]) -> NDArray[np.intp]:
    """Position in `seeds` of the replica for each user: the seed whose hash together with the user is highest.

    When a seed is taken away, only the users of that seed move, evenly to the others. The order of seeds has no effect.
    """
    x = users[None, :] ^ np.asarray(seeds, np.uint64)[:, None]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    highest: NDArray[np.intp] = (x ^ (x >> np.uint64(31))).argmax(axis=0)
    return highest
