"""Kafka to the Parquet log: `transactions` and `fraud.labels`, each record once, whatever is killed when.

Where to go on is what the files say, never what a group has committed: its offsets only show the lag. Several processes
share the partitions by their locks. A topic that was made anew, or whose offsets went backwards, ends the writing: its
offsets would be taken for ones that are here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from panther_core.base.errors import BadInput, InvalidEvent, KafkaUnavailable
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import now_ms
from panther_core.data.events import decode_transaction, event_time_ms, record_time_ms
from panther_core.data.topics import LABELS, TRANSACTIONS
from panther_core.kafka.answers import Unreadable, label_of
from panther_core.kafka.partitioner import partition_of
from panther_core.kafka.reading import KafkaRecord, held, make_reader, partitions_of, read
from trainer.log.either import open_log
from trainer.log.store import LogBroken, Row, date_of, hash_of

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
_POLL_MS, _AT_ONCE, _JOIN_ROWS, _LOOK_S = 500, 5000, 200_000, 10.0
_COUNT_S = 60.0  # between two looks at how many partitions there are


def transaction_row(record: KafkaRecord, settings: PantherSettings, clock_ms: int) -> Row:
    """A record of `transactions`; `problem` says why a worker makes a dead letter of it, if it does."""
    sent_ms = min(record_time_ms(record.timestamp, clock_ms), clock_ms)
    columns: dict[str, Any] = {"timestamp_ms": record.timestamp}
    moment: int | None = None
    try:
        payment = decode_transaction(record.value)
        moment = event_time_ms(payment.event_time, sent_ms)
        columns |= {name: getattr(payment, name) for name in _WORDS} | {"amount": payment.amount}
        columns |= {"event_time_ms": moment, "profile": msgspec.json.encode(payment.profile).decode()}
        columns["problem"] = _misplaced(record, payment.user_id, settings)
    except InvalidEvent as error:
        columns["problem"] = error.code
    return Row(record.offset, date_of(moment), record.value, columns)


def _misplaced(record: KafkaRecord, user: str, settings: PantherSettings) -> str | None:
    if record.key != user.encode():
        return "wrong_key"
    checked = settings.partitioner != "none"
    if checked and record.partition != partition_of(record.key, settings.partitions, settings.partitioner):
        return "wrong_partition"
    return None


def label_row(record: KafkaRecord, clock_ms: int) -> Row:
    """A record of `fraud.labels`; `problem` says why it is none, if it is."""
    label = label_of(record, clock_ms)
    columns: dict[str, Any] = {"timestamp_ms": record.timestamp}
    if isinstance(label, Unreadable):
        return Row(record.offset, date_of(None), record.value, columns | {"problem": label.why})
    names = ("transaction_id", "user_id", "label", "source")
    columns |= {name: getattr(label, name) for name in names} | {"label_time_ms": label.label_time, "problem": None}
    return Row(record.offset, date_of(label.label_time), record.value, columns)


class Ingest:
    """Writes the partitions that no other process writes: who has a partition's lock has the partition."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: PantherSettings,
        folder: Path,
        rows: int,
        seconds: float,
        delta: bool = False,
    ) -> None:
        """`rows`, `seconds`: a batch is written when it has so many rows, or is so old. `delta`: as Delta Lake tables,
        where there is no log in `folder` yet."""
        self._kafka, self._settings, self._store = kafka, settings, open_log(folder, delta)
        self._rows, self._seconds = rows, seconds
        self._locks = ExitStack()
        self._held: dict[TopicPartition, list[Row]] = {}  # rows that are not written, of the partitions that are ours
        self._next: dict[TopicPartition, int] = {}  # first offset that is not written
        self._since: dict[TopicPartition, float] = {}
        self.written = 0

    async def run(self, once: bool) -> int:
        """Write until cancelled, or with `once` until all that was there at the start is written; returns the rows.

        A partition that is added meanwhile is taken too. Raises LogBroken; BadInput where there is no such topic, where
        PANTHER_PARTITIONS is not the number of its partitions, or is not any more, and with `once` where another
        process writes a partition.
        """
        group, looked_s, counted_s = f"{self._settings.app_id}-ingest", -math.inf, -math.inf
        parts: list[TopicPartition] = []
        options = {"group_id": group, "max_poll_records": _AT_ONCE, "auto_offset_reset": "none"}
        async with make_reader(self._kafka, **options) as consumer, make_reader(self._kafka) as looker:
            with self._locks:
                try:
                    while True:
                        if time.monotonic() - counted_s > _COUNT_S:
                            parts, counted_s = await self._partitions(parts), time.monotonic()
                        if len(self._next) < len(parts) and time.monotonic() - looked_s > _LOOK_S:
                            looked_s = time.monotonic()
                            await self._open_free(consumer, looker, parts, once)
                            ends = await looker.end_offsets([*self._next])
                        if not self._next:
                            await asyncio.sleep(_POLL_MS / 1000)
                            continue
                        for part, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                            self._take(part, records)
                        await self._write(consumer, every=False)
                        if once and all([await consumer.position(part) >= ends[part] for part in self._next]):
                            break
                except OffsetOutOfRangeError as error:
                    raise LogBroken(
                        f"expected records at the offsets {error}, found none: they were deleted before they were "
                        "read, or the topic was made anew; start again, which says which"
                    ) from None
                finally:
                    await self._write(consumer, every=True)
        return self.written

    async def _partitions(self, known: list[TopicPartition]) -> list[TopicPartition]:
        """The partitions of both topics; the `known` ones, where there are such, while no broker answers.

        Raises BadInput where a topic is not there, or has another number of them than the setting says.
        """
        try:
            # a reader of its own: one that has assigned topics knows of those alone
            async with make_reader(self._kafka) as reader:
                by_topic = {topic: await partitions_of(reader, topic) for topic in SCHEMAS}
        except (KafkaError, KafkaUnavailable) as error:
            if not known:
                raise
            logger.warning("the partitions are not counted, and will be again: %s", error)
            return known
        if missing := [topic for topic, found in by_topic.items() if not found]:
            raise BadInput(
                f"expected the topics {', '.join(missing)} at {self._kafka.bootstrap_servers}, found none: make "
                "them with `panther topics create`, or correct KAFKA_BOOTSTRAP_SERVERS"
            )
        self._check_partitions(len(by_topic[TRANSACTIONS]))
        return [part for found in by_topic.values() for part in found]

    def _check_partitions(self, found: int) -> None:
        """Raise BadInput where the setting is another topic's: good payments would be filed as misplaced, for good."""
        wanted = self._settings.partitions
        if self._settings.partitioner != "none" and found != wanted:
            raise BadInput(
                f"expected PANTHER_PARTITIONS to be {found}, the number of partitions of {TRANSACTIONS}, got {wanted}: "
                "set it as the workers have it"
            )

    async def _open_free(
        self, consumer: AIOKafkaConsumer, looker: AIOKafkaConsumer, parts: Sequence[TopicPartition], all_of_them: bool
    ) -> None:
        """Take the partitions that nobody writes, and go on where their files end."""
        for part in parts:
            if part in self._next:
                continue
            try:
                self._locks.enter_context(self._store.writing(part.topic, part.partition))
            except BadInput:
                if all_of_them:
                    raise
                continue  # another process has it; perhaps it ends
            self._held[part], self._next[part] = [], await self._start(looker, part)
        consumer.assign([*self._next])
        for part, offset in self._next.items():
            consumer.seek(part, self._held[part][-1].offset + 1 if self._held[part] else offset)

    async def _start(self, looker: AIOKafkaConsumer, part: TopicPartition) -> int:
        start, known = (
            self._store.next_offset(part.topic, part.partition),
            self._store.last_hash(part.topic, part.partition),
        )
        offsets = (await held(looker, [part]))[part]
        where = f"{part.topic} {part.partition}: expected"
        anew = f"{self._store.folder}, got another: the topic was made anew; ingest it into another folder"
        if start > offsets.stop:
            raise LogBroken(f"{where} a log of {start} offsets and more, as in {anew}")
        if known is not None and start - 1 >= offsets.start:
            last = [record async for record in read(looker, part, range(start - 1, start))]
            if last and hash_of(last[0].value) != known:
                raise LogBroken(f"{where} at offset {start - 1} the record in {anew}")
        if offsets.start > start:
            logger.error(
                "%d records of %s %d were deleted before they were read (offsets %d to %d)",
                *(offsets.start - start, part.topic, part.partition, start, offsets.start - 1),
            )
        return max(start, offsets.start)

    def _take(self, part: TopicPartition, records: Sequence[KafkaRecord]) -> None:
        clock, rows = now_ms(), self._held[part]
        if records and not rows:
            self._since[part] = time.monotonic()
        for record in records:
            if record.offset < self._next[part]:
                raise LogBroken(
                    f"{part.topic} {part.partition}: expected offset {self._next[part]} or a later one, got "
                    f"{record.offset}: the topic was made anew; ingest it into another folder"
                )
            paid = part.topic == TRANSACTIONS
            rows.append(transaction_row(record, self._settings, clock) if paid else label_row(record, clock))

    async def _write(self, consumer: AIOKafkaConsumer, every: bool) -> None:
        """Write what is due, commit it for whoever looks at the lag, and join small files."""
        for part, rows in self._held.items():
            due = len(rows) >= self._rows or time.monotonic() - self._since.get(part, 0.0) >= self._seconds
            if not rows or not (every or due):
                continue
            first, last = self._next[part], rows[-1].offset
            await _to_the_end(self._store.write, part.topic, part.partition, rows, first, last, SCHEMAS[part.topic])
            self.written += len(rows)
            self._next[part], self._held[part] = last + 1, []
            try:
                await consumer.commit({part: last + 1})
            except KafkaError as error:
                logger.warning("the group's offset of %s %d is behind the files: %r", part.topic, part.partition, error)
            await _to_the_end(self._store.compact, part.topic, part.partition, _JOIN_ROWS)


async def _to_the_end(work: Callable[..., object], *args: object) -> None:
    """Run in a thread, and wait for its end even when cancelled: a lock must not go while files are written."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def counts(folder: Path) -> Mapping[str, int]:
    """Rows by topic."""
    store = open_log(folder)
    return {topic: store.rows(topic) for topic in SCHEMAS}
