"""Transactions and labels read back from Kafka, as they stand at this moment."""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from panther_core.base.errors import BadInput, InvalidEvent
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import Label, Transaction, decode_transaction, event_time_ms
from panther_core.data.table import TransactionTable, from_transactions
from panther_core.data.topics import LABELS, TRANSACTIONS


async def read_log(kafka: KafkaSettings) -> TransactionTable:
    """Every valid transaction so far, first copies only, with the labels that had arrived by the latest event time.

    Raises BadInput when there is none.
    """
    transactions: dict[str, Transaction] = {}
    for record in await read_topic(kafka, TRANSACTIONS):
        try:
            transaction = decode_transaction(record.value)
            event_time_ms(transaction.event_time, record.timestamp)
        except InvalidEvent:
            continue  # the worker has dead-lettered it
        transactions.setdefault(transaction.transaction_id, transaction)
    if not transactions:
        raise BadInput(f"expected transactions on topic {TRANSACTIONS}, found none: nothing to learn from yet")
    newest = max(event_time_ms(t.event_time) for t in transactions.values())
    decode = msgspec.json.Decoder(Label).decode
    labels: dict[str, int] = {}
    for record in await read_topic(kafka, LABELS):
        label = decode(record.value or b"")
        if label.label_time <= newest:
            labels[label.transaction_id] = label.label
    return from_transactions(list(transactions.values()), labels)


async def read_topic(kafka: KafkaSettings, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """All records of a topic up to its end as of now, partition by partition."""
    consumer = AIOKafkaConsumer(topic, **kafka.client_options(), enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        if not parts:
            raise BadInput(f"expected the topic {topic}, found none: make the topics with `panther topics create`")
        ends = await consumer.end_offsets(parts)
        out: list[ConsumerRecord[bytes, bytes]] = []
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for records in (await consumer.getmany(timeout_ms=500, max_records=10_000)).values():
                out += records
        return out
    finally:
        await consumer.stop()
