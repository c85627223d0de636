"""The real broker: it keeps a message, bounds its size, and its death is noticed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from infra.local.errors import PortInUse
from infra.local.kafka import MESSAGE_MAX_BYTES, KafkaBroker, kafka_problem, new_cluster_id
from infra.local.ports import pick_free


async def _round_trip(bootstrap: str, topic: str, value: bytes) -> bytes:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=MESSAGE_MAX_BYTES) as producer:
        await producer.send_and_wait(topic, value)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=topic, auto_offset_reset="earliest",
        max_partition_fetch_bytes=MESSAGE_MAX_BYTES,
    )  # fmt: skip
    async with consumer:
        message = await asyncio.wait_for(consumer.getone(), 20)
    assert isinstance(message.value, bytes)
    return message.value


def test_a_message_of_six_megabytes_comes_back_through_a_group(kafka: str) -> None:
    value = b"x" * (6 * 1024 * 1024)
    assert asyncio.run(_round_trip(kafka, "stack-round-trip", value)) == value
    assert kafka_problem(kafka) is None


def test_health_can_be_asked_inside_an_event_loop(kafka: str) -> None:
    async def ask() -> str | None:
        return kafka_problem(kafka)

    assert asyncio.run(ask()) is None


def test_nobody_there_is_a_problem_not_an_exception() -> None:
    [port] = pick_free(1)
    assert kafka_problem(f"127.0.0.1:{port}") == f"no Kafka answers at 127.0.0.1:{port} (KafkaConnectionError)"


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = KafkaBroker(tmp_path, server.getsockname()[1])
        with pytest.raises(PortInUse, match="--kafka-port"):
            broker.start()
    assert broker.process is None
    assert not (tmp_path / "kafka").exists()


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    identifiers = [new_cluster_id() for _ in range(1_000)]
    assert all(len(text) == 22 and not text.startswith("-") for text in identifiers)
