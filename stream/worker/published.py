"""Decisions that this application published before a crash, but whose states it had not stored yet.

A worker that dies between publishing a decision and storing the state is given the transaction again. To decide anew
would give the same answer only if nothing else had changed. With another model version live, or with Triton back or
gone, the second decision would contradict the first. So before a partition's first event the newest decisions and
alerts of the partition are read back, and their transactions get the decisions that were published.
"""

from __future__ import annotations

import logging

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import ALERTS, SCORES
from panther_core.decide.records import decision_behind, row_of
from panther_core.kafka.answers import Position, app_of, decode_alert, decode_decision, position_of
from panther_core.kafka.reading import KafkaRecord, chunks_from_end, make_reader

logger = logging.getLogger(__name__)

_CHUNK = 2000
#: decisions of one micro-batch are published in any order, so reading goes this many offsets further back
_SLACK = 4096


class Published:
    """Published decisions by (partition, source offset), for events that are about to be decided again."""

    def __init__(self, kafka: KafkaSettings, app_id: str) -> None:
        self._kafka, self._app_id = kafka, app_id.encode()
        self._read_in: dict[int, int] = {}  # partition -> generation
        self._rows: dict[Position, np.void] = {}

    async def read_back(self, first: dict[int, int], generation: int) -> None:
        """Read back what was published of each partition from the offset `first` on, once in a generation."""
        new = {p: offset for p, offset in first.items() if self._read_in.get(p) != generation}
        if not new:
            return
        async with make_reader(self._kafka) as consumer:
            for partition, offset in new.items():
                self._rows = {at: row for at, row in self._rows.items() if at[0] != partition}
                await self._read(consumer, partition, offset)
                self._read_in[partition] = generation
        if self._rows:
            logger.warning("%d decisions were published before their states were stored: kept", len(self._rows))

    def take(self, places: list[Position]) -> dict[int, np.void]:
        """Rows of events at (partition, offset), by their index in `places`; each is given out once."""
        if not self._rows:
            return {}
        return {i: self._rows.pop(place) for i, place in enumerate(places) if place in self._rows}

    async def _read(self, consumer: AIOKafkaConsumer, partition: int, first: int) -> None:
        alerts = {
            offset: decode_alert(value)
            for offset, value in (await self._tail(consumer, TopicPartition(ALERTS, partition), first)).items()
        }
        decisions = {offset: decision_behind(alert) for offset, alert in alerts.items()}
        for offset, value in (await self._tail(consumer, TopicPartition(SCORES, partition), first)).items():
            decisions[offset] = decode_decision(value)
        for offset, decision in decisions.items():
            self._rows[partition, offset] = row_of(decision, alerts.get(offset))

    async def _tail(self, consumer: AIOKafkaConsumer, part: TopicPartition, first: int) -> dict[int, bytes]:
        """This application's records by source offset, from `first` on; the first one published stands."""
        found: dict[int, bytes] = {}
        async for records in chunks_from_end(consumer, part, _CHUNK):
            chunk = [(_source(r), app_of(r) == self._app_id, r.value or b"") for r in records]
            # chunks come newest first: what an older one holds goes before
            found |= {offset: value for offset, own, value in reversed(chunk) if own and offset >= first}
            # Stop reading backwards once a record, of any application, answers a transaction more than _SLACK older
            # than the first one we need.
            if min((offset for offset, _, _ in chunk), default=-1) < first - _SLACK:
                break
        return found


def _source(record: KafkaRecord) -> int:
    """Offset of the transaction that a record answers; below every offset when it does not say."""
    _, offset = position_of(record)
    return offset if offset >= 0 else -_SLACK - 1
