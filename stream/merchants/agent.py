"""Takes in batches of merchant.events; publishes to merchant.risk and merchant.alerts, then stores states, then acks.

The order is that of a worker's micro-batches (stream.worker.pipeline): what is published is durable before the states
are stored, and the batch is acked once the changelog is durable. A crash before that means that the batch comes again,
and counts once (stream.merchants.history).

A merchant's record says what was known at a full hour. While nothing happens at a merchant its windows still move, so
when the newest event of a partition begins a new day, a record of every merchant is published as of that midnight.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from panther_core.base.errors import InvalidEvent
from panther_core.base.times import DAY_MS, now_ms
from panther_core.data.events import record_time_ms
from panther_core.data.merchant_events import (
    MerchantAlert,
    MerchantEvent,
    MerchantRiskRecord,
    decode_merchant_event,
)
from panther_core.data.topics import MERCHANT_ALERTS, MERCHANT_EVENTS, MERCHANT_RISK
from panther_core.decide.records import to_json
from panther_core.entities.merchants import DAYS, decode_merchants
from stream.faust_parts.internals import Arrivals, partition_store
from stream.faust_parts.producer import Outgoing, Producer
from stream.faust_parts.recovery import noticing_damage
from stream.merchants.history import day_of, records, take_in
from stream.merchants.live_threshold import LiveThreshold
from stream.merchants.sources import is_old
from stream.ops import metrics
from stream.worker.acker import Acker
from stream.worker.beside import naming_records
from stream.worker.state_store import StateStore, StoredBatch

logger = logging.getLogger(__name__)

AT_ONCE = 2000  # events of a batch; merchants of one step of a day's turn
#: value of the newest day whose midnight was published; its head is that of every value of the store
_TURN, _HEAD = b"\0turn", 14
_SOURCES_D = 30  # after so many days no worker writes an event again


class MerchantAgent:
    """Keeps the merchants of the partitions that this process holds."""

    def __init__(
        self, app: Any, table: Any, producer: Producer, store: StateStore, acker: Acker, threshold: LiveThreshold
    ) -> None:
        self._app, self._table, self._producer, self._store = app, table, producer, store
        self._acker, self._threshold = acker, threshold

    async def run(self, arrivals: Arrivals) -> None:
        """Work until the stream has ended, from when it is known which model is live."""
        await self._threshold.ready()
        while await arrivals.wait():
            batch = arrivals.take(AT_ONCE)
            self._acker.expect(batch)
            with naming_records(batch, MERCHANT_EVENTS):
                await self._acker.put(await self._taken_in(batch))

    async def _taken_in(self, batch: list[Any]) -> StoredBatch:
        generation = self._app.consumer_generation_id
        out = StoredBatch(generation, batch)
        by_partition: dict[int, list[Any]] = {}
        for event in batch:
            if event.message.generation_id == generation:
                by_partition.setdefault(event.message.partition, []).append(event.message)
        for partition, messages in by_partition.items():
            events, written_ms = _readable(messages)
            today = day_of(events, written_ms)
            with noticing_damage(self._table, partition):
                day, turned = await self._turn(partition, today, written_ms // DAY_MS, generation)
                store = partition_store(self._table, partition)
                outcome = take_in(events, store.get, day, written_ms, self._threshold.now)
            await self._publish(partition, outcome.risk)
            await self._publish_alerts(partition, outcome.alerts)
            metrics.MERCHANT_EVENTS.labels("repeated").inc(outcome.repeated)
            labels = sum(event.label is not None for _, event in events)
            metrics.MERCHANT_EVENTS.labels("label").inc(labels)
            metrics.MERCHANT_EVENTS.labels("payment").inc(len(events) - labels)
            if generation != self._app.consumer_generation_id:
                return out
            touched = {key for key, _ in outcome.stored}
            rest = [(key, value) for key, value in turned if key not in touched]
            await self._store.put(partition, [*outcome.stored, *rest], out)
        return out

    async def _turn(
        self, partition: int, today: int, written: int, generation: int
    ) -> tuple[int, list[tuple[bytes, bytes | None]]]:
        """Publish every merchant as of a new day's midnight. `written`: the day on which the events were written.

        Returns the newest day that was published, and what is to be stored once that is durable.
        """
        store = partition_store(self._table, partition)
        turned = store.get(_TURN)
        before = 0 if turned is None else int.from_bytes(turned[_HEAD:], "little")
        if today <= before:
            return before, []
        old: list[tuple[bytes, bytes | None]] = []
        count, cursor = 0, b""
        while True:  # each step opens the store anew: the partition may move meanwhile
            if generation != self._app.consumer_generation_id:
                return today, []
            pairs = partition_store(self._table, partition).items(from_key=cursor)
            if not (chunk := list(islice(pairs, AT_ONCE))):
                break
            cursor = chunk[-1][0] + b"\0"
            own = [(key, value) for key, value in chunk if b"\0" not in key]
            old += [(key, None) for key, value in chunk if is_old(key, value, written - _SOURCES_D)]
            states = decode_merchants(value for _, value in own)
            alive = np.flatnonzero(states["day"] > today - 2 * DAYS)  # of the others nothing moves any more
            names = [own[i][0].decode() for i in alive.tolist()]
            count += len(names)
            await self._publish(partition, records(names, states[alive], np.full(len(alive), today * 24)))
            await asyncio.sleep(0)  # many steps find no merchant, and publish nothing
        if count:
            logger.info("partition %d: %d merchants as of a new day", partition, count)
        return today, [*old, (_TURN, bytes(_HEAD) + today.to_bytes(8, "little"))]

    async def _publish(self, partition: int, risk: list[MerchantRiskRecord]) -> None:
        """Return once the records are durable."""
        outgoing: list[Outgoing] = [(record.merchant_id.encode(), to_json(record), []) for record in risk]
        if outgoing:
            await (await self._producer.send_all(MERCHANT_RISK, partition, outgoing))
            metrics.MERCHANT_RISK.inc(len(outgoing))

    async def _publish_alerts(self, partition: int, alerts: list[MerchantAlert]) -> None:
        outgoing: list[Outgoing] = [(alert.merchant_id.encode(), to_json(alert), []) for alert in alerts]
        if outgoing:
            await (await self._producer.send_all(MERCHANT_ALERTS, partition, outgoing))
            metrics.MERCHANT_ALERTS.inc(len(outgoing))


def _readable(messages: Iterable[Any]) -> tuple[list[tuple[int, MerchantEvent]], int]:
    """The records that are events, each with its offset, and when the newest was written; others are counted, and
    said."""
    now, events, written_ms = now_ms(), list[tuple[int, MerchantEvent]](), 0
    for message in messages:
        sent_ms = record_time_ms(None if message.timestamp is None else round(message.timestamp * 1000), now)
        try:
            event = decode_merchant_event(message.key, message.value, sent_ms)
        except InvalidEvent as error:
            metrics.MERCHANT_EVENTS.labels("unreadable").inc()
            place = f"{MERCHANT_EVENTS}:{message.partition}:{message.offset}"
            logger.warning("%s is no event of a merchant, skipped: %s", place, error)
            continue
        events.append((message.offset, event))
        written_ms = max(written_ms, sent_ms)
    return events, written_ms
