"""The one Kafka producer of the stream side: for transactions, decisions, alerts, dead letters and changelog."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

from panther_core.settings import KafkaSettings


def make_producer(kafka: KafkaSettings) -> AIOKafkaProducer:
    """Producer without duplicates or reordering on retries; a record the broker finds too large raises when sent."""
    return AIOKafkaProducer(
        **kafka.client_options(),
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=256 << 10,
        max_request_size=8 << 20,
    )
