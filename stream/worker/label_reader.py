"""Joins labels to their payments, however late they come, and tells the merchants.

A worker reads the partitions of fraud.labels whose users are its own. A label is looked up among the payments that are
kept beside the states (stream.worker.paid), and becomes an event of the payment's merchant. Of several labels of one
payment the newest by label time counts, and the event says what was known before. Each step is durable before the next:
the event, then the payment with its label, then the offset. So a label that a crash hands out twice is told twice from
the same source, which counts once (stream.merchants.history).

A label whose payment is not kept yet waits until all transactions of the partition are decided and stored that were
there when the label was read, and a minute more: where a sender was held up by Kafka, labels may overtake payments.
The offset is committed up to the oldest label that waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS, now_ms
from panther_core.data.events import Label, counts_more, standing
from panther_core.data.merchant_events import MerchantEvent, Source
from panther_core.data.topics import LABELS, TRANSACTIONS
from panther_core.kafka.answers import Unreadable, label_of
from panther_core.kafka.reading import KafkaRecord
from stream.faust_parts.internals import assigned, partition_store, settled_offset
from stream.ops import metrics
from stream.worker.acker import Acker
from stream.worker.merchant_log import MerchantLog
from stream.worker.paid import PREFIX, Paid, key_of, read_paid
from stream.worker.partition_reader import POLL_MS, read_own_partitions
from stream.worker.state_store import StateStore, StoredBatch

logger = logging.getLogger(__name__)

_PAUSE_S, _WAIT_S = 0.05, 0.2
_EARLY_S, _AGAIN_S = 60.0, 1.0  # for which a label may come before its payment
_EARLY_MOST = 2000  # labels of a partition that wait for so long; of more the oldest wait no longer
_AT_ONCE, _STEP = 2000, 2000  # labels of a batch; payments looked at in one step, when old ones are forgotten
_FORGET_EVERY_S = 3600.0


class _Early(NamedTuple):
    """A label whose payment is not kept yet; `until_s`: when it is given up, by time.monotonic."""

    record: KafkaRecord
    label: Label
    key: bytes
    until_s: float


class LabelReader:
    """One worker's reader of `fraud.labels`."""

    def __init__(
        self,
        app: Any,
        kafka: KafkaSettings,
        table: Any,
        store: StateStore,
        acker: Acker,
        merchants: MerchantLog,
        kept_days: float,
    ) -> None:
        """`kept_days`: how long a payment waits for its label."""
        self._app, self._kafka, self._table, self._store = app, kafka, table, store
        self._acker, self._merchants = acker, merchants
        self._kept_ms = round(kept_days * DAY_MS)
        self._early: dict[int, dict[int, _Early]] = {}  # by partition and offset: labels that have no payment yet
        self._again_s: dict[int, float] = {}  # by partition: when all of them are looked at again
        self._done: dict[TopicPartition, int] = {}  # committed offsets

    async def run(self) -> None:
        """Run for the life of the agent."""
        group = f"{self._app.conf.id}-labels"
        await read_own_partitions(self._app, self._kafka, LABELS, group, self._turn, max_poll_records=_AT_ONCE)

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        """Take in the labels that have come."""
        generation = self._app.consumer_generation_id
        mine = {part.partition for part in consumer.assignment()}
        self._early = {partition: early for partition, early in self._early.items() if partition in mine}
        found = {part: records for part, records in (await consumer.getmany(timeout_ms=POLL_MS)).items() if records}
        parts = [*found, *({TopicPartition(LABELS, partition) for partition in self._early} - found.keys())]
        work = (self._take_in(consumer, part.partition, found.get(part, []), generation) for part in parts)
        taken = dict(zip(parts, await asyncio.gather(*work), strict=True))
        for part, batch in taken.items():
            if batch is None:  # the partitions move: the labels are their new owners', or come again
                offsets = [*self._early.pop(part.partition, ()), *(record.offset for record in found.get(part, []))]
                consumer.seek(part, min(offsets))
        batches = {part: batch for part, batch in taken.items() if batch is not None}
        for batch in batches.values():
            await self._acker.put(batch)
        await asyncio.gather(*(send for batch in batches.values() for send in batch.sends.values()))
        for part in batches:
            early = self._early.get(part.partition)
            upto = min(early) if early else await consumer.position(part)
            if self._done.get(part) != upto:
                await self._commit(consumer, part, upto)

    async def _commit(self, consumer: AIOKafkaConsumer, part: TopicPartition, offset: int) -> None:
        try:
            await consumer.commit({part: offset})
            self._done[part] = offset
        except KafkaError as error:
            logger.warning("labels up to offset %d of partition %d come again: %r", offset, part.partition, error)

    async def _decided(self, consumer: AIOKafkaConsumer, partition: int, generation: int) -> bool:
        """Wait until all transactions that lie in this partition now are decided, so that their payments are kept.

        False where the partitions move meanwhile.
        """
        part = TopicPartition(TRANSACTIONS, partition)
        end = (await consumer.end_offsets([part]))[part]
        while await settled_offset(self._app, TP(TRANSACTIONS, partition)) < end:
            if self._moved(generation):
                return False
            await asyncio.sleep(_WAIT_S)
        return not self._moved(generation)

    def _moved(self, generation: int) -> bool:
        return bool(self._app.rebalancing or self._app.consumer_generation_id != generation)

    async def _take_in(
        self, consumer: AIOKafkaConsumer, partition: int, records: Sequence[KafkaRecord], generation: int
    ) -> StoredBatch | None:
        """Tell the merchants, then keep what is known now; None where the partition is another worker's by now."""
        if self._moved(generation):  # its store may be another's by now
            return None
        new = [(record, label, key_of(label)) for record in records if (label := _readable(record)) is not None]
        waiting = self._early.get(partition, {})
        asked = {key for _, _, key in new}
        every = time.monotonic() >= self._again_s.get(partition, 0.0)  # thousands may wait: not in every turn
        before = {offset: early for offset, early in waiting.items() if every or early.key in asked}
        if every:
            self._again_s[partition] = time.monotonic() + _AGAIN_S
        labels = [(early.record, early.label) for early in before.values()]
        labels += [(record, label) for record, label, _ in new if record.offset not in waiting]
        keys = [early.key for early in before.values()]
        keys += [key for record, _, key in new if record.offset not in waiting]
        found = self._store.beside(keys, [partition] * len(keys))
        if None in found[len(before) :]:  # a label may come right behind its payment
            if not await self._decided(consumer, partition, generation):
                return None
            found = self._store.beside(keys, [partition] * len(keys))
        now_s = time.monotonic()
        early = {offset: one for offset, one in waiting.items() if offset not in before}
        paid = {key: read_paid(value) for key, value in zip(keys, found, strict=True) if value is not None}
        events: list[MerchantEvent] = []
        changed: dict[bytes, bytes] = {}
        for (record, label), key in zip(labels, keys, strict=True):
            if key not in paid:
                until_s = before[record.offset].until_s if record.offset in before else now_s + _EARLY_S
                if until_s > now_s:
                    early[record.offset] = _Early(record, label, key, until_s)
                else:
                    metrics.LABELS.labels("unknown").inc()
            elif not paid[key].merchant_id:
                metrics.LABELS.labels("unknown").inc()
            else:
                event = _told(paid[key], label, record)
                metrics.LABELS.labels("repeated" if event is None else "told").inc()
                events += [] if event is None else [event]
                changed[key] = paid[key].value
        await asyncio.gather(*await self._merchants.send(events))
        if self._moved(generation):
            return None
        batch = StoredBatch(generation, [])
        await self._store.put(partition, [*changed.items()], batch)
        for offset in sorted(early)[: max(0, len(early) - _EARLY_MOST)]:
            del early[offset]
            metrics.LABELS.labels("unknown").inc()
        self._early.pop(partition, None)
        if early:
            self._early[partition] = early
        metrics.LABELS_EARLY.set(sum(map(len, self._early.values())))
        return batch

    async def forget(self) -> None:
        """Now and then, forget payments whose labels can come no more. Runs for the life of the agent."""
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            await self.forget_now()

    async def forget_now(self) -> None:
        """Look at every payment once; ends where the partitions move meanwhile."""
        generation, before_ms = self._app.consumer_generation_id, now_ms() - self._kept_ms
        for partition in sorted(tp.partition for tp in assigned(self._app, TRANSACTIONS)):
            cursor = PREFIX
            while True:  # each step opens the store anew: the partition may move meanwhile
                if self._moved(generation):
                    return
                chunk = list(islice(partition_store(self._table, partition).items(from_key=cursor), _STEP))
                own = [(key, read_paid(value)) for key, value in chunk if key.startswith(PREFIX)]
                old = [(key, None) for key, paid in own if paid.row["received_ms"][0] < before_ms]
                if old:
                    batch = StoredBatch(generation, [])
                    await self._store.put(partition, old, batch)
                    await self._acker.put(batch)
                if len(own) < _STEP:
                    break
                cursor = own[-1][0] + b"\0"
                await asyncio.sleep(_PAUSE_S)


def _told(paid: Paid, label: Label, record: KafkaRecord) -> MerchantEvent | None:
    """What the merchant is told; None where nothing is new. `paid` is brought up to date."""
    row = paid.row
    before = int(row["label"][0])
    source = standing(label.source)
    known = int(row["label_ms"][0]), int(row["standing"][0])
    if before >= 0 and not counts_more(label.label_time, source, *known):
        return None
    if record.offset <= row["label_at"][0]:  # a crash hands it out again, after a newer one
        return None
    row["label"], row["label_ms"], row["label_at"] = label.label, label.label_time, record.offset
    row["standing"] = source
    row["n"] += 1
    if before == label.label:
        return None
    return MerchantEvent(
        merchant_id=paid.merchant_id,
        transaction_id=label.transaction_id,
        source=Source(record.partition, record.offset),
        event_time=int(row["paid_ms"][0]),
        ratio=float(row["ratio"][0]),
        label=label.label,
        label_time=label.label_time,
        label_before=before if before >= 0 else None,
    )


def _readable(record: KafkaRecord) -> Label | None:
    """The label of a record; None, counted and said, for what is none."""
    label = label_of(record, now_ms())
    if isinstance(label, Unreadable):
        metrics.LABELS.labels("unreadable").inc()
        logger.warning("%s:%d:%d is no label, skipped: %s", record.topic, record.partition, record.offset, label.why)
        return None
    return label
