"""Bulk restore: fills a partition's RocksDB from its changelog before Faust's own recovery looks at it.

Faust's recovery makes an event object of every record, which reaches 4,000 records a second. The bulk restore reads
whole fetches and writes each as one batch. A crash in the middle does no harm: the offset that says how far a partition
is restored is written last, and without that offset the next start restores the partition again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from rocksdict import Rdict, WriteBatch

from panther_core.base.settings import KafkaSettings
from panther_core.kafka.reading import held, make_reader
from panther_core.state.record import events_applied
from stream.ops import metrics

logger = logging.getLogger(__name__)

#: a partition that lacks fewer records than this is left to Faust's recovery
WORTH_IT = 100
_FETCH_BYTES = 8 << 20


async def restore(
    kafka: KafkaSettings,
    topic: str,
    stores: dict[int, Rdict],
    have: dict[int, int],
    persist: Callable[[int, int], None],
) -> dict[int, int]:
    """Bring `stores` (by partition) up to the end of the changelog; returns the last offset of each restored one.

    `have`: the last changelog offset that each store holds already, -1 for none. `persist(partition, offset)` is called
    with the last offset that a store then holds. Partitions that lack less than WORTH_IT records are left as they are.
    Deletions are applied.
    """
    sizes = {"max_partition_fetch_bytes": _FETCH_BYTES, "fetch_max_bytes": 4 * _FETCH_BYTES}
    async with make_reader(kafka, **sizes) as consumer:
        offsets = await held(consumer, [TopicPartition(topic, p) for p in stores])
        start = {tp: max(own.start, have[tp.partition] + 1) for tp, own in offsets.items()}
        todo = {tp: own.stop for tp, own in offsets.items() if own.stop - start[tp] >= WORTH_IT}
        if not todo:
            return {}
        consumer.assign(list(todo))
        for tp in todo:
            consumer.seek(tp, start[tp])
        began, records = time.monotonic(), await _read(consumer, todo, stores)
        for tp, end in todo.items():
            persist(tp.partition, end - 1)
    seconds = time.monotonic() - began
    logger.info(
        "restored %d records of %d partitions in %.1f s (%.0f/s)", records, len(todo), seconds, records / seconds
    )
    return {tp.partition: end - 1 for tp, end in todo.items()}


async def _read(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], stores: dict[int, Rdict]) -> int:
    """Apply everything before `ends`; returns the number of records."""
    left, records = set(ends), 0
    todo = sum([end - await consumer.position(tp) for tp, end in ends.items()])
    write: asyncio.Task[None] | None = None
    while left:
        fetched = await consumer.getmany(timeout_ms=200)
        batches = [(stores[tp.partition], [r for r in part if r.offset < ends[tp]]) for tp, part in fetched.items()]
        count = sum(map(len, fetched.values()))
        records += count
        metrics.RESTORED.inc(count)
        metrics.RESTORE_LEFT.set(max(0, todo - records))
        if write is not None:
            await write  # one fetch is written while the next is read
        write = asyncio.create_task(asyncio.to_thread(_write, batches))
        for tp in list(left):
            if await consumer.position(tp) >= ends[tp]:
                left.discard(tp)
                consumer.pause(tp)
    if write is not None:
        await write
    metrics.RESTORE_LEFT.set(0)
    return records


def newest(store: Rdict, records: Iterable[Any]) -> WriteBatch:
    """What changelog records bring to a store: of each user the state with the most events, the later of equal ones,
    since the user was last deleted.

    The last record of a user need not be the newest state: a worker that lost its partition while it was suspended
    still sends the states that it had made, and they land after the records of the new owner.
    """
    found: dict[bytes, bytes | None] = {}
    deleted: set[bytes] = set()
    for record in records:
        before = found.get(record.key)
        if record.value is None:
            deleted.add(record.key)
        if record.value is None or before is None or events_applied(record.value) >= events_applied(before):
            found[record.key] = record.value
    keys, batch = list(found), WriteBatch(raw_mode=True)
    for key, stored in zip(keys, store.get(keys), strict=True):
        value = found[key]
        if value is None:
            batch.delete(key)
        elif stored is None or key in deleted or events_applied(value) >= events_applied(stored):
            batch.put(key, value)
    return batch


def _write(batches: list[tuple[Rdict, list[Any]]]) -> None:
    for store, records in batches:
        store.write(newest(store, records))
