"""The training log out of Kafka: transactions and labels, up to the end of their topics as of now."""

from __future__ import annotations

import msgspec

from panther_core.base.errors import BadInput, InvalidEvent
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import Label, Transaction, decode_transaction, event_time_ms
from panther_core.data.table import TransactionTable, from_transactions
from panther_core.data.topics import LABELS, TRANSACTIONS
from panther_core.kafka.reading import read_topic


async def read_log(kafka: KafkaSettings) -> TransactionTable:
    """Every valid transaction so far, first copies only, with the labels that had arrived by the latest event time.

    Raises BadInput where there is no transaction.
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
