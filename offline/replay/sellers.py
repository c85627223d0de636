"""What the decisions of a stream knew of their merchants: each names a record of merchant.risk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.table import UNKNOWN_SELLER
from panther_core.data.topics import MERCHANT_RISK, SCORES
from panther_core.kafka.answers import NOWHERE, Position, Unreadable, app_of, position_of, read_risk, seller_of
from panther_core.kafka.reading import KafkaRecord, held, make_reader, partitions_of, read, read_topic


def named_sellers(app_id: str, scores: Iterable[KafkaRecord]) -> dict[Position, Position]:
    """The record that the first decision on each transaction saw, by place of the transaction."""
    out: dict[Position, Position] = {}
    for record in scores:
        if app_of(record) == app_id.encode() and (place := position_of(record)) != NOWHERE:
            out.setdefault(place, seller_of(record))
    return out


def sellers(
    places: Sequence[Position], named: Mapping[Position, Position], risk: Iterable[KafkaRecord]
) -> NDArray[np.float32]:
    """What was known of the merchants of transactions [N] at these places [N, S]; the unknown merchant for those whose
    decision names no record, or one that is gone."""
    records: dict[Position, list[float]] = {}
    for record in risk:
        read = read_risk(record.value)
        if not isinstance(read, Unreadable):
            records[record.partition, record.offset] = [read.features[name] for name in RISK_NAMES]
    unknown = UNKNOWN_SELLER.tolist()
    return np.array([records.get(named.get(place, NOWHERE), unknown) for place in places], np.float32).reshape(
        len(places), len(RISK_NAMES)
    )


async def sellers_at(
    kafka: KafkaSettings, places: Sequence[Position], named: Mapping[Position, Position]
) -> NDArray[np.float32]:
    """As `sellers`, with the records that are on merchant.risk; those that no decision names are not held."""
    wanted: dict[int, set[int]] = {}
    for partition, offset in {named[place] for place in places if place in named} - {NOWHERE}:
        wanted.setdefault(partition, set()).add(offset)
    risk: list[KafkaRecord] = []
    async with make_reader(kafka) as consumer:
        for part, offsets in (await held(consumer, await partitions_of(consumer, MERCHANT_RISK))).items():
            if own := wanted.get(part.partition):
                span = range(max(offsets.start, min(own)), min(offsets.stop, max(own) + 1))
                risk += [record async for record in read(consumer, part, span) if record.offset in own]
    return sellers(places, named, risk)


async def sellers_of(kafka: KafkaSettings, app_id: str, places: Sequence[Position]) -> NDArray[np.float32]:
    """As `sellers_at`, of the decisions that an application has published."""
    return await sellers_at(kafka, places, named_sellers(app_id, await read_topic(kafka, SCORES)))
