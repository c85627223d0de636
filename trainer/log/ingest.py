"""Kafka to the Parquet log: `transactions` and `fraud.labels`, each record once, whatever is killed when.

Where to go on is what the files say, never what the group has committed: the group only shares the partitions among
processes, and shows the lag. A topic that was made anew, or whose offsets went backwards, ends the writing of it: its
offsets would be taken for ones that are here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from panther_core.base.errors import InvalidEvent
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import now_ms
from panther_core.data.events import decode_transaction, event_time_ms, record_time_ms
from panther_core.data.topics import LABELS, TRANSACTIONS
from panther_core.kafka.answers import Unreadable, read_label
from panther_core.kafka.reading import KafkaRecord, held, make_reader, read
from trainer.log.store import LogBroken, LogStore, Row, date_of, hash_of

logger = logging.getLogger(__name__)

_PLACE = [("partition", pa.int32()), ("offset", pa.int64()), ("value", pa.binary()), ("timestamp_ms", pa.int64())]
_WORDS = ("transaction_id", "user_id", "merchant_id", "merchant_category", "currency", "channel", "country", "device")
SCHEMAS = {
    TRANSACTIONS: pa.schema(
        [
            *_PLACE,
            *((name, pa.string()) for name in _WORDS),
            ("amount", pa.float64()),
            ("event_time_ms", pa.int64()),
            ("profile", pa.string()),
            ("problem", pa.string()),
        ]
    ),
    LABELS: pa.schema(
        [
            *_PLACE,
            *((name, pa.string()) for name in ("transaction_id", "user_id", "source", "problem")),
            ("label", pa.int8()),
            ("label_time_ms", pa.int64()),
        ]
    ),
}
_POLL_MS, _AT_ONCE, _JOIN_ROWS = 500, 5000, 200_000


def transaction_row(record: KafkaRecord, settings: PantherSettings, clock_ms: int) -> Row:
    """A record of `transactions`; `problem` says why a worker makes a dead letter of it, if it does."""
    sent_ms = min(record_time_ms(record.timestamp, clock_ms), clock_ms)
    columns: dict[str, Any] = {"timestamp_ms": record.timestamp}
    moment: int | None = None
    try:
        payment = decode_transaction(record.value, settings.rates)
        moment = event_time_ms(payment.event_time, sent_ms)
        columns |= {name: getattr(payment, name) for name in _WORDS} | {"amount": payment.amount}
        columns |= {"event_time_ms": moment, "profile": msgspec.json.encode(payment.profile).decode()}
        columns["problem"] = None if record.key == payment.user_id.encode() else "wrong_key"
    except InvalidEvent as error:
        columns["problem"] = error.code
    return Row(record.offset, date_of(moment), record.value, columns)


def label_row(record: KafkaRecord) -> Row:
    """A record of `fraud.labels`; `problem` says why it is none, if it is."""
    label = read_label(record.value)
    columns: dict[str, Any] = {"timestamp_ms": record.timestamp}
    if isinstance(label, Unreadable):
        return Row(record.offset, date_of(None), record.value, columns | {"problem": label.why})
    names = ("transaction_id", "user_id", "label", "source")
    columns |= {name: getattr(label, name) for name in names} | {"label_time_ms": label.label_time, "problem": None}
    return Row(record.offset, date_of(label.label_time), record.value, columns)


class Ingest(ConsumerRebalanceListener):  # type: ignore[misc]
    """Writes the partitions that the group gives to this process."""

    def __init__(
        self, kafka: KafkaSettings, settings: PantherSettings, folder: Path, rows: int, seconds: float
    ) -> None:
        """`rows`, `seconds`: a batch is written when it has so many rows, or is so old."""
        self._kafka, self._settings, self._store = kafka, settings, LogStore(folder)
        self._rows, self._seconds = rows, seconds
        self._locks: dict[TopicPartition, ExitStack] = {}
        self._held: dict[TopicPartition, list[Row]] = {}
        self._next: dict[TopicPartition, int] = {}  # first offset that is not written
        self._since: dict[TopicPartition, float] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._problem: Exception | None = None
        self._writing = asyncio.Lock()
        self.written = 0

    async def run(self, once: bool) -> int:
        """Write until cancelled, or with `once` until all that was there at the start is written; returns the rows.

        Raises LogBroken, and BadInput where another process writes a partition.
        """
        group = f"{self._settings.app_id}-ingest"
        async with make_reader(self._kafka, group_id=group, max_poll_records=_AT_ONCE) as consumer:
            self._consumer = consumer
            consumer.subscribe([*SCHEMAS], listener=self)
            ends: dict[TopicPartition, int] | None = None
            try:
                while True:
                    found = await consumer.getmany(timeout_ms=_POLL_MS)
                    if self._problem is not None:
                        raise self._problem
                    for part, records in found.items():
                        self._take(part, records)
                    await self._write(every=False)
                    mine = consumer.assignment()
                    if once and mine and mine == self._next.keys():
                        ends = ends or await consumer.end_offsets([*mine])
                        if all([await consumer.position(part) >= ends.get(part, 0) for part in mine]):
                            await self._write(every=True)
                            return self.written
            finally:
                await self._write(every=True)
                self._release([*self._locks])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Go on where the files end."""
        try:
            for part in assigned:
                lock = ExitStack()
                lock.enter_context(self._store.writing(part.topic, part.partition))
                self._locks[part] = lock
                await self._open(part)
        except Exception as error:  # aiokafka would log it, and go on reading
            self._problem = error

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Write what has come, before another process goes on from there."""
        await self._write(every=True)
        self._release([*revoked])

    def _release(self, parts: list[TopicPartition]) -> None:
        for part in parts:
            if part in self._locks:
                self._locks.pop(part).close()
            self._held.pop(part, None)
            self._next.pop(part, None)

    async def _open(self, part: TopicPartition) -> None:
        assert self._consumer is not None
        entries = self._store.entries(part.topic, part.partition)
        start = entries[-1].last + 1 if entries else 0
        async with make_reader(self._kafka) as consumer:
            offsets = (await held(consumer, [part]))[part]
            if start > offsets.stop:
                raise LogBroken(
                    f"{part.topic} {part.partition}: expected offsets up to {start - 1}, as in {self._store.folder}, "
                    f"got a topic that ends at {offsets.stop}: it was made anew; ingest it into another folder"
                )
            if entries and start - 1 >= offsets.start:
                last = [r async for r in read(consumer, part, range(start - 1, start))]
                if last and hash_of(last[0].value) != entries[-1].last_hash:
                    raise LogBroken(
                        f"{part.topic} {part.partition}: expected at offset {start - 1} the record in "
                        f"{self._store.folder}, got another: the topic was made anew; ingest it into another folder"
                    )
        if offsets.start > start:
            gone = (
                f"{offsets.start - start} records of {part.topic} {part.partition} were deleted before they were read"
            )
            logger.error("%s (offsets %d to %d)", gone, start, offsets.start - 1)
        self._next[part] = max(start, offsets.start)
        self._held[part] = []
        self._consumer.seek(part, self._next[part])

    def _take(self, part: TopicPartition, records: list[KafkaRecord]) -> None:
        if part not in self._next or not records:  # it has not been put to where the files end yet
            return
        clock = now_ms()
        if not self._held[part]:
            self._since[part] = time.monotonic()
        for record in records:
            if record.offset >= self._next[part]:
                row = (
                    transaction_row(record, self._settings, clock) if part.topic == TRANSACTIONS else label_row(record)
                )
                self._held[part].append(row)

    async def _write(self, every: bool) -> None:
        async with self._writing:  # a rebalance writes, too
            await self._write_due(every)

    async def _write_due(self, every: bool) -> None:
        for part, rows in list(self._held.items()):
            due = len(rows) >= self._rows or time.monotonic() - self._since.get(part, 0.0) >= self._seconds
            if rows and (every or due):
                first, last = self._next[part], rows[-1].offset
                schema = SCHEMAS[part.topic]
                await asyncio.to_thread(self._store.write, part.topic, part.partition, list(rows), first, last, schema)
                self.written += len(rows)
                self._next[part] = last + 1
                rows.clear()
                await self._note(part)

    async def _note(self, part: TopicPartition) -> None:
        """Commit, for whoever looks at the lag; and join small files."""
        assert self._consumer is not None
        try:
            await self._consumer.commit({part: self._next[part]})
        except KafkaError as error:
            logger.warning(
                "the group's offset of %s %d is behind what is written: %r", part.topic, part.partition, error
            )
        await asyncio.to_thread(self._store.compact, part.topic, part.partition, _JOIN_ROWS)


def counts(folder: Path) -> Mapping[str, int]:
    """Rows by topic."""
    store = LogStore(folder)
    return {topic: sum(entry.rows for entry in store.entries(topic)) for topic in SCHEMAS}
