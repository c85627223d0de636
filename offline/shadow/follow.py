"""`panther shadow run`: a challenger decides what the live system decides, beside it, on a topic of its own.

The engine is that of a replay (offline.replay), in this process. Nothing on the decision path knows of it: no consumer
group is joined, Triton is not asked, and nothing is written but the topic of a shadow's decisions.

What Kafka keeps of `transactions` from before the start gives the users their states, and is not published. From the
start on a payment is decided once its live decision is there, with what that decision knew of the merchant (the record
of merchant.risk that it names). So the decisions are those of `panther replay --topic transactions --as-decided`. Users
stay in their partition, and each partition has states of its own, as in the workers.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from pathlib import Path

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from offline.replay.replayer import Replayer
from offline.replay.sellers import features_by_place, risk_records
from offline.replay.topic import valid
from offline.shadow.partition import MOST_NAMED, MOST_WAITING, Partition, Payment
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import HOUR_MS, now_ms
from panther_core.data.events import record_time_ms
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.table import UNKNOWN_SELLER
from panther_core.data.topics import MERCHANT_RISK, SCORES, SHADOW_SCORES, TRANSACTIONS
from panther_core.decide.records import to_json
from panther_core.kafka.answers import (
    NOWHERE,
    Position,
    Unreadable,
    app_of,
    headers_of,
    position_of,
    read_decision,
    seller_of,
)
from panther_core.kafka.partitioner import partition_of
from panther_core.kafka.reading import PATIENCE_S, KafkaRecord, held, make_reader, partitions_of, read
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from stream.faust_parts.producer import Outgoing, Producer, make_producer

_PAST_ROWS = 20_000  # payments of the past that are taken in at once
_AT_ONCE = 5000
_EVERY_S = 1.0  # a few payments at a time would cost several times as much CPU each
_MERCHANTS = 50_000  # records of merchant.risk that are held; others are read again


class ShadowRun(msgspec.Struct):
    """What a run has done. `from_ms`: payments whose records came from then on (epoch ms) are decided and published."""

    version: int
    from_ms: int
    past: int = 0
    """Payments before, which gave the users their states."""
    published: int = 0
    already_published: int = 0
    """Payments whose decision an earlier run of the version has published."""
    undecided: int = 0
    """Payments without a live decision: of their merchants nothing was known."""
    invalid: int = 0
    """Records of which the workers make dead letters."""


class Shadow:
    """A version that decides the live stream from `since_ms` on (record time; None: from now on)."""

    def __init__(
        self, kafka: KafkaSettings, settings: PantherSettings, folder: Path, since_ms: int | None = None
    ) -> None:
        """Load the version in `folder`. Raises ArtifactError."""
        self._kafka, self._settings, self._since_ms = kafka, settings, since_ms
        serving = load_serving_model(folder)
        self._replayer = Replayer(serving, PantherModel.load(folder))
        self.done = ShadowRun(serving.live.version, now_ms() if since_ms is None else since_ms)
        """What was done so far."""
        self._parts: dict[int, Partition] = {}
        self._merchants: OrderedDict[Position, list[float]] = OrderedDict()

    async def run(self, seconds: float | None) -> ShadowRun:
        """Decide the payments that come within `seconds` from now on (None: until it is cancelled).

        Raises BadInput where a topic is missing.
        """
        end_s = None if seconds is None else time.time() + seconds
        async with (
            make_reader(self._kafka) as reader,
            make_reader(self._kafka) as lookup,
            make_producer(self._kafka) as producer,
        ):
            paid, scores, shadow = [await self._topic(reader, name) for name in (TRANSACTIONS, SCORES, SHADOW_SCORES)]
            risk = await partitions_of(lookup, MERCHANT_RISK)
            # in this order: decisions on later payments lie behind the ends of now
            positions = await self._starts(reader, scores, HOUR_MS)
            positions |= await self._starts(reader, paid)
            if self._since_ms is None:
                self.done.from_ms = now_ms()
            self._parts = {part.partition: Partition(self._replayer.fresh(), positions[part]) for part in paid}
            if self._since_ms is not None:
                await self._read_published(reader, shadow)
            for part, offsets in (await held(reader, paid)).items():
                await self._learn(reader, part, range(offsets.start, positions[part]))
            say(f"  {self.done.past:,} payments of the past are known; version {self.done.version} follows the stream")
            reader.assign([*paid, *scores])
            for part, offset in positions.items():
                reader.seek(part, offset)
            await self._follow(reader, lookup, risk, producer, end_s)
        return self.done

    async def _topic(self, reader: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
        parts = await partitions_of(reader, topic)
        if len(parts) != self._settings.partitions:
            raise BadInput(
                f"expected a topic {topic} of {self._settings.partitions} partitions, found {len(parts)}: make it with "
                "`panther topics create`, or correct KAFKA_BOOTSTRAP_SERVERS and PANTHER_PARTITIONS"
            )
        return parts

    async def _starts(
        self, reader: AIOKafkaConsumer, parts: list[TopicPartition], earlier_ms: int = 0
    ) -> dict[TopicPartition, int]:
        """Offset of each partition's first record from the start on; `earlier_ms`: what clocks may differ by."""
        ends: dict[TopicPartition, int] = await reader.end_offsets(parts)
        if self._since_ms is None:
            return ends
        found = await reader.offsets_for_times(dict.fromkeys(parts, max(0, self._since_ms - earlier_ms)))
        return {part: found[part].offset if found[part] else ends[part] for part in parts}

    async def _read_published(self, reader: AIOKafkaConsumer, parts: list[TopicPartition]) -> None:
        """Note what earlier runs of this version have published, so that nothing is published twice."""
        starts = await self._starts(reader, parts, HOUR_MS)
        for part, offsets in (await held(reader, parts)).items():
            known = set()
            async for record in read(reader, part, range(starts[part], offsets.stop), PATIENCE_S):
                decision = read_decision(record.value)
                mine = not isinstance(decision, Unreadable) and decision.model.version == self.done.version
                place = position_of(record)
                if mine and self._of_app(record) and place[0] == part.partition:
                    known.add(place[1])
            self._parts[part.partition].published = frozenset(known)

    async def _learn(self, reader: AIOKafkaConsumer, part: TopicPartition, offsets: range) -> None:
        """Give the partition's users their states."""
        own, rows = self._parts[part.partition], list[Payment]()

        def learn() -> None:
            if rows:
                own.learn(rows)
                self.done.past += len(rows)
                rows.clear()

        async for record in read(reader, part, offsets, PATIENCE_S):
            rows += self._payment(record)
            if len(rows) >= _PAST_ROWS:
                learn()
        learn()

    async def _follow(
        self,
        reader: AIOKafkaConsumer,
        lookup: AIOKafkaConsumer,
        risk: list[TopicPartition],
        producer: Producer,
        end_s: float | None,
    ) -> None:
        ends: dict[TopicPartition, int] | None = None
        full = False
        paid = [TopicPartition(TRANSACTIONS, number) for number in self._parts]
        while True:
            if ends is None and end_s is not None and time.time() >= end_s:
                ends = await reader.end_offsets(paid)
            if ends is not None and not any(own.waiting for own in self._parts.values()):
                positions = [await reader.position(part) for part in paid]
                if all(at >= ends[part] for at, part in zip(positions, paid, strict=True)):
                    return
            if not full:
                await asyncio.sleep(_EVERY_S)
            found = await reader.getmany(timeout_ms=0, max_records=_AT_ONCE)
            full = sum(map(len, found.values())) >= _AT_ONCE
            for part, records in found.items():
                for record in records:
                    if ends is None or record.offset < ends.get(part, record.offset + 1):
                        self._take(record)
            for number, own in self._parts.items():
                scores = TopicPartition(SCORES, number)
                end = reader.highwater(scores)
                ready = own.ready(no_more=end is not None and await reader.position(scores) >= end)
                if ready:
                    await self._publish(number, ready, lookup, risk, producer)
                _hold_back(reader, TopicPartition(TRANSACTIONS, number), len(own.waiting) >= MOST_WAITING)
                _hold_back(reader, scores, len(own.named) >= MOST_NAMED)

    def _take(self, record: KafkaRecord) -> None:
        """Take down a payment, or a live decision on one."""
        if record.topic == TRANSACTIONS:
            self._parts[record.partition].waiting += self._payment(record)
        elif self._of_app(record):
            partition, offset = position_of(record)
            if partition in self._parts:
                self._parts[partition].note(offset, seller_of(record))

    async def _publish(
        self,
        number: int,
        ready: list[tuple[Payment, Position | None]],
        lookup: AIOKafkaConsumer,
        risk: list[TopicPartition],
        producer: Producer,
    ) -> None:
        """Decide payments of a partition, and return once the decisions are durable."""
        named = [place or NOWHERE for _, place in ready]
        if missing := {*named} - {NOWHERE} - self._merchants.keys():
            self._merchants |= features_by_place(await risk_records(lookup, risk, missing))
        unknown = UNKNOWN_SELLER.tolist()
        seen = np.array([self._merchants.get(place, unknown) for place in named], np.float32)
        while len(self._merchants) > _MERCHANTS:
            self._merchants.popitem(last=False)
        made, before = self._parts[number].made(ready, seen.reshape(len(ready), len(RISK_NAMES)))
        app_id, outgoing = self._settings.app_id, list[Outgoing]()
        for offset, decision, seller in made:
            headers = headers_of(app_id, number, offset, seller=seller)
            outgoing.append((decision.user_id.encode(), to_json(decision), headers))
        await (await producer.send_all(SHADOW_SCORES, number, outgoing))
        self.done.undecided += sum(place is None for _, place in ready)
        self.done.already_published += before
        self.done.published += len(made)

    def _of_app(self, record: KafkaRecord) -> bool:
        return app_of(record) == self._settings.app_id.encode()

    def _payment(self, record: KafkaRecord) -> list[Payment]:
        """The record's payment; nothing where the workers make a dead letter of it."""
        now, partitioner = now_ms(), self._settings.partitioner
        transaction = valid(record, now, self._settings.rates)
        if transaction is not None and partitioner != "none":
            right = partition_of(transaction.user_id.encode(), self._settings.partitions, partitioner)
            transaction = transaction if record.partition == right else None
        if transaction is None:
            self.done.invalid += 1
            return []
        return [Payment(record.offset, record_time_ms(record.timestamp, now), transaction, time.monotonic())]


def _hold_back(reader: AIOKafkaConsumer, part: TopicPartition, full: bool) -> None:
    (reader.pause if full else reader.resume)(part)
