"""Payments that were reported as fraud, by merchant, and merchants that are to be looked at once an hour is over.

Both are kept beside the merchants' states, under keys that no merchant's id can be. The head of a value is that of
every value of the store (panther_core.entities.merchants.MERCHANT): of two values the one with more of `n` is newer.
"""

from __future__ import annotations

import msgspec

from panther_core.data.merchant_events import MerchantEvent, ReportedPayment
from panther_core.entities.merchant_alerts import REPORTS

WAITING = b"\0look"
_REPORTED = b"\0reported"
_HEAD, _N = 14, 8
_payments = msgspec.json.Decoder(list[ReportedPayment]).decode


def key_of(merchant_id: str) -> bytes:
    """Under which a merchant's reported payments lie."""
    return _REPORTED + merchant_id.encode()


def read_reported(stored: bytes | None) -> list[ReportedPayment]:
    """Those of one merchant, newest first."""
    return [] if stored is None else _payments(stored[_HEAD + _N :])


def with_label(payments: list[ReportedPayment], event: MerchantEvent) -> list[ReportedPayment]:
    """The payments after a label: one that says fraud puts its payment in front, another takes it out."""
    own = (event.transaction_id, event.event_time)  # an id alone is only its user's
    known = [payment for payment in payments if (payment.transaction_id, payment.event_time) != own]
    if event.label == 1:
        known.insert(0, ReportedPayment(*own, event.time_ms))
    return sorted(known, key=lambda p: p.reported_at, reverse=True)[:REPORTS]


def stored_reported(payments: list[ReportedPayment], n: int) -> bytes:
    """The value that is stored."""
    return bytes(_HEAD) + n.to_bytes(_N, "little") + msgspec.json.encode(payments)


class _Kept(msgspec.Struct, array_like=True):
    next: int = 0  # offset of the first event that is not taken down
    hour: int = 0
    names: list[str] = []


class Waiting:
    """The newest hour of a partition, and the merchants of which a fraud was reported since it began. An hour is over
    once an event of a later one has come; a label that comes later than that counts in the present one."""

    def __init__(self, stored: bytes | None = None) -> None:
        kept = _Kept() if stored is None else _kept(stored[_HEAD + _N :])
        self.hour, self._next, self._names = kept.hour, kept.next, dict.fromkeys(kept.names)
        self.changed = False

    def due(self, hour: int) -> list[str]:
        """Who is to be looked at when an event of an hour has come, as of the end of `self.hour`."""
        return [*self._names] if hour > self.hour else []

    def pass_to(self, offset: int, event: MerchantEvent, hour: int) -> None:
        """Take down that an event of an hour has come; who was due waits no longer."""
        if offset < self._next:
            return  # it comes again
        if hour > self.hour:
            self.hour, self._names, self.changed = hour, {}, True
        if event.label == 1 and event.merchant_id not in self._names:
            self._names[event.merchant_id], self.changed = None, True

    def stored(self, n: int) -> bytes:
        """The value that is stored. `n`: offset after the last event that was taken down."""
        kept = _Kept(n, self.hour, [*self._names])
        return bytes(_HEAD) + n.to_bytes(_N, "little") + msgspec.json.encode(kept)


_kept = msgspec.json.Decoder(_Kept).decode
