"""What one batch of events does to a partition's merchants: pure of Kafka, and of the store but for reading.

Counted once: an event whose source was counted is left out; of the others, those are applied that the merchant's state
has not seen by their offset. So a batch may be taken in again after a crash, whatever part of it was stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.events import MAX_TIME_MS
from panther_core.data.merchant_events import (
    RISK_NAMES,
    MerchantAlert,
    MerchantEvent,
    MerchantRiskRecord,
    ReportedPayment,
)
from panther_core.decide.merchant_alert import merchant_alert
from panther_core.entities.merchant_alerts import look_at
from panther_core.entities.merchants import (
    advance,
    decode_merchants,
    deviation_of,
    elsewise,
    encode_merchants,
    risk_of,
    take_deviations,
    take_labels,
    take_payments,
)
from stream.merchants.reports import WAITING, Waiting, key_of, read_reported, stored_reported, with_label
from stream.merchants.sources import Sources

Read = Callable[[list[bytes]], list[bytes | None]]
"""Stored values of keys."""


@dataclass
class Outcome:
    """What is to be published and stored; `stored` in the order in which it goes to the changelog."""

    risk: list[MerchantRiskRecord] = field(default_factory=list)
    alerts: list[MerchantAlert] = field(default_factory=list)
    stored: list[tuple[bytes, bytes]] = field(default_factory=list)
    repeated: int = 0


def take_in(
    events: Sequence[tuple[int, MerchantEvent]],
    read: Read,
    turned: int = 0,
    now_ms: int = MAX_TIME_MS,
    threshold: float | None = None,
) -> Outcome:
    """Apply events of one partition, each with its offset, in their order. Raises FingerprintMismatch.

    `turned`: the newest day of whose midnight every merchant has a record: a later one holds from then on at least.
    `now_ms`: when the events were written; a time after it is a clock that is ahead, and moves no hour. `threshold`:
    log odds from which on a merchant is an alert (panther_core.entities.merchant_alerts); None: no merchant is.
    """
    out, sources = Outcome(), Sources(lambda key: read([key])[0])
    waiting = Waiting(read([WAITING])[0])
    new = [(offset, event) for offset, event in events if sources.first(event, now_ms // DAY_MS)]
    out.repeated = len(events) - len(new)
    hours = [min(event.time_ms, now_ms) // HOUR_MS for _, event in new]
    row: dict[str, int] = {}
    for _, event in new:
        row.setdefault(event.merchant_id, len(row))
    touched = len(row)
    due = waiting.due(max(hours, default=0))
    for name in due:
        row.setdefault(name, len(row))
    names = [name.encode() for name in row]
    states = decode_merchants(read(names) if names else [])
    seen = states["last_offset"].tolist()
    told = [*dict.fromkeys(event.merchant_id for _, event in new if event.label is not None)]
    reported_at = [*dict.fromkeys([*told, *due])]
    known = read([key_of(name) for name in reported_at]) if reported_at else []
    reported = {name: read_reported(value) for name, value in zip(reported_at, known, strict=True)}

    def apply(part: Sequence[tuple[int, MerchantEvent]]) -> None:
        fresh = [(offset, event) for offset, event in part if offset > seen[row[event.merchant_id]]]
        _apply(states, fresh, [row[event.merchant_id] for _, event in fresh], now_ms)

    applied = 0
    for i, ((offset, event), hour) in enumerate(zip(new, hours, strict=True)):
        if due := waiting.due(hour):  # an hour is over: it is looked at before anything later counts
            apply(new[applied:i])
            applied = i
            # a state that holds this event already is of an earlier try, which has published what it saw
            first = [name for name in due if seen[row[name]] < offset]
            out.alerts += _alerts(first, waiting.hour + 1, states, row, reported, threshold)
        waiting.pass_to(offset, event, hour)
        if event.label is not None:
            reported[event.merchant_id] = with_label(reported[event.merchant_id], event)
    apply(new[applied:])
    out.risk = records([*row][:touched], states[:touched], np.maximum(states["hour"][:touched] + 1, turned * 24))
    out.stored = [*zip(names, encode_merchants(states), strict=True)]
    if events:
        last = events[-1][0] + 1
        out.stored += [(key_of(name), stored_reported(reported[name], last)) for name in told]
        out.stored += [(WAITING, waiting.stored(last))] if waiting.changed else []
        out.stored += sources.changed()
    return out


def _alerts(
    names: Sequence[str],
    hour: int,
    states: NDArray[np.void],
    row: Mapping[str, int],
    reported: Mapping[str, list[ReportedPayment]],
    threshold: float | None,
) -> list[MerchantAlert]:
    """Alerts among merchants, as of a full hour; that is noted in their states."""
    if threshold is None or not names:
        return []
    at = np.array([row[name] for name in names])
    own = states[at]
    seller, alerts = look_at(own, np.full(len(at), hour), threshold)
    states[at] = own
    usual = deviation_of(own).tolist()
    return [
        merchant_alert(
            names[i],
            hour,
            seller[i],
            threshold,
            reported[names[i]],
            None if math.isnan(usual[i]) else usual[i],
        )
        for i in alerts.tolist()
    ]


def day_of(events: Sequence[tuple[int, MerchantEvent]], now_ms: int) -> int:
    """The newest day on which one of the events happened, not after `now_ms`; 0 without events."""
    return max((min(event.time_ms, now_ms) for _, event in events), default=0) // DAY_MS


def _apply(states: NDArray[np.void], events: Sequence[tuple[int, MerchantEvent]], rows: list[int], now_ms: int) -> None:
    """Apply events to MERCHANT states, in place; `rows`: the state of each."""
    if not events:
        return
    whose, at = np.unique(rows, return_inverse=True)
    own = states[whose]
    times = np.array([event.time_ms for _, event in events], np.int64)
    np.maximum.at(own["hour"], at, np.minimum(times, now_ms) // HOUR_MS)
    np.maximum.at(own["last_offset"], at, np.array([offset for offset, _ in events], np.int64))
    np.add.at(own["n"], at, 1)
    days = own["hour"] // 24
    np.maximum.at(days, at, times // DAY_MS)
    advance(own, days)  # rings have room for a day that a clock is ahead
    paid_day = np.array([event.event_time // DAY_MS for _, event in events], np.int64)
    ratio = np.array([event.ratio for _, event in events])
    deviation = np.array([math.nan if event.deviation is None else event.deviation for _, event in events])
    label = np.array([-1 if event.label is None else event.label for _, event in events])
    before = np.array([-1 if event.label_before is None else event.label_before for _, event in events])
    paid, told = np.flatnonzero(label < 0), np.flatnonzero(label >= 0)
    take_payments(own, at[paid], paid_day[paid], ratio[paid])
    take_deviations(own, at[paid], paid_day[paid], deviation[paid])
    take_labels(
        own, at[told], paid_day[told], times[told] // DAY_MS, label[told] == 1, elsewise(ratio[told]), before[told]
    )
    states[whose] = own


def records(names: Iterable[str], states: NDArray[np.void], hour: NDArray[np.int64]) -> list[MerchantRiskRecord]:
    """What is published of MERCHANT states [B] for decisions from `hour` [B] on. The states are not changed."""
    as_of = states.copy()
    advance(as_of, hour // 24)
    values, deviations = risk_of(as_of).tolist(), deviation_of(as_of).tolist()
    moments, counts = (hour.astype(np.int64) * HOUR_MS).tolist(), states["n"].tolist()
    return [
        MerchantRiskRecord(
            merchant_id=name,
            as_of=moment,
            events=count,
            features=dict(zip(RISK_NAMES, row, strict=True)),
            deviation=None if math.isnan(deviation) else deviation,
        )
        for name, moment, count, row, deviation in zip(names, moments, counts, values, deviations, strict=True)
    ]
