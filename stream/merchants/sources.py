"""Which events a merchant partition has counted, by their sources: a bit for each record of each source partition.

A worker that was killed writes events again that it had written before. An event's source is its identity, so an event
whose bit is set was counted. Bits are kept in buckets of BITS records, beside the merchants' states, under keys that no
merchant's id can be. On the changelog a batch's states come before its bits: where the bit is, the state is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from panther_core.data.merchant_events import MerchantEvent

BITS = 4096
_KEY = b"\0seen"
#: of a bucket; the head is that of every value of the store (panther_core.entities.merchants.MERCHANT): of two buckets
#: the one with more bits is the newer one
BUCKET = np.dtype([("day", "<i4"), ("spare", "V10"), ("n", "<i8"), ("bits", "u1", BITS // 8)])


class Sources:
    """The buckets that one batch of a partition touches. `read`: gives the stored bytes of a key, or None."""

    def __init__(self, read: Callable[[bytes], bytes | None]) -> None:
        self._read = read
        self._buckets: dict[bytes, _Bucket] = {}

    def first(self, event: MerchantEvent, day: int) -> bool:
        """Whether this source is met for the first time; from now on it is known.

        `day`: on which the event was written, for `is_old`. A worker that was killed writes it again soon by the clock,
        whenever it happened.
        """
        kind = b"p" if event.label is None else b"l"
        number, place = divmod(event.source.at, BITS)
        key = _KEY + kind + event.source.partition.to_bytes(2, "big") + number.to_bytes(8, "big")
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._read(key))
        byte, bit = divmod(place, 8)
        if bucket.bits[byte] >> bit & 1:
            return False
        bucket.bits[byte] |= 1 << bit
        bucket.n += 1
        bucket.day = max(day, bucket.day)
        return True

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and bytes of the buckets that the batch has touched."""
        return ((key, bucket.stored()) for key, bucket in self._buckets.items())


class _Bucket:
    """A BUCKET in Python's own types: a bit of an array costs ten times as much to set."""

    def __init__(self, stored: bytes | None) -> None:
        row = np.zeros(1, BUCKET) if stored is None else np.frombuffer(stored, BUCKET)
        self.day, self.n, self.bits = int(row["day"][0]), int(row["n"][0]), bytearray(row["bits"][0].tobytes())

    def stored(self) -> bytes:
        row = np.zeros(1, BUCKET)
        row["day"], row["n"], row["bits"] = self.day, self.n, np.frombuffer(self.bits, np.uint8)
        return row.tobytes()


def is_old(key: bytes, value: bytes, before_day: int) -> bool:
    """Whether a stored pair is a bucket into which nothing has come since a day: no worker writes its events again."""
    return key.startswith(_KEY) and int(np.frombuffer(value, BUCKET)["day"][0]) < before_day
