"""The training log out of Kafka: transactions and labels, up to the end of their topics as of now.

Both topics are written by others. What the worker has made a dead letter of is not learnt from, and a label that cannot
be read, or whose time is none, is skipped and said. Clocks that are wrong by years reach neither the table nor the rule
which labels had arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from panther_core.base.console import say, say_once
from panther_core.base.errors import BadInput, InvalidEvent
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import now_ms
from panther_core.data.events import (
    MAX_AHEAD_MS,
    Transaction,
    counts_more,
    decode_transaction,
    event_time_ms,
    record_time_ms,
    standing,
)
from panther_core.data.table import TransactionTable
from panther_core.data.table_rows import from_transactions
from panther_core.data.topics import LABELS, TRANSACTIONS
from panther_core.kafka.answers import Skipped, Unreadable, label_of
from panther_core.kafka.partitioner import partitions_of
from panther_core.kafka.reading import KafkaRecord, read_topic

Id = tuple[str, str]
"""User id and transaction id: two users may have the same transaction id."""


async def read_log(kafka: KafkaSettings, settings: PantherSettings) -> TransactionTable:
    """Every valid transaction so far, of copies the first, with the labels that had arrived by the latest event time.

    Raises BadInput where there is no transaction.
    """
    skipped, clock_ms = (Skipped(TRANSACTIONS), Skipped(LABELS)), now_ms()
    transactions = transactions_of(await read_topic(kafka, TRANSACTIONS), clock_ms, settings, skipped[0])
    if not transactions:
        raise BadInput(f"expected transactions on topic {TRANSACTIONS}, found none: nothing to learn from yet")
    paid_ms = {_id(t): event_time_ms(t.event_time) for t in transactions}
    labels = labels_of(await read_topic(kafka, LABELS), max(paid_ms.values()), skipped[1], paid_ms)
    for topic in skipped:
        topic.say(say_once)
    return from_transactions(transactions, _of_one_payment(transactions, labels))


def transactions_of(
    records: Iterable[KafkaRecord], clock_ms: int, settings: PantherSettings, skipped: Skipped
) -> list[Transaction]:
    """The transactions that the worker decides, in the order of the topic, without copies.

    `settings`: the topic's partitions, the partitioner by which producers place a user's records on them, and what
    currencies are worth.
    """
    valid: list[tuple[KafkaRecord, Transaction, int]] = []
    for record in records:
        skipped.records += 1
        try:
            transaction = decode_transaction(record.value, settings.rates)
            sent_ms = min(record_time_ms(record.timestamp, clock_ms), clock_ms)
            moment = event_time_ms(transaction.event_time, sent_ms)
        except InvalidEvent as error:
            skipped.add(record, f"{error.code}: {error}")
            continue
        if record.key == transaction.user_id.encode():
            valid.append((record, transaction, moment))
        else:
            skipped.add(record, "wrong_key: expected the user_id")
    out: list[Transaction] = []
    seen: set[tuple[Id, int]] = set()
    right = partitions_of([record.key or b"" for record, _, _ in valid], settings.partitions, settings.partitioner)
    for (record, t, moment), partition in zip(valid, right.tolist(), strict=True):
        if settings.partitioner != "none" and record.partition != partition:
            skipped.add(record, f"wrong_partition: expected {partition}")
            continue
        words = (t.device, t.country, t.merchant_category, t.channel, t.currency)
        known = _id(t), hash((t.amount, moment, t.merchant_id, *(word or "" for word in words)))
        if known not in seen:
            seen.add(known)
            out.append(t)
    return out


def labels_of(
    records: Iterable[KafkaRecord], newest_ms: int, skipped: Skipped, paid_ms: Mapping[Id, int] = MappingProxyType({})
) -> dict[Id, tuple[int, int]]:
    """The label of each transaction that counts by `newest_ms` (panther_core.data.events.counts_more), and its time.

    `paid_ms`: event times. A label that is more than a day older is of an earlier payment with that id, which the topic
    does not hold any more (trainer.log.told).
    """
    newest: dict[Id, tuple[int, int, int]] = {}
    clock_ms = now_ms()
    for record in records:
        skipped.records += 1
        label = label_of(record, clock_ms)
        if isinstance(label, Unreadable):
            skipped.add(record, label.why)
            continue
        known = newest.get((label.user_id, label.transaction_id))
        source = standing(label.source)
        since_ms = paid_ms.get((label.user_id, label.transaction_id), 0) - MAX_AHEAD_MS
        if since_ms <= label.label_time <= newest_ms and (
            known is None or counts_more(label.label_time, source, *known[:2])
        ):
            newest[label.user_id, label.transaction_id] = (label.label_time, source, label.label)
    return {name: (label, time_ms) for name, (time_ms, _, label) in newest.items()}


def _of_one_payment(transactions: list[Transaction], labels: dict[Id, tuple[int, int]]) -> dict[Id, tuple[int, int]]:
    """The labels without those of ids that a user has used for several payments: which one is meant is not known."""
    payments = defaultdict[Id, int](int)
    for transaction in transactions:
        payments[_id(transaction)] += 1
    unclear = {name for name in labels if payments[name] > 1}
    if unclear:
        say(f"  {len(unclear):,} labels of transaction ids that were used for several payments do not count")
    return {name: label for name, label in labels.items() if name not in unclear}


def _id(transaction: Transaction) -> Id:
    return transaction.user_id, transaction.transaction_id
