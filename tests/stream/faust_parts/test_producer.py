"""Many records at once through the producer: order, offsets, batches that fill up, a broker that refuses."""

from __future__ import annotations

import asyncio
import uuid
from itertools import chain

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings
from stream.faust_parts.producer import make_producer
from tests.topics import make_topics


def test_a_request_that_may_not_be_made_fails_its_records_and_the_next_ones(kafka: str) -> None:
    settings, allowed = KafkaSettings(bootstrap_servers=kafka), True

    def before() -> None:
        if not allowed:
            raise PantherError("no longer the owner")

    async def go() -> None:
        nonlocal allowed
        topic = await _topic(settings)
        producer = make_producer(settings)
        producer.before_request = before
        async with producer:
            await (await producer.send_all(topic, 0, [(b"k", b"v", [])]))
            allowed = False
            for _ in range(2):
                with pytest.raises(PantherError, match="no longer"):
                    await (await producer.send_all(topic, 0, [(b"k", b"v", []), (b"l", b"w", [])]))
            with pytest.raises(PantherError, match="no longer"):
                await producer.send_and_wait(topic, b"v", key=b"k", partition=1)
        async with AIOKafkaConsumer(topic, **settings.client_options()) as consumer:
            ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(2)])
        assert sorted(ends.values()) == [0, 1]

    asyncio.run(go())


async def _topic(settings: KafkaSettings, **config: str) -> str:
    topic = f"many-{uuid.uuid4().hex}"
    await make_topics(settings, [topic], 2, **config)
    return topic


@pytest.mark.parametrize("size", [10, 3000])  # 3,000 x 3,000 bytes: dozens of full batches
def test_records_arrive_in_order_and_the_future_gives_their_offsets(kafka: str, size: int) -> None:
    settings, count = KafkaSettings(bootstrap_servers=kafka), 3000

    async def go() -> None:
        topic = await _topic(settings)
        async with make_producer(settings) as producer:
            records = [(b"%d" % i, b"%d" % i * (size // 4), [("source", b"%d" % i)]) for i in range(count)]
            first = await producer.send_all(topic, 1, records[:100])
            other = await producer.send_all(topic, 0, records[:7])
            rest = await producer.send_all(topic, 1, iter(records[100:]))
            assert list(chain(*await rest)) == list(range(100, count))
            assert list(chain(*await first)) == list(range(100))
            assert list(chain(*await other)) == list(range(7))
        async with AIOKafkaConsumer(**settings.client_options(), auto_offset_reset="earliest") as consumer:
            tp = TopicPartition(topic, 1)
            consumer.assign([tp])
            seen: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = []
            while len(seen) < count:
                for found in (await consumer.getmany(timeout_ms=1000)).values():
                    seen += [(r.key, r.value, list(r.headers)) for r in found]
        assert seen == records

    asyncio.run(go())


def test_what_the_broker_refuses_is_raised(kafka: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka)

    async def go() -> None:
        topic = await _topic(settings, **{"max.message.bytes": "5000"})
        async with make_producer(settings) as producer:
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_all(topic, 0, [(b"k", b"x" * (9 << 20), [])])
            with pytest.raises(KafkaError):  # over the broker's own limit: said by the broker, not by the client
                await (await producer.send_all(topic, 0, [(b"k", b"x" * 6000, [])]))
            assert await (await producer.send_all(topic, 0, [(b"k", b"v", [])])) == [range(1)]

    asyncio.run(go())
