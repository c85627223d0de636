"""Sends transactions at a steady rate, open loop: a slow system does not slow the sender down.

Each record's timestamp is the moment it was due, so a latency measured from the timestamp includes any delay of the
sender itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings
from panther_core.data.events import Label, Transaction
from panther_core.data.table import TransactionTable
from panther_core.data.topics import LABELS, TRANSACTIONS
from stream.faust_parts.producer import Outgoing, Producer, make_producer

_TICK_S = 0.005
_AT_ONCE = 500  # transactions handed to the producer in one go at most
_UNDER_WAY = 1000  # transactions sent before the outcome of the first of them is awaited
_LABELS_AT_ONCE = 5000  # labels sent before their outcome is awaited
_LABELS_TICK_S = 0.02
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
    source, pending = iter(transactions), deque[tuple[int, asyncio.Future[list[range]]]]()
    started, sent, late_s, paced = time.time(), 0, 0.0, rate > 0 or after_s is not None

    def due_s(i: int) -> float:
        if after_s is not None:
            return started + after_s[i] if i < len(after_s) else -math.inf  # past the end: nothing to wait for
        return started + i / rate if rate else -math.inf

    try:
        await producer.partitions_for(TRANSACTIONS)
        while not (stop and stop()):
            ahead_s = due_s(sent) - time.time()
            if ahead_s > 0:
                await asyncio.sleep(max(ahead_s, _TICK_S))
            now_s = time.time()
            # everything that is due is sent together: a record sent alone costs sender and broker ten times as much
            count = bisect_right(range(sent, sent + _AT_ONCE), now_s, key=due_s)
            due = [max(due_s(sent + i), started) if paced else now_s for i in range(max(1, count))]
            late_s = max(late_s, now_s - due[0])
            chunk = list(islice(source, len(due)))
            if not chunk:
                break
            # the last chunk may hold fewer than were due
            keyed = [(t.user_id, _encode(t), int(at_s * 1000)) for t, at_s in zip(chunk, due, strict=False)]
            pending.extend([(sent, done) for done in await _send(producer, TRANSACTIONS, keyed)])
            sent += len(chunk)
            if progress:
                progress(sent)
            while pending and pending[0][0] < sent - _UNDER_WAY:
                await pending.popleft()[1]  # surfaces a failed send
        await asyncio.gather(*(done for _, done in pending))
    finally:
        await producer.stop()
    return Produced(sent, started, time.time() - started, 1000 * late_s)


async def _send(
    producer: Producer, topic: str, keyed: Iterable[tuple[str, bytes, int | None]]
) -> list[asyncio.Future[list[range]]]:
    """Queue records (user, value, epoch ms or None for now) by partition; a future of each partition's records."""
    by_partition: dict[int, tuple[list[Outgoing], list[int | None]]] = {}
    for user, value, timestamp_ms in keyed:
        key = user.encode()
        records, timestamps = by_partition.setdefault(producer.partition_of(topic, key), ([], []))
        records.append((key, value, []))
        timestamps.append(timestamp_ms)
    return [await producer.send_all(topic, p, *records) for p, records in by_partition.items()]


async def produce_labels(
    kafka: KafkaSettings, table: TransactionTable, delay_ms: int, after_s: NDArray[np.float64] | None = None
) -> int:
    """Send the known labels of `table`, each due `delay_ms` after its transaction; returns how many.

    `after_s` [N]: seconds after the start at which each is sent, in place of as fast as the broker takes them.
    """
    known = np.flatnonzero(table.label >= 0)
    if after_s is not None:
        known = known[np.argsort(after_s[known], kind="stable")]
    started_s = time.monotonic()

    def record(i: int) -> tuple[str, bytes, None]:
        user = table.user.words[table.user.index[i]]
        label = Label(
            transaction_id=str(table.transaction_id[i]),
            user_id=user,
            label=int(table.label[i]),
            label_time=int(table.time_ms[i]) + delay_ms,
            source="replay",
        )
        return user, _encode(label), None

    async with make_producer(kafka) as producer:
        await producer.partitions_for(LABELS)
        low = 0
        while low < len(known):
            stop = low + _LABELS_AT_ONCE
            if after_s is not None:
                due = int(np.searchsorted(after_s[known], time.monotonic() - started_s, "right"))
                stop = min(stop, due)
            if stop <= low:
                await asyncio.sleep(_LABELS_TICK_S)
                continue
            await asyncio.gather(*await _send(producer, LABELS, map(record, known[low:stop].tolist())))
            low = stop
    return len(known)


async def produce_with_labels(
    kafka: KafkaSettings,
    table: TransactionTable,
    rate: float,
    delay_ms: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[Produced, int]:
    """Send transactions as `produce` does, and the labels that arrive before the last of them, each when a transaction
    of its arrival's time is sent; with a rate of 0 after all transactions. Returns also the number of labels."""
    due = table.take(np.flatnonzero(table.time_ms + delay_ms <= table.time_ms[-1]))
    if not rate:
        return await produce(kafka, table.rows(), 0, progress), await produce_labels(kafka, due, delay_ms)
    after_s = np.searchsorted(table.time_ms, due.time_ms + delay_ms) / rate
    sent, told = await asyncio.gather(
        produce(kafka, table.rows(), rate, progress), produce_labels(kafka, due, delay_ms, after_s)
    )
    return sent, told


def produce_history(kafka: KafkaSettings, history: TransactionTable, label_delay_ms: int) -> None:
    """Put a past and the labels that came in it onto the topics as fast as the broker takes them: what a refresh reads
    back."""

    async def go() -> None:
        await produce(kafka, history.rows(), rate=0)
        came = np.flatnonzero(history.time_ms + label_delay_ms <= history.time_ms[-1])
        await produce_labels(kafka, history.take(came), label_delay_ms)

    asyncio.run(go())
