"""What was decided within the last hours, by user and transaction id: for copies, and for transactions that a crash
leaves between their decision and their state.

Each partition has a RocksDB of its own beside the states. Nothing in it is the only copy: what is missing is read from
`fraud.scores` and `fraud.alerts` when a partition is assigned, from the newest decision that the store holds on, or
from a horizon before the first transaction that is still to be decided. RocksDB drops entries that are older.

A key is the hashes of user and transaction id, and of the content where the id is used for a second payment. A value is
HELD and, for an alert, the alert's bytes as they were published.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray
from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

from panther_core.base.settings import KafkaSettings
from panther_core.base.times import HOUR_MS
from panther_core.data.decision import DECISION, REUSED, Decision
from panther_core.data.schema import hash64
from panther_core.data.topics import ALERTS, SCORES
from panther_core.decide.known import HeldDecision
from panther_core.decide.records import rows_of
from panther_core.kafka.answers import (
    Unreadable,
    app_of,
    content_of,
    epoch_of,
    position_of,
    read_alert,
    read_decision,
)
from panther_core.kafka.reading import KafkaRecord, held, make_reader, read
from panther_core.state.record import at_source
from stream.faust_parts.recovery import is_damage

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: fixed part of a value; `offset`: panther_core.state.record.at_source of the transaction
HELD = np.dtype([("decision", DECISION), ("offset", "<i8"), ("content", "<u8"), ("received_ms", "<i8")])
#: decisions are appended in another order than they are made in, by clocks that differ: reading begins so much earlier
_SLACK_MS = 300_000
_NEWEST = b"newest"  # key of the time of the newest decision, epoch ms; all other keys have 16 or 24 bytes
_CHUNK = 2000
_FETCH_BYTES = 8 << 20
_LOCKED_S = 10.0


class HeldAnswer(NamedTuple):
    """A held decision, and the alert that was published with it (b"" for none)."""

    decision: HeldDecision
    alert: bytes


class DecidedStore:
    """Decisions of the partitions that this worker holds."""

    def __init__(self, kafka: KafkaSettings, app_id: str, data_dir: str, recall_hours: float) -> None:
        self._kafka, self._app_id = kafka, app_id.encode()
        self._folder = Path(data_dir) / "decided" / app_id
        self._recall_ms = round(recall_hours * HOUR_MS)
        self._stores: dict[int, Rdict] = {}
        self.unreadable = 0  # records that bear this application's id and hold no decision or alert of it

    def find(
        self, events: NDArray[np.void], received_ms: NDArray[np.int64], partitions: list[int], keys: list[bytes]
    ) -> dict[int, HeldAnswer]:
        """What the users of EVENT rows [N] were told when they last used these ids, by the rows' index.

        `keys`: `keys_of` the events.
        """
        out: dict[int, HeldAnswer] = {}
        rows_of_partition: dict[int, list[int]] = {}
        for i, partition in enumerate(partitions):
            rows_of_partition.setdefault(partition, []).append(i)
        for partition, at in rows_of_partition.items():
            store = self._stores[partition]
            for i, value in zip(at, store.get([keys[i] for i in at]), strict=True):
                if value is None:
                    continue
                event, row = events[i], np.frombuffer(value, HELD, 1)[0]
                if not self._counts(row, event, received_ms[i]):
                    continue
                same = bool(row["content"] in (0, event["content"]))  # 0: an older release did not say
                if not same:  # the id's second payment has a key of its own
                    second = store.get(keys[i] + event["content"].tobytes())
                    found = None if second is None else np.frombuffer(second, HELD, 1)[0]
                    if found is not None and self._counts(found, event, received_ms[i]):
                        value, row, same = second, found, True
                out[i] = HeldAnswer(HeldDecision(row["decision"], int(row["offset"]), same), value[HELD.itemsize :])
        return out

    def _counts(self, row: np.void, event: np.void, received_ms: np.int64) -> bool:
        """Whether a held decision is within the horizon of an event, or is of this very record."""
        return self._is_near(row, received_ms) or bool(row["offset"] == event["offset"])

    def put(
        self,
        events: NDArray[np.void],
        received_ms: NDArray[np.int64],
        keys: list[bytes],
        at: NDArray[np.intp],
        decisions: NDArray[np.void],
        partitions: list[int],
        alerts: list[bytes],
    ) -> None:
        """Hold DECISION rows [N] of the EVENT rows `at` [N], durable in Kafka by now.

        `keys`: `keys_of` the events. `partitions` and `alerts` [N]: those of the decisions; an alert is what was sent,
        or b"".
        """
        rows = np.zeros(len(at), HELD)
        # as bytes: numpy copies records field by field
        as_bytes, fixed = rows.view(np.uint8).reshape(len(at), -1), DECISION.itemsize
        as_bytes[:, :fixed] = np.ascontiguousarray(decisions).view(np.uint8).reshape(len(at), fixed)
        rows["offset"], rows["content"] = events["offset"][at], events["content"][at]
        rows["received_ms"] = received_ms[at]
        data, size = rows.tobytes(), HELD.itemsize
        own = [keys[row] for row in at.tolist()]
        for i in np.flatnonzero(decisions["flags"] & REUSED).tolist():
            own[i] += rows["content"][i].tobytes()
        batches = {partition: WriteBatch(raw_mode=True) for partition in set(partitions)}
        for i, (key, partition, alert) in enumerate(zip(own, partitions, alerts, strict=True)):
            batches[partition].put(key, data[i * size : (i + 1) * size] + alert)
        newest = int(decisions["scored_at"].max()).to_bytes(8, "little")
        for partition, batch in batches.items():
            batch.put(_NEWEST, newest)
            self._stores[partition].write(batch)

    def forget(self, partition: int, user: str) -> None:
        """Delete what is held of a user; a copy of one of the user's transactions is then decided anew."""
        store, prefix = self._stores[partition], hash64(user).to_bytes(8, "little")
        batch = WriteBatch(raw_mode=True)
        for key in store.keys(from_key=prefix):
            if not key.startswith(prefix):
                break
            batch.delete(key)
        store.write(batch)

    async def open(self, partition: int, first_ms: int, source_end: int) -> int:
        """Open a partition's store, and read what it lacks; returns how many decisions were read.

        `first_ms`: time of the first transaction that is to be decided. `source_end`: `at_source` of the end of
        `transactions`; a record that answers a transaction beyond it is forged.
        """
        if partition not in self._stores:  # one that stays through a rebalance is open
            self._stores[partition] = await asyncio.to_thread(self._opened, partition)
        store = self._stores[partition]
        newest = store.get(_NEWEST)
        since_ms = first_ms - self._recall_ms
        if newest is not None:  # not beyond now: who writes to the topic may have forged a time to come
            since_ms = max(since_ms, min(int.from_bytes(newest, "little"), time.time_ns() // 1_000_000))
        count, alerts = 0, dict[int, bytes]()
        async with make_reader(self._kafka, max_partition_fetch_bytes=_FETCH_BYTES) as consumer:
            async for chunk in _since(consumer, TopicPartition(ALERTS, partition), since_ms - _SLACK_MS):
                for record, _ in self._own(chunk, read_alert, partition, source_end):
                    alerts.setdefault(_source_of(record), record.value or b"")
            async for chunk in _since(consumer, TopicPartition(SCORES, partition), since_ms - _SLACK_MS):
                found = list(self._own(chunk, read_decision, partition, source_end))
                count += await asyncio.to_thread(self._restore, store, found, alerts)
        return count

    def close(self, keep: Iterable[int] = ()) -> None:
        """Close the stores of all partitions but those to `keep`."""
        for partition in self._stores.keys() - set(keep):
            self._stores.pop(partition).close()

    def _opened(self, partition: int) -> Rdict:
        folder, end_s = self._folder / str(partition), time.monotonic() + _LOCKED_S
        folder.parent.mkdir(parents=True, exist_ok=True)
        options, unlogged = Options(raw_mode=True), WriteOptions()
        options.create_if_missing(True)
        options.set_write_buffer_size(8 << 20)
        # nearly every transaction is looked for in vain: filters answer that without a search
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.1)
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(Cache(8 << 20))
        options.set_block_based_table_factory(blocks)
        unlogged.disable_wal = True  # what a crash takes is read from the topic again
        kept_s = (self._recall_ms + 2 * _SLACK_MS) // 1000
        while True:
            try:
                store = Rdict(str(folder), options, access_type=AccessType.with_ttl(kept_s))
                break
            except Exception as error:
                if "lock" in str(error).lower() and time.monotonic() < end_s:
                    time.sleep(0.2)  # a worker that has lost the partition closes the store at any moment
                elif is_damage(error):
                    logger.warning(
                        "held decisions of partition %d are damaged, reading them anew: %s", partition, error
                    )
                    shutil.rmtree(folder)
                else:
                    raise
        store.set_write_options(unlogged)
        return store

    def _own(
        self, records: list[KafkaRecord], read: Callable[[bytes | None], T | Unreadable], partition: int, end: int
    ) -> Iterator[tuple[KafkaRecord, T]]:
        """Records with which this application answered transactions of the partition; what others wrote is ignored."""
        for record in records:
            if app_of(record) != self._app_id or position_of(record)[0] != partition or _source_of(record) >= end:
                continue
            value = read(record.value)
            if isinstance(value, Unreadable):
                self.unreadable += 1
            else:
                yield record, value

    def _restore(self, store: Rdict, answers: list[tuple[KafkaRecord, Decision]], alerts: Mapping[int, bytes]) -> int:
        """Hold the decisions that the store does not hold yet; returns how many. The first one published stands."""
        if not answers:
            return 0
        decisions = [decision for _, decision in answers]
        rows = np.zeros(len(decisions), HELD)
        rows["decision"] = rows_of(decisions)
        rows["offset"] = [_source_of(record) for record, _ in answers]
        rows["content"] = [content_of(record) for record, _ in answers]
        rows["received_ms"] = rows["decision"]["scored_at"] - rows["decision"]["latency_ms"]
        ids = np.zeros(len(decisions), [("user", "u8"), ("transaction", "u8")])
        ids["user"] = [hash64(decision.user_id) for decision in decisions]
        ids["transaction"] = rows["decision"]["transaction"]
        keys = [
            key + rows["content"][i].tobytes() if decisions[i].id_reused else key for i, key in enumerate(keys_of(ids))
        ]
        batch, known, count = WriteBatch(raw_mode=True), set[bytes](), 0
        for i, (key, before) in enumerate(zip(keys, store.get(keys), strict=True)):
            stands = before is not None and self._is_near(np.frombuffer(before, HELD, 1)[0], rows["received_ms"][i])
            if not stands and key not in known:
                known.add(key)
                batch.put(key, rows[i].tobytes() + alerts.get(int(rows["offset"][i]), b""))
                count += 1
        batch.put(_NEWEST, int(rows["decision"]["scored_at"].max()).to_bytes(8, "little"))
        store.write(batch)
        return count

    def _is_near(self, row: np.void, received_ms: np.int64) -> bool:
        """Whether a held decision is within the horizon of a time."""
        return abs(int(received_ms) - int(row["received_ms"])) <= self._recall_ms


async def _since(consumer: AIOKafkaConsumer, part: TopicPartition, since_ms: int) -> AsyncIterator[list[KafkaRecord]]:
    """The records of a partition from a time on, in chunks."""
    consumer.assign([part])
    offsets = (await held(consumer, [part]))[part]
    found = (await consumer.offsets_for_times({part: max(0, since_ms)})).get(part)
    first = offsets.stop if found is None else max(found.offset, offsets.start)
    for start in range(first, offsets.stop, _CHUNK):
        yield [r async for r in read(consumer, part, range(start, min(start + _CHUNK, offsets.stop)))]


def keys_of(rows: NDArray[np.void]) -> list[bytes]:
    """Keys [N] of rows with the columns `user` and `transaction`, without the content that a second payment's has."""
    pairs = np.empty((len(rows), 2), np.uint64)
    pairs[:, 0], pairs[:, 1] = rows["user"], rows["transaction"]
    data = pairs.tobytes()
    return [data[i : i + 16] for i in range(0, len(data), 16)]


def _source_of(record: KafkaRecord) -> int:
    return at_source(epoch_of(record), position_of(record)[1])
