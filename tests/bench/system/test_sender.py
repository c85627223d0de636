"""The benchmarks' sender: what it puts on the topic is what `panther produce` would."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord

from bench.system.sender import SPAWN, send_at_rate, send_from_a_process
from infra.local.errors import StackError
from infra.local.ports import pick_free
from panther_core.base.settings import KafkaSettings
from panther_core.data.generator import GeneratorConfig, generate
from stream.faust_parts.producer import make_producer
from stream.tools.produce import Produced

_TABLE = generate(GeneratorConfig(users=20, days=5, seed=3)).take(slice(0, 100))
_RATE = 500.0


def _never() -> bool:
    return False


async def _topic(settings: KafkaSettings, name: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(**settings.client_options())
    await admin.start()
    if name not in await admin.list_topics():
        await admin.create_topics([NewTopic(name, 4, 1, topic_configs=config)])
    await admin.close()


async def _records(settings: KafkaSettings, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    parts = [TopicPartition(topic, p) for p in range(4)]
    async with AIOKafkaConsumer(**settings.client_options(), auto_offset_reset="earliest") as consumer:
        consumer.assign(parts)
        out: list[ConsumerRecord[bytes, bytes]] = []
        for part, end in (await consumer.end_offsets(parts)).items():
            while end and await consumer.position(part) < end:
                for records in (await consumer.getmany(part, timeout_ms=1000)).values():
                    out += records
    return out


def test_the_records_are_those_of_the_product_and_bear_the_time_they_were_due(kafka: str) -> None:
    settings, topic = KafkaSettings(bootstrap_servers=kafka), "sent-at-rate"
    asyncio.run(_topic(settings, topic))
    done = send_at_rate(kafka, _TABLE, _RATE, _never, topic=topic)
    assert done.count == 100
    assert done.seconds >= 99 / _RATE  # open loop: never ahead of its schedule
    sent = asyncio.run(_records(settings, topic))
    wanted = asyncio.run(_of_the_product(settings, topic))
    assert sorted((r.value, r.key, r.partition) for r in sent) == wanted
    assert sorted(r.timestamp for r in sent) == [int(1000 * (done.started_s + i / _RATE)) for i in range(100)]


async def _of_the_product(settings: KafkaSettings, topic: str) -> list[tuple[bytes, bytes, int]]:
    encode = msgspec.json.Encoder().encode
    async with make_producer(settings) as producer:
        await producer.partitions_for(topic)
        keys = {t.user_id.encode() for t in _TABLE.rows()}
        partition = {key: producer.partition_of(topic, key) for key in keys}
    return sorted((encode(t), t.user_id.encode(), partition[t.user_id.encode()]) for t in _TABLE.rows())


def test_it_ends_when_told_to(kafka: str) -> None:
    asyncio.run(_topic(KafkaSettings(bootstrap_servers=kafka), "sent-and-stopped"))
    end_s = time.time() + 0.5
    done = send_at_rate(kafka, _TABLE, 20.0, lambda: time.time() > end_s, topic="sent-and-stopped")
    assert 0 < done.count < 100


def test_a_process_of_its_own_ends_when_told_to_and_hands_on_errors(kafka: str) -> None:
    topic, stop = "sent-by-a-process", SPAWN.Event()
    asyncio.run(_topic(KafkaSettings(bootstrap_servers=kafka), topic))

    async def cut() -> Produced:
        sender = asyncio.create_task(send_from_a_process(kafka, _TABLE, 1.0, stop, topic))
        await asyncio.sleep(0.5)
        stop.set()
        return await sender

    assert asyncio.run(cut()).count < 100
    with pytest.raises(StackError, match="no-such-topic"):
        asyncio.run(send_from_a_process(kafka, _TABLE, _RATE, SPAWN.Event(), "no-such-topic"))


def test_a_topic_that_is_not_there_is_an_error(kafka: str) -> None:
    with pytest.raises(StackError, match="no-such-topic"):
        send_at_rate(kafka, _TABLE, _RATE, _never, topic="no-such-topic")


def test_a_broker_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.system.sender._FLUSH_S", 0.5)
    (port,) = pick_free(1)
    with pytest.raises(StackError, match=f"127.0.0.1:{port}"):
        send_at_rate(f"127.0.0.1:{port}", _TABLE, _RATE, _never)


def test_records_that_the_broker_refuses_are_an_error(kafka: str) -> None:
    asyncio.run(_topic(KafkaSettings(bootstrap_servers=kafka), "sent-too-large", **{"max.message.bytes": "20"}))
    with pytest.raises(StackError, match="refused"):
        send_at_rate(kafka, _TABLE, _RATE, _never, topic="sent-too-large")
