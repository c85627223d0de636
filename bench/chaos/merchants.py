"""Merchants in the checker of `panther chaos`: their states must be those of the decided payments and their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from bench.chaos.findings import Findings
from bench.chaos.offline_run import OfflineRun
from panther_core.base.times import DAY_MS
from panther_core.data.events import counts_more, standing
from panther_core.entities.merchants import (
    MERCHANT,
    advance,
    decode_merchants,
    elsewise,
    take_labels,
    take_payments,
)
from panther_core.kafka.answers import Unreadable, read_label
from panther_core.kafka.reading import KafkaRecord
from panther_core.state.features import against_usual

#: what follows from payments and labels alone: deviations are the model's, alerts depend on the order of events
_SUMS = tuple(
    name
    for name in MERCHANT.names or ()
    if name not in ("version", "hour", "spare", "n", "last_offset", "day", "deviations", "alerted")
)


def check_merchants(
    offline: OfflineRun, newest: Mapping[bytes, bytes], labels: Iterable[KafkaRecord], wrong: Findings
) -> int:
    """Each merchant's newest state must have the sums of its payments and of what labels said of them, each once.

    Returns the number of labels that count.
    """
    kept = np.flatnonzero(offline.replayed.kept)
    transactions, time_ms = offline.intake.transactions, offline.intake.events["time_ms"]
    names = sorted({transactions[row].merchant_id for row in kept.tolist()})
    place = {name: i for i, name in enumerate(names)}
    merchant = np.array([place[transactions[row].merchant_id] for row in kept.tolist()], np.int64)
    ratio = against_usual(offline.replayed.features[kept]).astype(np.float64)
    paid_day = time_ms[kept] // DAY_MS
    rows, told_day, fraud, before = _told(offline, kept, labels)
    last = np.zeros(len(names), np.int64)  # each its own: where a clock was in 2099, rings hold nothing of today
    np.maximum.at(last, merchant, paid_day)
    np.maximum.at(last, merchant[rows], told_day)
    want = np.zeros(len(names), MERCHANT)
    advance(want, last)
    take_payments(want, merchant, paid_day, ratio)
    take_labels(want, merchant[rows], paid_day[rows], told_day, fraud, elsewise(ratio[rows]), before)
    got = decode_merchants(newest.get(name.encode()) for name in names)
    advance(got, last)
    for i, name in enumerate(names):
        if name.encode() not in newest:
            wrong.add("merchant_missing", f"{int((merchant == i).sum())} payments")
        elif differ := [field for field in _SUMS if not np.array_equal(got[field][i], want[field][i])]:
            wrong.add("merchant", (name, differ, got[differ[0]][i].tolist(), want[differ[0]][i].tolist()))
    for key in newest.keys() - {name.encode() for name in names}:
        wrong.add("merchant_of_nobody", len(key))
    return len(rows)


def _told(
    offline: OfflineRun, kept: np.ndarray, labels: Iterable[KafkaRecord]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each label that says something new: the place of its payment in `kept`, the day of its arrival, whether it
    says fraud, and what was known before (-1: nothing)."""
    at = {}
    for i, row in enumerate(kept.tolist()):
        transaction = offline.intake.transactions[row]
        at[transaction.user_id, transaction.transaction_id] = i
    known: dict[int, tuple[int, int, int]] = {}  # payment -> label, its time, standing of its source
    out: list[tuple[int, int, bool, int]] = []
    for record in labels:
        label = read_label(record.value)
        if isinstance(label, Unreadable) or (i := at.get((label.user_id, label.transaction_id), -1)) < 0:
            continue
        value, *before = known.get(i, (-1, -1, -1))
        if value < 0 or counts_more(label.label_time, standing(label.source), *before):
            known[i] = label.label, label.label_time, standing(label.source)
            if label.label != value:
                out.append((i, label.label_time // DAY_MS, label.label == 1, value))
    columns = np.array(out, np.int64).reshape(-1, 4)
    return columns[:, 0], columns[:, 1], columns[:, 2] == 1, columns[:, 3]
