"""Records compressed by producers and by the broker, with every codec that Kafka knows."""

from __future__ import annotations

import asyncio
import shutil

from confluent_kafka import KafkaError, Message, Producer

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, Sending, sending
from bench.topics import configure
from panther_core.data.topics import TRANSACTIONS, all_topics
from panther_core.kafka.answers import Position

CODECS = ("gzip", "snappy", "lz4", "zstd")
_FLUSH_S = 30.0


async def compressed_by_the_producer(stage: CaseStage, seen: Seen) -> None:
    """A producer of another library (librdkafka) compresses with each codec."""
    for codec in CODECS:
        payments = [stage.payment(f"{codec}-{i}", f"{codec}-{i % 2}", note="x" * 500) for i in range(6)]
        sent = await asyncio.to_thread(_send, stage, codec, [sending(payment) for payment in payments])
        seen.decided(await stage.answers(sent), codec)


async def compressed_by_the_broker(stage: CaseStage, seen: Seen) -> None:
    """Transactions, decisions and states lie compressed on the broker; the states are restored from there."""
    for topic in all_topics(stage.settings):
        await configure(stage.kafka, topic, compression_type="zstd")
    seen.decided(await stage.pay(*[stage.payment(f"broker-{i}", "broker") for i in range(3)]), "zstd on every topic")
    await stage.stop_worker()
    shutil.rmtree(stage.system.folder / "worker")
    await stage.start_worker()
    (after,) = await stage.pay(stage.payment("broker-3", "broker"))
    seen.decided([after], "after a restore")
    lengths = [decision.history_len for decision in after.decisions]
    seen.that(lengths == [3], f"restored with a history of {lengths}")


def _send(stage: CaseStage, codec: str, records: list[Sending]) -> list[Position]:
    places: dict[int, Position] = {}
    producer = Producer(
        {
            "bootstrap.servers": stage.kafka.bootstrap_servers,
            "compression.type": codec,
            "partitioner": "murmur2_random",
            "linger.ms": 50,  # records of one batch are compressed together
        }
    )
    for number, record in enumerate(records):

        def note(error: KafkaError | None, message: Message, number: int = number) -> None:
            if error is None:
                places[number] = message.partition() or 0, message.offset() or 0

        producer.produce(TRANSACTIONS, record.value, record.key, on_delivery=note)
    producer.flush(_FLUSH_S)
    return [places[number] for number in range(len(records))]
