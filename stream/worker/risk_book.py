"""What this worker knows of every merchant: the newest records of merchant.risk, in memory.

A decision sees the newest record that holds from its hour on or from an earlier one, so a worker keeps two records of a
merchant: while the hour lasts, the next one is being made. What a decision saw is named in its header `seller`, the
record's place, so that it can be looked up (offline.parity). A payment that comes hours late sees the older of the two
records, which may be newer than itself. A merchant of which there is no record is unknown.
Memory: some 450 bytes a merchant.
"""

from __future__ import annotations

import asyncio

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.schema import hash64
from panther_core.data.table import UNKNOWN_SELLER
from panther_core.data.topics import MERCHANT_RISK
from panther_core.kafka.answers import Unreadable, read_risk
from panther_core.kafka.reading import KafkaRecord, held, make_reader, partitions_of, read
from stream.ops import metrics
from stream.worker.topic_check import TopicMismatch

_FETCH_BYTES, _AT_ONCE, _IN_A_ROW = 4 << 20, 500, 25
_BACK_MS = 2 * DAY_MS  # of every merchant of whom anything is known there is a record at each midnight
_RECORD = np.dtype([("as_of", "i8"), ("partition", "i4"), ("offset", "i8"), ("seller", "f4", len(RISK_NAMES))])


class RiskBook:
    """Follows merchant.risk from two days before its end, without a consumer group, so that every worker sees every
    record."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._row: dict[int, int] = {}  # merchant's hash -> row of `_held`; row 0: the unknown merchant
        self._held = np.zeros((1, 2), _RECORD)  # [merchants, newest first]
        self._held["as_of"], self._held["offset"], self._held["seller"] = -1, -1, UNKNOWN_SELLER
        self.problem: str | None = f"{MERCHANT_RISK} has not been read yet"
        self._read = asyncio.Event()

    def seen(
        self, merchant: NDArray[np.uint64], time_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], list[tuple[int, int]], list[int]]:
        """What payments [N] see of their merchants [N, S]; of each record its place (partition, offset; offset -1 for
        none) and the hour (epoch ms) as of which it holds."""
        rows = np.array([self._row.get(m, 0) for m in merchant.tolist()], np.intp)
        held = self._held[rows]
        late = held["as_of"][:, 0] > time_ms // HOUR_MS * HOUR_MS
        found = held[np.arange(len(rows)), late.astype(np.intp)]
        places = list(zip(found["partition"].tolist(), found["offset"].tolist(), strict=True))
        return found["seller"], places, found["as_of"].tolist()

    def note(self, record: KafkaRecord) -> None:
        """Take down one record."""
        risk = read_risk(record.value)
        if isinstance(risk, Unreadable) or record.key != risk.merchant_id.encode():
            metrics.RISK_UNREADABLE.inc()
            return
        row = self._row.setdefault(hash64(risk.merchant_id), len(self._row) + 1)
        if row >= len(self._held):
            more = np.repeat(self._held[:1], max(1024, len(self._held) // 2), axis=0)
            self._held = np.concatenate([self._held, more])
        held = self._held[row]
        if held["as_of"][0] not in (-1, risk.as_of):
            if risk.as_of < held["as_of"][0]:
                return  # a process that goes over an old stretch again
            held[1] = held[0]
        seller = [risk.features[name] for name in RISK_NAMES]
        held[0] = (risk.as_of, record.partition, record.offset, seller)

    async def ready(self) -> None:
        """Return once the topic was read to the end that it had when the worker started."""
        await self._read.wait()

    async def run(self) -> None:
        """Follow the topic for the life of the worker; `problem` is None once it was read to its end."""
        async with make_reader(self._kafka, max_partition_fetch_bytes=_FETCH_BYTES) as consumer:
            parts = await partitions_of(consumer, MERCHANT_RISK)
            if not parts:
                raise TopicMismatch(f"expected topic {MERCHANT_RISK}, found none: run `panther topics create`")
            offsets = await held(consumer, parts)
            starts = {part: await _start(consumer, part, offsets[part]) for part in parts}
            consumer.assign(parts)
            for part, start in starts.items():
                consumer.seek(part, start)
            left = {part for part in parts if len(offsets[part])}
            while True:
                if not left:
                    self.problem = None
                    self._read.set()
                for records in (await consumer.getmany(timeout_ms=500, max_records=_AT_ONCE)).values():
                    for i, record in enumerate(records, 1):
                        self.note(record)
                        if i % _IN_A_ROW == 0:
                            await asyncio.sleep(0)  # decisions go on between them
                await asyncio.sleep(0)
                for part in list(left):
                    if await consumer.position(part) >= offsets[part].stop:
                        left.discard(part)


async def _start(consumer: AIOKafkaConsumer, part: TopicPartition, offsets: range) -> int:
    """Offset of the first record that is at most _BACK_MS older than the partition's newest."""
    async for newest in read(consumer, part, range(max(offsets.start, offsets.stop - 1), offsets.stop)):
        found = (await consumer.offsets_for_times({part: max(0, newest.timestamp - _BACK_MS)}))[part]
        return offsets.start if found is None else int(found.offset)
    return offsets.start
