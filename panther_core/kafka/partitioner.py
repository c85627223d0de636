"""Which partition a key belongs on, by the producers' partitioners."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

Partitioner = Literal["murmur2", "crc32", "none"]


@lru_cache(1 << 17)  # users come again; the hash of a key costs more than all other checks of a record
def partition_of(key: bytes, count: int, partitioner: Partitioner) -> int:
    """Partition of a key among `count`.

    murmur2: Java's producer, aiokafka, and librdkafka with `partitioner=murmur2_random`. crc32: librdkafka's default,
    `consistent_random`.
    """
    if partitioner == "crc32":
        return zlib.crc32(key) % count
    return int(murmur2(key) & 0x7FFFFFFF) % count


def partitions_of(keys: Sequence[bytes], count: int, partitioner: Partitioner) -> NDArray[np.int64]:
    """Partition [N] of each key, as `partition_of` gives it."""
    return np.array([partition_of(key, count, partitioner) for key in keys], np.int64)
