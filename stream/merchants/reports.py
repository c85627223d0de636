"""Payments that were reported as fraud, by merchant, and merchants that are to be looked at once an hour is over.

Both are kept beside the merchants' states, under keys that no merchant's id can be. The head of a value is that of
every value of the store (panther_core.entities.merchants.MERCHANT): of two values the one with more of `n` is newer.
"""

from __future__ import annotations

import msgspec

from panther_core.base.times import HOUR_MS
from panther_core.data.merchant_events import MerchantEvent, ReportedPayment
from panther_core.entities.merchant_alerts import REPORTS

WAITING = b"\0look"
_REPORTED = b"\0reported"
_HEAD, _N = 14, 8
_payments = msgspec.json.Decoder(list[ReportedPayment]).decode
_NEVER = 2**62


def key_of(merchant_id: str) -> bytes:
    """Under which a merchant's reported payments lie."""
    return _REPORTED + merchant_id.encode()


def read_reported(stored: bytes | None) -> list[ReportedPayment]:
    """Those of one merchant, newest first."""
    return [] if stored is None else _payments(stored[_HEAD + _N :])


def with_label(payments: list[ReportedPayment], event: MerchantEvent) -> list[ReportedPayment]:
    """The payments after a label: one that says fraud puts its payment in front, another takes it out."""
    others = [payment for payment in payments if payment.transaction_id != event.transaction_id]
    if event.label == 1:
        others.append(ReportedPayment(event.transaction_id, event.event_time, event.time_ms))
    return sorted(others, key=lambda p: p.reported_at, reverse=True)[:REPORTS]


def stored_reported(payments: list[ReportedPayment], n: int) -> bytes:
    """The value that is stored."""
    return bytes(_HEAD) + n.to_bytes(_N, "little") + msgspec.json.encode(payments)


class _Kept(msgspec.Struct, array_like=True):
    """The hour that a partition has come to, and the hours of the merchants that wait."""

    now: int = 0
    hours: dict[str, int] = {}


class Waiting:
    """Merchants of which a fraud was reported in an hour that may not be over yet. An hour of a partition is over once
    an event of a later one has come."""

    def __init__(self, stored: bytes | None = None) -> None:
        self._kept = _Kept() if stored is None else _kept(stored[_HEAD + _N :])
        self._first = min(self._kept.hours.values(), default=_NEVER)

    def due(self, event: MerchantEvent, now_ms: int) -> dict[str, int]:
        """Merchants whose hour is over, with the next event, each with its hour; they wait no longer.

        `now_ms`: when the event was written.
        """
        self._kept.now = max(self._kept.now, _hour(event, now_ms))
        if self._kept.now <= self._first:
            return {}
        hours = self._kept.hours
        out = {name: hour for name, hour in hours.items() if hour < self._kept.now}
        self._kept.hours = {name: hour for name, hour in hours.items() if name not in out}
        self._first = min(self._kept.hours.values(), default=_NEVER)
        return out

    def note(self, event: MerchantEvent, now_ms: int) -> None:
        """Take down the event."""
        if event.label == 1:
            hour = _hour(event, now_ms)
            self._kept.hours[event.merchant_id] = max(hour, self._kept.hours.get(event.merchant_id, hour))
            self._first = min(self._first, hour)

    @property
    def names(self) -> list[str]:
        """Who waits."""
        return [*self._kept.hours]

    def stored(self, n: int) -> bytes:
        """The value that is stored."""
        return bytes(_HEAD) + n.to_bytes(_N, "little") + msgspec.json.encode(self._kept)


def _hour(event: MerchantEvent, now_ms: int) -> int:
    return min(event.time_ms, now_ms) // HOUR_MS


_kept = msgspec.json.Decoder(_Kept).decode
