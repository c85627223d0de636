"""The log of transactions under the offsets that the states know: is it still the log that they were built from?

An offset says nothing once a topic was deleted and made anew, moved to another cluster, restored from a backup, or cut
by an election that lost records. So each partition's store marks the newest applied record by its offset and a hash of
its value, and when the partition is assigned the record that now lies at this offset is compared with the mark. A log
that is another one begins a new epoch (panther_core.state.record.at_source): none of its records counts as applied,
and users keep their histories. What retention deleted before it was read is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import xxhash
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import record_time_ms
from panther_core.data.topics import TRANSACTIONS
from panther_core.kafka.reading import KafkaRecord, held, make_reader, read
from panther_core.state.record import MARK, at_source, epoch_and_offset, last_offset, mark_of, read_mark
from stream.faust_parts.internals import assigned, committed_offset, partition_store
from stream.ops import metrics
from stream.worker.decided import DecidedStore

logger = logging.getLogger(__name__)

_EVERY_S, _SHORT_S, _LOOK_S = 0.2, 0.02, 10.0


class LogChanged(PantherError):
    """The topic is not the one that the states were built from, and nothing says where to go on in it."""


class TooManyPartitions(PantherError):
    """The topic has more partitions than the states."""


class SourceLog:
    """Opens partitions when they are assigned: compares the log with the mark, and has the held decisions read."""

    def __init__(self, app: Any, kafka: KafkaSettings, table: Any, decided: DecidedStore, partitions: int) -> None:
        self._app, self._kafka, self._table, self._decided = app, kafka, table, decided
        self._partitions = partitions
        self._epoch: dict[int, int] = {}
        self._mark: dict[int, tuple[int, bytes]] = {}  # newest applied `at_source`, and the hash of its value
        self._trimmed: dict[int, int] = {}  # up to where missing records were counted
        self._open: int | None = None  # generation whose partitions are open
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Open partitions as they are assigned, for the life of the agent. Raises LogChanged, TooManyPartitions."""
        looked_s = time.monotonic()
        while True:
            await self.opened()
            if time.monotonic() - looked_s > _LOOK_S:
                await self._look_again()
                looked_s = time.monotonic()
            await asyncio.sleep(_EVERY_S)

    async def _look_again(self) -> None:
        """Compare the partitions with their marks while they are read.

        A topic that is made anew under a running consumer shows nothing until it has grown beyond the consumer's
        position, and what lies before that is never read.
        """
        generation, found = self._app.consumer_generation_id, None
        try:
            async with make_reader(self._kafka) as consumer:
                for partition, (at, value_hash) in list(self._mark.items()):
                    part, offset = TopicPartition(TRANSACTIONS, partition), epoch_and_offset(at)[1]
                    offsets = (await held(consumer, [part]))[part]
                    if await _is_another(consumer, part, offsets, offset, value_hash):
                        found = (partition, offset, offsets)
        except (KafkaError, PantherError, OSError):
            return  # Kafka is away: the consumer says so
        if found and generation == self._app.consumer_generation_id and not self._app.rebalancing:
            partition, offset, offsets = found
            raise LogChanged(
                f"{TRANSACTIONS}:{partition} was made anew while it was read: it holds offsets {offsets.start} to "
                f"{offsets.stop}, and not the record that was applied at offset {offset}. Start the worker again: it "
                "then takes all of its records for new ones"
            )

    async def opened(self) -> None:
        """Return once the partitions of the present generation are open. Raises LogChanged, TooManyPartitions."""
        async with self._lock:
            while self._app.rebalancing:  # noqa: ASYNC110 - Faust tells no event when its states are restored
                await asyncio.sleep(_SHORT_S)
            generation = self._app.consumer_generation_id
            if generation == self._open:
                return
            mine = sorted(tp.partition for tp in assigned(self._app, TRANSACTIONS))
            self._decided.close(mine)
            self._mark.clear()
            if mine and mine[-1] >= self._partitions:
                raise TooManyPartitions(
                    f"expected {self._partitions} partitions of {TRANSACTIONS}, as the states have, got partition "
                    f"{mine[-1]}: a user's transactions now come on other partitions than the user's state. Make the "
                    "topic anew with the old count, or start under a new PANTHER_APP_ID with PANTHER_PARTITIONS set"
                )
            started, read_back = time.monotonic(), 0
            if mine:
                async with make_reader(self._kafka) as consumer:
                    for partition in mine:
                        read_back += await self._opened(consumer, partition)
            if generation == self._app.consumer_generation_id:
                self._open = self._app.consumer.open_generation = generation
            if read_back:
                logger.info("read back %d decisions in %.1f s", read_back, time.monotonic() - started)
            if self._decided.unreadable:
                logger.warning(
                    "%d records of the output topics bear this application's id and are none of its records: ignored",
                    self._decided.unreadable,
                )
                self._decided.unreadable = 0

    @property
    def problem(self) -> str | None:
        """What keeps transactions from being decided; None where nothing does."""
        if self._open == self._app.consumer_generation_id or self._app.rebalancing:
            return None
        return "decisions of the last hours are being read back"

    def offsets(self, records: list[Any]) -> list[int]:
        """`at_source` of consumed records."""
        if not any(self._epoch.values()):
            return [record.offset for record in records]
        return [at_source(self._epoch.get(record.partition, 0), record.offset) for record in records]

    def epoch(self, partition: int) -> int:
        """How often the topic was made anew."""
        return self._epoch.get(partition, 0)

    def marks(self, records: list[Any]) -> dict[int, bytes]:
        """By partition, what is stored under MARK with the states that have seen these records."""
        newest: dict[int, Any] = {}
        for record in records:
            if record.partition not in newest or record.offset > newest[record.partition].offset:
                newest[record.partition] = record
        out = {}
        for partition, record in newest.items():
            at = at_source(self.epoch(partition), record.offset)
            if at > self._mark.get(partition, (-1, b""))[0]:
                self._mark[partition] = at, _hash_of(record.value)
                out[partition] = mark_of(*self._mark[partition])
        return out

    async def _opened(self, consumer: AIOKafkaConsumer, partition: int) -> int:
        part = TopicPartition(TRANSACTIONS, partition)
        offsets = (await held(consumer, [part]))[part]
        committed = await committed_offset(self._app, TP(TRANSACTIONS, partition))
        at, value_hash = await self._marked(partition)
        epoch, offset = epoch_and_offset(at) if at >= 0 else (0, -1)
        if await _is_another(consumer, part, offsets, offset, value_hash):
            # the group's offset is of this log only if somebody has set it since: it is not the one of the old log
            if committed is not None and (committed > offsets.stop or committed == offset + 1):
                raise LogChanged(
                    f"{TRANSACTIONS}:{partition}: expected the log that this application has applied up to offset "
                    f"{offset} and committed up to {committed}, got another one, which ends at {offsets.stop}: the "
                    "topic was made anew, an election lost records, or the cluster is another one. Say where to go on "
                    f"(kafka-consumer-groups.sh --group {self._app.conf.id} --topic {TRANSACTIONS}:{partition} "
                    "--reset-offsets ... --execute), or start under a new PANTHER_APP_ID"
                )
            epoch += 1
            metrics.LOG_EPOCHS.inc()
            logger.warning(
                "%s:%d was made anew (it holds offsets %d to %d, and another record at offset %d, or none): all of its "
                "records count as new, and users keep their histories",
                *(TRANSACTIONS, partition, offsets.start, offsets.stop, offset),
            )
        else:
            after = offset + 1 if committed is None else committed
            if after and (gone := offsets.start - after) > 0:
                metrics.TRIMMED.inc(max(0, offsets.start - max(after, self._trimmed.get(partition, 0))))
                self._trimmed[partition] = offsets.start  # until something is committed, the next look finds it again
                logger.error(
                    "%d records of %s:%d were deleted before they were read (offsets %d to %d): retention is shorter "
                    "than this application was down",
                    *(gone, TRANSACTIONS, partition, after, offsets.start - 1),
                )
        self._epoch[partition] = epoch
        if epoch == epoch_and_offset(at)[0]:
            self._mark[partition] = at, value_hash
        else:
            self._mark.pop(partition, None)
        first = max(offsets.start, committed or 0)
        now_ms = time.time_ns() // 1_000_000
        record = await _record_at(consumer, part, first) if first < offsets.stop else None
        first_ms = now_ms if record is None else record_time_ms(record.timestamp, now_ms)
        return await self._decided.open(partition, first_ms, at_source(epoch, offsets.stop))

    async def _marked(self, partition: int) -> tuple[int, bytes]:
        """Newest applied `at_source`, -1 for none, and the hash of that record's value, empty where it is not known."""
        store = partition_store(self._table, partition)
        mark = store.get(MARK)
        if mark is not None:
            return read_mark(mark)
        # seeded, or written by an older release: the states themselves tell the offset
        return await asyncio.to_thread(_newest_of_states, store), b""


def _newest_of_states(store: Any) -> int:
    """Newest `at_source` that a state has seen; what lies beside the states has a key that begins with NUL."""
    return max((last_offset(value) for key, value in store.items() if not key.startswith(b"\0")), default=-1)


async def _is_another(
    consumer: AIOKafkaConsumer, part: TopicPartition, offsets: range, offset: int, value_hash: bytes
) -> bool:
    """Whether the partition cannot be the log in which a record with this hash lay at this offset."""
    if offset < 0 or offset < offsets.start:
        return False
    if offset >= offsets.stop:
        return True
    record = await _record_at(consumer, part, offset)
    return bool(value_hash) and record is not None and _hash_of(record.value) != value_hash


async def _record_at(consumer: AIOKafkaConsumer, part: TopicPartition, offset: int) -> KafkaRecord | None:
    async for record in read(consumer, part, range(offset, offset + 1)):
        return record
    return None


def _hash_of(value: bytes | None) -> bytes:
    return xxhash.xxh3_64_digest(value or b"")
