"""Reading stretches of topics of a real Kafka."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.kafka.reading import chunks_from_end, held, make_reader, partitions_of, read, read_topic
from tests.topics import make_topics


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka)


@pytest.fixture
def topic(settings: KafkaSettings) -> str:
    """Partition 0 holds the values 0 to 6, partition 1 none, partition 2 the values 7 to 9."""
    name = f"reading-{uuid.uuid4().hex}"

    async def write() -> None:
        await make_topics(settings, [name], 3)
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for value in range(10):
                await producer.send_and_wait(name, b"%d" % value, partition=0 if value < 7 else 2)

    asyncio.run(write())
    return name


def test_a_topic_is_read_by_partition_and_offset(settings: KafkaSettings, topic: str) -> None:
    assert [int(r.value or b"") for r in asyncio.run(read_topic(settings, topic))] == list(range(10))
    assert [int(r.value or b"") for r in asyncio.run(read_topic(settings, topic, 2))] == [7, 8, 9]
    assert asyncio.run(read_topic(settings, topic, 1)) == []


def test_a_topic_that_is_not_there_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(BadInput, match=r"expected a topic no-such-topic at .*, found none"):
        asyncio.run(read_topic(settings, "no-such-topic"))


def test_a_reader_can_be_closed_while_it_drops_an_earlier_assignment(settings: KafkaSettings, topic: str) -> None:
    """As by whoever has looked at partition after partition, and found nothing new."""

    async def go() -> None:
        reader = make_reader(settings)
        await reader.start()
        parts = await partitions_of(reader, topic)
        reader.assign(parts)
        await reader.seek_to_end(*parts)
        await asyncio.sleep(0.2)  # a request for what comes next is under way
        reader.assign(parts[:1])
        closing = asyncio.ensure_future(reader.stop())
        closed, _ = await asyncio.wait([closing], timeout=10)
        closing.cancel()
        assert closed

    asyncio.run(go())


def test_a_reader_can_be_closed_at_once(settings: KafkaSettings) -> None:
    async def go() -> None:
        async with make_reader(settings):
            pass

    asyncio.run(go())


def test_records_of_every_codec_are_read(settings: KafkaSettings) -> None:
    codecs = ("uncompressed", "gzip", "snappy", "lz4", "zstd")
    names = {codec: f"codec-{codec}-{uuid.uuid4().hex}" for codec in codecs}
    value = b"a payment " * 100

    async def write() -> None:
        admin = AIOKafkaAdminClient(**settings.client_options())
        await admin.start()
        try:
            # the broker packs records anew where the topic has another codec than their producer
            await admin.create_topics(
                [NewTopic(name, 1, 1, topic_configs={"compression.type": codec}) for codec, name in names.items()]
            )
        finally:
            await admin.close()
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for name in names.values():
                await producer.send_and_wait(name, value)

    asyncio.run(write())
    for codec, name in names.items():
        assert [record.value for record in asyncio.run(read_topic(settings, name))] == [value], codec


def test_a_stretch_ends_where_it_is_asked_to_end(settings: KafkaSettings, topic: str) -> None:
    async def go() -> None:
        async with make_reader(settings) as consumer:
            parts = await partitions_of(consumer, topic)
            assert list((await held(consumer, parts)).values()) == [range(7), range(0), range(3)]
            assert [r.offset async for r in read(consumer, parts[0], range(2, 5))] == [2, 3, 4]
            assert [r.offset async for r in read(consumer, parts[2], range(1, 3))] == [1, 2]
            assert [r.offset async for r in read(consumer, parts[0], range(5, 5))] == []
            chunks = [[r.offset for r in chunk] async for chunk in chunks_from_end(consumer, parts[0], 3)]
            assert chunks == [[4, 5, 6], [1, 2, 3], [0]]
            assert [chunk async for chunk in chunks_from_end(consumer, parts[1], 3)] == []

    asyncio.run(go())
