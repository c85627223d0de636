"""What one batch of events does to a partition's merchants: pure of Kafka, and of the store but for reading.

Counted once: an event whose source was counted is left out; of the others, those are applied that the merchant's state
has not seen by their offset. So a batch may be taken in again after a crash, whatever part of it was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.events import MAX_TIME_MS
from panther_core.data.merchant_events import RISK_NAMES, MerchantEvent, MerchantRiskRecord
from panther_core.entities.merchants import (
    advance,
    decode_merchants,
    elsewise,
    encode_merchants,
    risk_of,
    take_labels,
    take_payments,
)
from stream.merchants.sources import Sources

Read = Callable[[list[bytes]], list[bytes | None]]
"""Stored values of keys."""


@dataclass
class Outcome:
    """What is to be published and stored; `stored` in the order in which it goes to the changelog."""

    risk: list[MerchantRiskRecord] = field(default_factory=list)
    stored: list[tuple[bytes, bytes]] = field(default_factory=list)
    repeated: int = 0


def take_in(
    events: Sequence[tuple[int, MerchantEvent]], read: Read, turned: int = 0, now_ms: int = MAX_TIME_MS
) -> Outcome:
    """Apply events of one partition, each with its offset, in their order. Raises FingerprintMismatch.

    `turned`: the newest day of whose midnight every merchant has a record: a later one holds from then on at least.
    `now_ms`: when the events were written; a time after it is a clock that is ahead, and moves no hour.
    """
    out, sources = Outcome(), Sources(lambda key: read([key])[0])
    today = day_of(events, now_ms)
    new = [(offset, event) for offset, event in events if sources.first(event, today)]
    out.repeated = len(events) - len(new)
    row: dict[str, int] = {}
    for _, event in new:
        row.setdefault(event.merchant_id, len(row))
    names = [name.encode() for name in row]
    states = decode_merchants(read(names) if names else [])
    seen = states["last_offset"].tolist()
    fresh = [(offset, event) for offset, event in new if offset > seen[row[event.merchant_id]]]
    _apply(states, fresh, [row[event.merchant_id] for _, event in fresh], now_ms)
    out.risk = records(list(row), states, np.maximum(states["hour"] + 1, turned * 24))
    out.stored = [*zip(names, encode_merchants(states), strict=True), *sources.changed()]
    return out


def day_of(events: Sequence[tuple[int, MerchantEvent]], now_ms: int) -> int:
    """The newest day on which one of the events happened, not after `now_ms`; 0 without events."""
    return max((min(event.time_ms, now_ms) for _, event in events), default=0) // DAY_MS


def _apply(states: NDArray[np.void], events: Sequence[tuple[int, MerchantEvent]], rows: list[int], now_ms: int) -> None:
    """Apply events to MERCHANT states, in place; `rows`: the state of each."""
    if not events:
        return
    at = np.array(rows)
    times = np.array([event.time_ms for _, event in events], np.int64)
    np.maximum.at(states["hour"], at, np.minimum(times, now_ms) // HOUR_MS)
    np.maximum.at(states["last_offset"], at, np.array([offset for offset, _ in events], np.int64))
    np.add.at(states["n"], at, 1)
    days = states["hour"] // 24
    np.maximum.at(days, at, times // DAY_MS)
    advance(states, days)  # rings have room for a day that a clock is ahead
    paid_day = np.array([event.event_time // DAY_MS for _, event in events], np.int64)
    ratio = np.array([event.ratio for _, event in events])
    label = np.array([-1 if event.label is None else event.label for _, event in events])
    before = np.array([-1 if event.label_before is None else event.label_before for _, event in events])
    paid, told = np.flatnonzero(label < 0), np.flatnonzero(label >= 0)
    take_payments(states, at[paid], paid_day[paid], ratio[paid])
    take_labels(
        states, at[told], paid_day[told], times[told] // DAY_MS, label[told] == 1, elsewise(ratio[told]), before[told]
    )


def records(names: Iterable[str], states: NDArray[np.void], hour: NDArray[np.int64]) -> list[MerchantRiskRecord]:
    """What is published of MERCHANT states [B] for decisions from `hour` [B] on. The states are not changed."""
    as_of = states.copy()
    advance(as_of, hour // 24)
    values = risk_of(as_of).tolist()
    moments, counts = (hour.astype(np.int64) * HOUR_MS).tolist(), states["n"].tolist()
    return [
        MerchantRiskRecord(
            merchant_id=name, as_of=moment, events=count, features=dict(zip(RISK_NAMES, row, strict=True))
        )
        for name, moment, count, row in zip(names, moments, counts, values, strict=True)
    ]
