"""Sends transactions at a steady rate, open loop: a slow system does not slow the sender down.

Each record's timestamp is the moment it was due, so latency measured from it includes any wait of the sender itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from panther_core.events import Label, Transaction
from panther_core.settings import KafkaSettings
from panther_core.table import TransactionTable
from panther_core.topics import LABELS, TRANSACTIONS
from stream.producer import make_producer

_TICK_S = 0.005
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Produced:
    """What was sent from when on (epoch s); `late_ms` is how far behind its schedule the sender was at worst."""

    count: int
    started_s: float
    seconds: float
    late_ms: float


async def produce(
    kafka: KafkaSettings,
    transactions: Iterable[Transaction],
    rate: float,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    after_s: Sequence[float] | None = None,
) -> Produced:
    """Send `transactions` at `rate` a second (0 = as fast as the broker takes them), in order.

    `after_s`: seconds after the start at which each is due, in place of the rate.
    `progress` is called with the number sent so far; sending ends early when `stop` says so.
    """
    producer = make_producer(kafka)
    await producer.start()
    started, sent, late_s = time.time(), 0, 0.0
    pending: list[asyncio.Future[object]] = []
    try:
        for transaction in transactions:
            if rate or after_s is not None:
                due = started + (sent / rate if after_s is None else after_s[sent])
                ahead = due - time.time()
                if ahead > 0:
                    await asyncio.sleep(max(ahead, _TICK_S))
                late_s = max(late_s, -ahead)
            else:
                due = time.time()
            key = transaction.user_id.encode()
            pending.append(
                await producer.send(TRANSACTIONS, _encode(transaction), key=key, timestamp_ms=int(due * 1000))
            )
            sent += 1
            if len(pending) >= 1000:
                if progress:
                    progress(sent)
                if stop and stop():
                    break
                await asyncio.gather(*pending[:500])  # surfaces a failed send; waits only for records sent long ago
                del pending[:500]
        await asyncio.gather(*pending)
    finally:
        await producer.stop()
    if progress:
        progress(sent)
    return Produced(sent, started, time.time() - started, 1000 * late_s)


async def produce_labels(kafka: KafkaSettings, table: TransactionTable, delay_ms: int) -> int:
    """Send the known labels of `table`, each due `delay_ms` after its transaction; returns how many."""
    producer = make_producer(kafka)
    await producer.start()
    known = np.flatnonzero(table.label >= 0).tolist()
    try:
        for i in known:
            user = table.user.words[table.user.index[i]]
            label = Label(
                transaction_id=str(table.transaction_id[i]),
                user_id=user,
                label=int(table.label[i]),
                label_time=int(table.time_ms[i]) + delay_ms,
                source="replay",
            )
            await producer.send(LABELS, _encode(label), key=user.encode())
        await producer.flush()
    finally:
        await producer.stop()
    return len(known)
