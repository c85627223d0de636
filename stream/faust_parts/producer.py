"""The one Kafka producer of the stream side: for transactions, decisions, alerts, dead letters and changelog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings

#: key, value, headers
Outgoing = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


class Producer(AIOKafkaProducer):
    """aiokafka's producer, which also takes many records of a partition at once.

    `send` makes a future of every record, which costs more than the record itself. Written for the private parts of
    aiokafka 0.14.0 (pinned exactly); tests/stream/faust_parts/test_producer.py fails when they move.
    """

    #: called before each produce request; a PantherError that it raises fails the request's records, which are not sent
    before_request: Callable[[], None] | None = None

    async def start(self) -> None:
        """Connect; every produce request calls `before_request` from now on."""
        await super().start()
        sender = self._sender
        produce = sender._send_produce_req

        async def guarded(node_id: int, batches: dict[TopicPartition, Any]) -> None:
            if self.before_request is not None:
                try:
                    self.before_request()
                except PantherError as error:
                    for batch in batches.values():
                        batch.failure(error)
                    sender._in_flight.remove(node_id)
                    sender._muted_partitions.difference_update(batches)
                    return
            await produce(node_id, batches)

        sender._send_produce_req = guarded

    async def send_all(
        self,
        topic: str,
        partition: int,
        records: Iterable[Outgoing],
        timestamps_ms: Iterable[int | None] = repeat(None),
    ) -> asyncio.Future[list[range]]:
        """Queue records in order, as `send` does one; the future gives their offsets once all are durable.

        Waits while the partition's batches are full. The future raises the broker's error. Records without a timestamp
        (epoch ms) get the present time.
        """
        await self.client._wait_on_metadata(topic)
        waiting, tp = self._message_accumulator._batches, TopicPartition(topic, partition)
        sent: list[tuple[asyncio.Future[Any], range]] = []  # future of a batch or a record, places in it
        for (key, value, headers), timestamp_ms in zip(records, timestamps_ms, strict=False):
            batch = waiting[tp][-1] if waiting.get(tp) else None
            place = (
                batch._builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) if batch else None
            )
            if batch is None or place is None:
                # no batch yet, or a full one: `send` waits for room and begins the next batch
                sent.append((await self.send(topic, value, key, partition, timestamp_ms, headers), range(1)))
            elif sent and sent[-1][0] is batch.future and sent[-1][1].stop == place.offset:
                sent[-1] = (batch.future, range(sent[-1][1].start, place.offset + 1))
            else:
                sent.append((batch.future, range(place.offset, place.offset + 1)))
        return asyncio.ensure_future(_offsets(sent))

    def partition_of(self, topic: str, key: bytes) -> int:
        """Partition of records with this key. The topic must be known (`await partitions_for(topic)`)."""
        partition: int = self._partition(topic, None, key, None, key, None)
        return partition


async def _offsets(sent: list[tuple[asyncio.Future[Any], range]]) -> list[range]:
    found = []
    for future, places in sent:
        first = (await asyncio.shield(future)).offset  # other callers wait for the same batch's future
        found.append(range(first + places.start, first + places.stop))
    return found


def make_producer(kafka: KafkaSettings) -> Producer:
    """Producer without duplicates or reordering on retries; a record the broker finds too large raises when sent."""
    return Producer(
        **kafka.client_options(),
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=256 << 10,
        max_request_size=8 << 20,
    )
