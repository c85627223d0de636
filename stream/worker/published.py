"""What this application had published before it was interrupted, beyond the states it had stored.

A worker that dies between publishing a decision and storing the state is given the transaction again. Deciding anew
gives the same answer only if nothing else changed: another model version live, or Triton back (or gone), and the second
decision would contradict the first. So before a partition's first event the end of its decisions and alerts is read
back, and those events get what was published.
"""

from __future__ import annotations

import logging

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from panther_core.base.settings import KafkaSettings
from panther_core.data.events import Alert, Decision
from panther_core.data.topics import ALERTS, SCORES
from stream.worker.publish import decision_behind, row_of

logger = logging.getLogger(__name__)

_CHUNK = 2000
#: decisions of one micro-batch stand in any order: look so much further back
_SLACK = 4096

_decision = msgspec.json.Decoder(Decision).decode
_alert = msgspec.json.Decoder(Alert).decode


#: partition and offset of a transaction
Position = tuple[int, int]


def headers_of(app_id: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """Headers of a decision or an alert: which record it answers, and which application answered."""
    return [("source", f"{partition}:{offset}".encode()), ("app", app_id.encode())]


def position_of(record: ConsumerRecord[bytes, bytes]) -> Position:
    """Which transaction a decision, an alert or a dead letter answers; (-1, -1) when it does not say."""
    place, _, offset = dict(record.headers).get("source", b"").decode().rpartition(":")
    partition = place.rpartition(":")[2]
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else (-1, -1)


class Published:
    """Published decisions by (partition, source offset), for events that are about to be decided again."""

    def __init__(self, kafka: KafkaSettings, app_id: str) -> None:
        self._kafka, self._app_id = kafka, app_id.encode()
        self._looked: dict[int, int] = {}  # partition -> generation
        self._rows: dict[tuple[int, int], np.void] = {}

    async def look(self, first: dict[int, int], generation: int) -> None:
        """Read back what was published of each partition from the offset `first` on, once in a generation."""
        new = {p: offset for p, offset in first.items() if self._looked.get(p) != generation}
        if not new:
            return
        consumer = AIOKafkaConsumer(**self._kafka.client_options(), enable_auto_commit=False, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            for partition, offset in new.items():
                self._rows = {at: row for at, row in self._rows.items() if at[0] != partition}
                await self._read(consumer, partition, offset)
                self._looked[partition] = generation
        finally:
            await consumer.stop()
        if self._rows:
            logger.warning("%d decisions were published before their states were stored: kept", len(self._rows))

    def take(self, places: list[tuple[int, int]]) -> dict[int, np.void]:
        """Rows of events at (partition, offset), by their index in `places`; each is given out once."""
        if not self._rows:
            return {}
        return {i: self._rows.pop(place) for i, place in enumerate(places) if place in self._rows}

    async def _read(self, consumer: AIOKafkaConsumer, partition: int, first: int) -> None:
        alerts = {
            offset: _alert(value)
            for offset, value in (await self._tail(consumer, TopicPartition(ALERTS, partition), first)).items()
        }
        decisions = {offset: decision_behind(alert) for offset, alert in alerts.items()}
        for offset, value in (await self._tail(consumer, TopicPartition(SCORES, partition), first)).items():
            decisions[offset] = _decision(value)
        for offset, decision in decisions.items():
            self._rows[partition, offset] = row_of(decision, alerts.get(offset))

    async def _tail(self, consumer: AIOKafkaConsumer, tp: TopicPartition, first: int) -> dict[int, bytes]:
        """This application's records by source offset, from `first` on; the first one published stands."""
        consumer.assign([tp])
        low, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        start, found = end, dict[int, bytes]()
        while start > low:
            stop, start = start, max(low, start - _CHUNK)
            part = [
                (_source(r), dict(r.headers).get("app") == self._app_id, r.value or b"")
                for r in await records(consumer, tp, start, stop)
            ]
            # chunks come newest first: what an older one holds goes before
            found |= {offset: value for offset, own, value in reversed(part) if own and offset >= first}
            # whoever published it: nothing of interest is older than a record that answers something much older
            if min((offset for offset, _, _ in part), default=-1) < first - _SLACK:
                break
        return found


def _source(record: ConsumerRecord[bytes, bytes]) -> int:
    """Offset of the transaction that a record answers; below every offset when it does not say."""
    _, offset = position_of(record)
    return offset if offset >= 0 else -_SLACK - 1


async def records(
    consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, stop: int
) -> list[ConsumerRecord[bytes, bytes]]:
    """Records of offsets start..stop-1."""
    consumer.seek(tp, start)
    out: list[ConsumerRecord[bytes, bytes]] = []
    while await consumer.position(tp) < stop:
        for records in (await consumer.getmany(tp, timeout_ms=500, max_records=_CHUNK)).values():
            out += [record for record in records if record.offset < stop]
    return out
