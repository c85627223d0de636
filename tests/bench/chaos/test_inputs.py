"""What the chaos checker takes for inputs, on a real broker: its topic is trimmed, made anew, written to in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.chaos.evidence import ChaosEvidence
from bench.chaos.inputs import EPOCH, InputLog
from bench.topics import held_now, make_anew, transact, trim, unread
from bench.waits import poll
from infra.create_topics import create_topics
from infra.local.kafka import KafkaBroker
from infra.local.ports import pick_free
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import SCORES, TRANSACTIONS
from panther_core.kafka.answers import headers_of
from stream.faust_parts.producer import make_producer
from tests.bench.chaos.test_chaos_check import kafka_record

SETTINGS = PantherSettings(app_id="inputs", partitions=1)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of this module's own, since its topics are deleted."""
    port, controller_port = pick_free(2)
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), port, controller_port) as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap)
        asyncio.run(create_topics(settings, SETTINGS))
        yield settings


async def send(kafka: KafkaSettings, *values: bytes, topic: str = TRANSACTIONS) -> None:
    async with make_producer(kafka) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"u")


async def commit(kafka: KafkaSettings, offset: int) -> None:
    options = kafka.client_options() | {"group_id": SETTINGS.app_id, "enable_auto_commit": False}
    async with AIOKafkaConsumer(**options) as consumer:
        consumer.assign([TopicPartition(TRANSACTIONS, 0)])
        await consumer.commit({TopicPartition(TRANSACTIONS, 0): offset})


async def unread_once_it_is(count: int, kafka: KafkaSettings) -> int:
    """The broker writes a transaction's marker a moment after it has answered."""
    return await poll(lambda: unread(kafka, SETTINGS.app_id), lambda n: n == count, 10)


def test_records_that_are_deleted_later_are_inputs_and_aborted_ones_are_not(kafka: KafkaSettings) -> None:
    async def go() -> tuple[InputLog, list[int]]:
        inputs, left = InputLog(kafka), list[int]()
        await send(kafka, b"0", b"1", b"2")
        await transact(kafka, [(b"u", b"3")], commit=False)  # and a marker at 4
        while (await held_now(kafka))[0].stop < 5:  # noqa: ASYNC110 - the marker comes a moment after the answer
            await asyncio.sleep(0.05)
        await transact(kafka, [(b"u", b"5")], commit=True)  # and a marker at 6, the last offset
        left.append(await unread_once_it_is(4, kafka))
        await commit(kafka, 2)
        left.append(await unread_once_it_is(2, kafka))
        await commit(kafka, 6)
        left.append(await unread_once_it_is(0, kafka))
        await inputs.collect()
        await trim(kafka, {0: 2})
        assert inputs.note_trimmed({0: range(1, 2)}) == 1
        assert (await held_now(kafka))[0] == range(2, 7)

        await send(kafka, b"old", topic=SCORES)
        await inputs.collect()
        await make_anew(kafka, SETTINGS)
        await inputs.begin_anew()
        await send(kafka, b"new")
        await inputs.collect()
        return inputs, left

    inputs, left = asyncio.run(go())
    assert left == [4, 2, 0], "a marker and an aborted record are nothing that somebody could read"
    assert [record.value for record in inputs.records] == [b"0", b"2", b"5", b"new"]
    assert [record.offset for record in inputs.records] == [0, 2, 5, EPOCH]
    assert inputs.trimmed == {(0, 1)}

    evidence = ChaosEvidence([], [], [], [], [], [], cuts=tuple(inputs.cuts))
    told = [kafka_record(offset, b"", b"", headers_of("a", 0, 0), SCORES) for offset in (0, 1)]
    assert list(map(evidence.position, told)) == [(0, 0), (0, EPOCH)], "what is published later answers the new topic"
