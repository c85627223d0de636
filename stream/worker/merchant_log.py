"""Writes what happens at merchants to merchant.events: each payment that was decided, and each label that came."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.data.events import Transaction
from panther_core.data.merchant_events import MerchantEvent, Source
from panther_core.data.topics import MERCHANT_EVENTS
from panther_core.kafka.partitioner import partition_of
from stream.faust_parts.producer import Outgoing, Producer
from stream.worker.intake import Record

_encode = msgspec.json.Encoder().encode
_DIGITS, _LARGEST = 3, 1e5  # of deviations


class MerchantLog:
    """Sends events, by the partitions of their merchants."""

    def __init__(self, producer: Producer, partitions: int) -> None:
        self._producer, self._partitions = producer, partitions

    async def send(self, events: Sequence[MerchantEvent]) -> list[asyncio.Future[list[range]]]:
        """Queue events; returns awaitables that end once they are durable."""
        by_partition: dict[int, list[Outgoing]] = {}
        for event in events:
            key = event.merchant_id.encode()
            outgoing = by_partition.setdefault(partition_of(key, self._partitions, "murmur2"), [])
            outgoing.append((key, _encode(event), []))
        return [await self._producer.send_all(MERCHANT_EVENTS, *part) for part in by_partition.items()]


def payment_events(
    transactions: list[Transaction],
    events: NDArray[np.void],
    records: list[Record],
    ratio: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> list[MerchantEvent]:
    """What merchants are told of EVENT rows."""
    return [
        MerchantEvent(
            merchant_id=transaction.merchant_id,
            transaction_id=transaction.transaction_id,
            source=Source(record.partition, at),
            event_time=time_ms,
            ratio=times_usual,
            deviation=surprise if math.isfinite(surprise) else None,
        )
        for transaction, record, at, time_ms, times_usual, surprise in zip(
            transactions,
            records,
            events["offset"].tolist(),
            events["time_ms"].tolist(),
            ratio.tolist(),
            deviation.astype(np.float64).clip(-_LARGEST, _LARGEST).round(_DIGITS).tolist(),
            strict=True,
        )
    ]
