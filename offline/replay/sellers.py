"""What the decisions of a stream knew of their merchants: each names a record of merchant.risk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.table import UNKNOWN_SELLER
from panther_core.data.topics import MERCHANT_RISK, SCORES
from panther_core.kafka.answers import NOWHERE, Position, Unreadable, app_of, position_of, read_risk, seller_of
from panther_core.kafka.reading import KafkaRecord, held, make_reader, partitions_of, read, read_topic

_NEAR = 2000  # a fetch brings as many records anyway; over a longer gap the reader jumps


def named_sellers(app_id: str, scores: Iterable[KafkaRecord]) -> dict[Position, Position]:
    """The record that the first decision on each transaction saw, by place of the transaction."""
    out: dict[Position, Position] = {}
    for record in scores:
        if app_of(record) == app_id.encode() and (place := position_of(record)) != NOWHERE:
            out.setdefault(place, seller_of(record))
    return out


def features_by_place(risk: Iterable[KafkaRecord]) -> dict[Position, list[float]]:
    """RISK_NAMES of the records of merchant.risk that can be read, by their places."""
    out: dict[Position, list[float]] = {}
    for record in risk:
        found = read_risk(record.value)
        if not isinstance(found, Unreadable):
            out[record.partition, record.offset] = [found.features[name] for name in RISK_NAMES]
    return out


def sellers(
    places: Sequence[Position], named: Mapping[Position, Position], risk: Iterable[KafkaRecord]
) -> NDArray[np.float32]:
    """What was known of the merchants of transactions [N] at these places [N, S]; the unknown merchant for those whose
    decision names no record, or one that is gone."""
    records, unknown = features_by_place(risk), UNKNOWN_SELLER.tolist()
    return np.array([records.get(named.get(place, NOWHERE), unknown) for place in places], np.float32).reshape(
        len(places), len(RISK_NAMES)
    )


async def risk_records(
    consumer: AIOKafkaConsumer, parts: Sequence[TopicPartition], wanted: Collection[Position]
) -> list[KafkaRecord]:
    """The records of merchant.risk at `wanted` places that are still there. `parts`: the partitions of the topic."""
    by_partition: dict[int, set[int]] = {}
    for partition, offset in wanted:
        by_partition.setdefault(partition, set()).add(offset)
    out: list[KafkaRecord] = []
    own = [part for part in parts if part.partition in by_partition]
    for part, offsets in (await held(consumer, own)).items() if own else ():
        found = {offset for offset in by_partition[part.partition] if offset in offsets}
        for span in _spans(sorted(found)):
            out += [record async for record in read(consumer, part, span) if record.offset in found]
    return out


def _spans(offsets: Sequence[int]) -> Iterator[range]:
    """Ranges that hold ascending offsets, without the long gaps between them."""
    for part in np.split(np.array(offsets, np.int64), np.flatnonzero(np.diff(offsets) > _NEAR) + 1):
        if len(part):
            yield range(int(part[0]), int(part[-1]) + 1)


async def sellers_at(
    kafka: KafkaSettings, places: Sequence[Position], named: Mapping[Position, Position]
) -> NDArray[np.float32]:
    """As `sellers`, with the records that are on merchant.risk; those that no decision names are not held."""
    wanted = {named[place] for place in places if place in named} - {NOWHERE}
    async with make_reader(kafka) as consumer:
        risk = await risk_records(consumer, await partitions_of(consumer, MERCHANT_RISK), wanted)
    return sellers(places, named, risk)


async def sellers_of(kafka: KafkaSettings, app_id: str, places: Sequence[Position]) -> NDArray[np.float32]:
    """As `sellers_at`, of the decisions that an application has published."""
    return await sellers_at(kafka, places, named_sellers(app_id, await read_topic(kafka, SCORES)))
