"""Gives merchants their past: histories computed from a known log, written before the first process keeps them.

Also kept are the log's payments themselves, for labels that are still to come (stream.worker.paid).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, HOUR_MS, now_ms
from panther_core.data.merchant_events import ReportedPayment
from panther_core.data.schema import hash64
from panther_core.data.table import NO_MERCHANT, TransactionTable
from panther_core.data.topics import MERCHANT_RISK, changelog_of, merchants_app
from panther_core.decide.records import to_json
from panther_core.entities.merchant_alerts import REPORTS
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.entities.merchants import encode_merchants
from panther_core.kafka.partitioner import partition_of
from panther_core.state.features import against_usual
from panther_core.state.history import History
from stream.faust_parts.producer import Outgoing, make_producer
from stream.merchants.history import records
from stream.merchants.reports import key_of, stored_reported
from stream.worker.decided import keys_of
from stream.worker.paid import PAID, PREFIX

_AT_ONCE = 5000
_Owned = tuple[str, bytes, bytes]  # user or merchant, by whom the partition is chosen; key and value


async def seed_merchants(
    kafka: KafkaSettings,
    settings: PantherSettings,
    log: TransactionTable,
    history: History,
    events: NDArray[np.void],
    label_delay_ms: int,
    threshold: float | None,
) -> int:
    """Write the histories of the merchants of `log`, and its payments; returns the number of merchants.

    `history`, `events`: of the whole log; its labels arrive `label_delay_ms` after their payments, those that arrive
    after the log's end are left to `fraud.labels`. `threshold`: of alerts on merchants; those of the past are over.
    """
    merchants = MerchantHistory(threshold)
    told_ms = log.time_ms + label_delay_ms
    see_merchants(history, events, log.label, told_ms, merchants)
    hashes, states = merchants.end()
    name_of = {hash64(word): word for word in log.merchant.words} | {0: NO_MERCHANT}
    names = [name_of[number] for number in hashes]
    states["last_offset"] = -1
    end_ms = int(log.time_ms.max())
    risk = records(names, states, np.full(len(names), end_ms // HOUR_MS + 1))
    changelog = changelog_of(merchants_app(settings.app_id), "merchants")
    stored = zip(names, encode_merchants(states), strict=True)
    await _send(kafka, settings, changelog, ((name, name.encode(), state) for name, state in stored))
    await _send(kafka, settings, changelog, _reported(log, told_ms, end_ms))
    known = ((record.merchant_id, record.merchant_id.encode(), to_json(record)) for record in risk)
    await _send(kafka, settings, MERCHANT_RISK, known)
    paid = _paid(settings, log, history, events, told_ms, end_ms)
    await _send(kafka, settings, changelog_of(settings.app_id), paid)
    return len(names)


def _reported(log: TransactionTable, told_ms: NDArray[np.int64], end_ms: int) -> Iterable[_Owned]:
    """The newest payments of each merchant that were reported as fraud by the log's last hour."""
    known = np.flatnonzero((log.label == 1) & (told_ms // HOUR_MS <= end_ms // HOUR_MS))
    of: dict[str, list[ReportedPayment]] = {}
    for row in known[np.argsort(-told_ms[known], kind="stable")].tolist():
        payments = of.setdefault(log.merchant[row] or NO_MERCHANT, [])
        if len(payments) < REPORTS:
            payments.append(ReportedPayment(str(log.transaction_id[row]), int(log.time_ms[row]), int(told_ms[row])))
    return ((name, key_of(name), stored_reported(payments, 0)) for name, payments in of.items())


def _paid(
    settings: PantherSettings,
    log: TransactionTable,
    history: History,
    events: NDArray[np.void],
    told_ms: NDArray[np.int64],
    end_ms: int,
) -> Iterable[_Owned]:
    """The payments that are kept beside the payers' states, with the labels that have arrived."""
    kept = np.flatnonzero(history.kept & (log.time_ms > end_ms - settings.retention_days * DAY_MS))
    rows = np.zeros(len(kept), PAID)
    known = (log.label[kept] >= 0) & (told_ms[kept] // HOUR_MS <= end_ms // HOUR_MS)
    rows["label"] = np.where(known, log.label[kept], -1)
    rows["label_ms"], rows["label_at"] = np.where(known, told_ms[kept], 0), -1
    rows["paid_ms"] = log.time_ms[kept]
    rows["received_ms"], rows["ratio"] = now_ms(), against_usual(history.features[kept])
    whole, size = rows.tobytes(), PAID.itemsize
    keys = keys_of(events[kept])
    users, shops = log.user, log.merchant
    for i, row in enumerate(kept.tolist()):
        value = whole[i * size : (i + 1) * size] + (shops[row] or NO_MERCHANT).encode()
        yield users[row] or "", PREFIX + keys[i], value


async def _send(kafka: KafkaSettings, settings: PantherSettings, topic: str, records: Iterable[_Owned]) -> None:
    by_partition: dict[int, list[Outgoing]] = {}
    for owner, key, value in records:
        partition = partition_of(owner.encode(), settings.partitions, "murmur2")
        by_partition.setdefault(partition, []).append((key, value, []))
    async with make_producer(kafka) as producer:
        for partition, outgoing in by_partition.items():
            for low in range(0, len(outgoing), _AT_ONCE):
                await (await producer.send_all(topic, partition, outgoing[low : low + _AT_ONCE]))
