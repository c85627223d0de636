"""A topic as a source of transactions: all records up to its end, in the order in which the stream took them in."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput, InvalidEvent
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.events import Transaction, decode_transaction, event_time_ms, record_time_ms
from panther_core.data.table import TransactionTable
from panther_core.data.table_rows import as_arrived
from panther_core.data.topics import TRANSACTIONS
from panther_core.kafka.partitioner import partitions_of
from panther_core.kafka.reading import KafkaRecord, read_topic


@dataclass(frozen=True)
class TopicLog:
    """The valid transactions of a topic [N], and where each stands. `digest`: SHA-256 of all values, in order."""

    topic: str
    table: TransactionTable
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    timestamp_ms: NDArray[np.int64]  # of the record
    invalid: int  # records that the worker makes dead letters of
    digest: str

    def take(self, rows: NDArray[np.intp]) -> TopicLog:
        """The log with these rows only."""
        columns = {name: getattr(self, name)[rows] for name in ("partition", "offset", "timestamp_ms")}
        return replace(self, table=self.table.take(rows), **columns)

    def merged(self) -> TopicLog:
        """The rows of all partitions by time of append; each partition keeps its own order."""
        time = self.timestamp_ms.copy()
        for partition in np.unique(self.partition):
            own = self.partition == partition
            time[own] = np.maximum.accumulate(time[own])  # senders' clocks may step back
        return self.take(np.argsort(time, kind="stable"))


async def read_log(kafka: KafkaSettings, topic: str) -> TopicLog:
    """Read a topic of transactions, checked as the worker checks them. Raises BadInput: no topic, no transaction."""
    transactions: list[Transaction] = []
    places: list[tuple[int, int, int]] = []
    settings = PantherSettings()
    digest, records, now_ms = hashlib.sha256(), await read_topic(kafka, topic), time.time_ns() // 1_000_000
    for record in records:
        digest.update(record.value or b"")
        transaction = valid(record, now_ms, settings.rates)
        if transaction is not None:
            transactions.append(transaction)
            places.append((record.partition, record.offset, record_time_ms(record.timestamp, now_ms)))
    if topic == TRANSACTIONS and settings.partitioner != "none":  # of another topic the partitions are not known
        keys = [transaction.user_id.encode() for transaction in transactions]
        right = partitions_of(keys, settings.partitions, settings.partitioner).tolist()
        placed = [i for i, place in enumerate(places) if place[0] == right[i]]
        transactions, places = [transactions[i] for i in placed], [places[i] for i in placed]
    invalid = len(records) - len(transactions)
    if not transactions:
        raise BadInput(
            f"expected transactions on topic {topic}, found {invalid} records that are none: check --topic, or send "
            "some with `panther produce`"
        )
    at = np.array(places, np.int64)
    return TopicLog(
        topic,
        replace(as_arrived(transactions), received_ms=at[:, 2]),
        at[:, 0].astype(np.int32),
        at[:, 1],
        at[:, 2],
        invalid,
        digest.hexdigest(),
    )


def valid(record: KafkaRecord, now_ms: int, rates: Mapping[str, float]) -> Transaction | None:
    """The record's transaction, None where the worker makes a dead letter of the record, whatever its partition."""
    try:
        transaction = decode_transaction(record.value, rates)
        event_time_ms(transaction.event_time, min(now_ms, record_time_ms(record.timestamp, now_ms)))
    except InvalidEvent:
        return None
    return transaction if record.key == transaction.user_id.encode() else None
