"""What happens at merchants (topic `merchant.events`), and what is made of it: `merchant.risk` and `merchant.alerts`.

All are keyed by merchant id. Workers write the events: they know what is usual for the payer, and which merchant a
labelled payment was made at. A worker that was killed writes some of its events again, so an event names its source:
the same source twice is the same event twice, and counts once.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from panther_core.base.errors import InvalidEvent
from panther_core.data.decision import Reason
from panther_core.data.events import MAX_AHEAD_MS, MAX_TIME_MS, MIN_TIME_MS, SCHEMA_VERSION, Id

_Time = Annotated[int, msgspec.Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Label = Annotated[int, msgspec.Meta(ge=0, le=1)]


#: what a record of merchant.risk says, by name, each with its value at a merchant of whom nothing is known
RISK_UNKNOWN: dict[str, float] = {
    **{f"{what}_{days}d": 0.0 for days in (1, 7, 14, 28) for what in ("known", "frauds")},
    **{"known_all": 0.0, "frauds_all": 0.0},
    **{f"rate_{span}": 0.005 for span in ("1d", "7d", "14d", "28d", "all")},
    **{"streak": 0.0, "streak_day": 120.0, "honest_day": 120.0, "last_fraud_day": 120.0, "streak_surprise": 0.0},
    **{f"{what}_{days}d": value for days in (1, 7, 28) for what, value in (("count", 0.0), ("mean_ratio", 1.0))},
    "episode_log_odds": -3.575601,
}
RISK_NAMES = tuple(RISK_UNKNOWN)


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Where the event comes from: a partition of transactions (or of labels), and `at_source` of the record there."""

    partition: Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
    at: _Count


class MerchantEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A payment at a merchant, or, with a `label`, what was learnt about one.

    `ratio`: amount over what was usual for the payer; `deviation`: how much more surprising than usual the payment was
    to the behaviour model, in nats, if one answered. `label`: 1 fraud, 0 not; `label_before`: what was known of the
    payment until then, where it is corrected.
    """

    merchant_id: Id
    transaction_id: Id
    source: Source
    event_time: _Time
    ratio: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    deviation: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] | None = None
    label: _Label | None = None
    label_time: _Time | None = None
    label_before: _Label | None = None

    @property
    def time_ms(self) -> int:
        """When it happened: the payment, or the arrival of the label."""
        return self.event_time if self.label_time is None else self.label_time


class MerchantRiskRecord(msgspec.Struct, kw_only=True):
    """A merchant's history in numbers, for decisions from `as_of` on (epoch ms, a full hour): all that happened there
    in earlier hours. A later record with the same `as_of` takes its place.

    `deviation`: R_m of paper 4.1.3, the 90 % quantile of the payments' deviations of the last weeks, in nats; None
    where no payment has one."""

    merchant_id: Id
    as_of: _Time
    events: _Count
    features: dict[str, float]
    deviation: float | None = None


class ReportedPayment(msgspec.Struct, frozen=True):
    """A payment that was reported as fraud. Times in epoch ms."""

    transaction_id: str
    event_time: int
    reported_at: int


class MerchantAlert(msgspec.Struct, kw_only=True):
    """A merchant that is likely compromised, topic `merchant.alerts`.

    `as_of`: the full hour (epoch ms) as of which it was judged. `risk`: chance, by all reports, that it is in an
    episode of compromise; an alert where it reaches `threshold`. `payments`: the newest ones that were reported as
    fraud, newest first. `deviation` as in MerchantRiskRecord; None in a replay.
    """

    alert_id: str
    merchant_id: str
    as_of: int
    risk: float
    threshold: float
    reasons: list[Reason]
    payments: list[ReportedPayment]
    deviation: float | None = None
    schema_version: int = SCHEMA_VERSION


_decode = msgspec.json.Decoder(MerchantEvent).decode


def decode_merchant_event(key: bytes | None, value: bytes | None, record_ms: int) -> MerchantEvent:
    """Parse and check one record. Raises InvalidEvent."""
    try:
        event = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent("malformed_json", f"expected a MerchantEvent: {error}") from None
    if not event.merchant_id.isprintable():
        raise InvalidEvent("invalid_field", "expected `$.merchant_id` without control characters, got others")
    if key != event.merchant_id.encode():
        raise InvalidEvent("wrong_key", "expected the record key to be `$.merchant_id`, got another")
    if (event.label is None) != (event.label_time is None):
        raise InvalidEvent("invalid_field", "expected `$.label` and `$.label_time`, or none of them, got one")
    if event.time_ms > record_ms + MAX_AHEAD_MS:
        raise InvalidEvent("time_out_of_range", "expected a time at most a day after the record's, got a later one")
    return event
