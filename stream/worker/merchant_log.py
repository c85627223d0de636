"""Writes what happens at merchants to merchant.events: each payment that was decided, and each label that came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from panther_core.data.merchant_events import MerchantEvent
from panther_core.data.topics import MERCHANT_EVENTS
from panther_core.kafka.partitioner import partition_of
from stream.faust_parts.producer import Outgoing, Producer

_encode = msgspec.json.Encoder().encode


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
