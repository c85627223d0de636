"""Which partition a key belongs on, by the producers' partitioners, for many keys at once."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

Partitioner = Literal["murmur2", "crc32", "none"]

_SEED, _M = 0x9747B28C, np.uint32(0x5BD1E995)
_POSITIVE = np.uint32(0x7FFFFFFF)


def partition_of(key: bytes, count: int, partitioner: Partitioner) -> int:
    """Partition of one key, as `partitions_of` gives it."""
    if partitioner == "crc32":
        return zlib.crc32(key) % count
    return int(murmur2(key) & 0x7FFFFFFF) % count


def partitions_of(keys: Sequence[bytes], count: int, partitioner: Partitioner) -> NDArray[np.int64]:
    """Partition [N] of each key among `count`.

    murmur2: Java's producer, aiokafka, and librdkafka with `partitioner=murmur2_random`. crc32: librdkafka's default,
    `consistent_random`.
    """
    if partitioner == "crc32":
        return np.array([zlib.crc32(key) % count for key in keys], np.int64)
    return (_murmur2(keys) & _POSITIVE).astype(np.int64) % count


def _murmur2(keys: Sequence[bytes]) -> NDArray[np.uint32]:
    """MurmurHash2 (32 bits, Kafka's seed) of each key, four bytes of all keys at a time."""
    length = np.array([len(key) for key in keys], np.uint32)
    words = int(length.max(initial=0)) // 4 + 1  # the last one holds the rest of 0 to 3 bytes
    padded = b"".join(key.ljust(4 * words, b"\0") for key in keys)
    block = np.frombuffer(padded, "<u4").reshape(len(keys), words)
    whole = length // np.uint32(4)
    out: NDArray[np.uint32] = np.uint32(_SEED) ^ length
    for i in range(words):
        k = block[:, i] * _M
        k = (k ^ (k >> np.uint32(24))) * _M
        out = np.where(i < whole, (out * _M) ^ k, out)
    rest = block[np.arange(len(keys)), whole]
    out = np.where(length % np.uint32(4) > 0, (out ^ rest) * _M, out)
    out = (out ^ (out >> np.uint32(13))) * _M
    return out ^ (out >> np.uint32(15))
