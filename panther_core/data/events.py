"""Records on the topics (docs/architecture.md), and the checks a transaction must pass before it is scored.

JSON by msgspec. Unknown fields are ignored; a missing or wrong field raises an `InvalidEvent` that names the field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated

import msgspec

from panther_core.base.errors import InvalidEvent
from panther_core.base.times import DAY_MS

SCHEMA_VERSION = 1
MAX_BYTES = 65_536  # a longer record becomes a dead letter; real transactions have a few hundred bytes
MAX_AMOUNT = 1e9  # in units of the currency
MIN_TIME_MS = 946_684_800_000  # 2000-01-01T00:00:00Z; an earlier time comes from a broken clock, not from a late event
MAX_TIME_MS = 4_102_444_800_000  # 2100-01-01T00:00:00Z
MAX_AHEAD_MS = DAY_MS  # after the record's time and the reader's clock; a later time comes from a broken clock or zone

EVERY_PARTITION = -1  # in a ModelProgress

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Word = Annotated[str, msgspec.Meta(max_length=128)]


class Transaction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One payment, topic `transactions`, key = `user_id`.

    `event_time` is ISO 8601 (no offset means UTC) or epoch milliseconds. `profile` holds static facts of the
    user by name (numbers or words); which of them are used is decided by the attribute schema. Where a sender writes
    null, the value counts as not given; of a field that stands twice in a record the last one counts.
    """

    transaction_id: Id
    user_id: Id
    merchant_id: Id
    merchant_category: Word | None
    amount: float
    currency: Word | None
    channel: Word | None
    event_time: str | int
    country: Word | None = None
    device: Word | None = None
    profile: dict[str, str | float | int | bool | None] | None = None


MATURED = "matured"
"""Source of a label that says no more than that a payment grew old without a report: any other word counts more."""
_SOURCES = ("rule", "customer", "analyst", "chargeback")


def standing(source: str) -> int:
    """How much a source's word counts where labels have one time: 0 for one that is not named here.

    -1 for MATURED, whose word never counts more than another's.
    """
    return -1 if source == MATURED else _SOURCES.index(source) + 1 if source in _SOURCES else 0


def counts_more(time_ms: int, source: int, before_ms: int, before: int) -> bool:
    """Whether a label that comes later on the topic takes the place of one that was there before.

    The newer one by label time counts, of one time that of the source that stands higher; any before one of MATURED.
    `source`, `before`: `standing` of their sources.
    """
    return (source >= 0, time_ms, source) >= (before >= 0, before_ms, before)


class Label(msgspec.Struct, kw_only=True):
    """The truth about a transaction, when it became known, topic `fraud.labels`. `label`: 1 fraud, 0 not."""

    transaction_id: Id
    user_id: Id
    label: Annotated[int, msgspec.Meta(ge=0, le=1)]
    label_time: int
    source: str


class ModelUpdate(msgspec.Struct, kw_only=True):
    """A model version went live, or the threshold of the live one moved, topic `models.updates`."""

    name: str
    version: int
    threshold: float
    schema_fingerprint: str
    artifact: str
    merchant_threshold: float | None = None
    """Log odds of an episode of compromise from which on a merchant is an alert; None: of no merchant."""
    instead_of: int | None = None
    """The version that its sender saw live, 0 for none: where another one is live when the record comes, it has no
    effect (compare and set, decided by the order of the topic). None: it has effect whatever is live."""
    content: str = ""
    """Checksum of the artifact's files (Manifest.content): where its folder holds others by now, it is another version,
    of which the model server has not heard. Empty in an update of before this field."""
    why: str = ""
    """What made it, in words: for people."""

    def takes_effect(self, live: ModelUpdate | None) -> bool:
        """Whether the record changes anything where `live` is the update before it that took effect."""
        return self.instead_of is None or self.instead_of == (live.version if live else 0)


def in_effect(updates: Iterable[ModelUpdate]) -> list[ModelUpdate]:
    """Those of the topic's updates that took effect, in its order; the last one is live."""
    out: list[ModelUpdate] = []
    for update in updates:
        if update.takes_effect(out[-1] if out else None):
            out.append(update)
    return out


class ModelProgress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Every user of a partition has moved to a model version, topic `models.progress`, keyed `app_id:partition`.

    With the partition EVERY_PARTITION it is the word of one `worker`: it decides with the version from now on, or it
    cannot, and `problem` says why; the key then ends in `:taken` or `:refused`.
    """

    app_id: str
    partition: int
    version: int
    worker: str = ""
    problem: str = ""
    tries_again: bool = False
    """The problem is none for good: the artifact cannot be read at this moment."""
    moved_at: int
    """Wall clock, epoch ms."""


_decode = msgspec.json.Decoder(Transaction).decode
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def decode_transaction(payload: bytes | None, rates: Mapping[str, float] = MappingProxyType({})) -> Transaction:
    """Parse and check one record value.

    `rates`: worth of one unit of each currency, 1 for the one that amounts are converted to; none: as they come. Raises
    InvalidEvent with code `empty`, `too_large`, `malformed_json`, `invalid_field`, `amount_out_of_range`,
    `unknown_currency`.
    """
    if not payload:
        raise InvalidEvent("empty", "expected a JSON object, got an empty value")
    if len(payload) > MAX_BYTES:
        raise InvalidEvent("too_large", f"expected at most {MAX_BYTES} bytes, got {len(payload)}")
    try:
        tx = _decode(payload)
    except msgspec.ValidationError as error:  # subclass of DecodeError: must come first
        raise InvalidEvent("invalid_field", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # RecursionError: nested a thousand deep
        raise InvalidEvent("malformed_json", f"expected a JSON object: {error}") from None
    if not (tx.transaction_id.isprintable() and tx.user_id.isprintable() and tx.merchant_id.isprintable()):
        _check_ids(tx)  # `isprintable` is quick, and false of some letters too
    if not (math.isfinite(tx.amount) and 0 <= tx.amount <= MAX_AMOUNT):
        raise InvalidEvent(
            "amount_out_of_range", f"expected 0 <= amount <= {MAX_AMOUNT:g}, got {tx.amount!r} at `$.amount`"
        )
    return _in_one_currency(tx, rates) if rates else tx


def _in_one_currency(tx: Transaction, rates: Mapping[str, float]) -> Transaction:
    rate = rates.get(tx.currency or "")
    if rate is None:
        raise InvalidEvent(
            "unknown_currency",
            f"expected a currency out of {', '.join(sorted(rates))}, which PANTHER_RATES names, got "
            f"{(tx.currency or 'none')[:40]!r} at `$.currency`",
        )
    base = next(currency for currency, worth in rates.items() if worth == 1)
    return msgspec.structs.replace(tx, amount=tx.amount * rate, currency=base)


def _check_ids(tx: Transaction) -> None:
    for name in ("transaction_id", "user_id", "merchant_id"):
        if _CONTROL.search(getattr(tx, name)):
            raise InvalidEvent(
                "invalid_field",
                f"expected an id without control characters, got {getattr(tx, name)[:40]!r} at `$.{name}`",
            )


def record_time_ms(timestamp_ms: int | None, now_ms: int) -> int:
    """When a record was sent or appended, epoch ms: its timestamp, or `now_ms` where the timestamp is no clock's.

    Records of old clients and migrated ones have none (-1, 0), or seconds in its place, or the time of a broken clock.
    """
    if timestamp_ms is None or not MIN_TIME_MS <= timestamp_ms <= now_ms + MAX_AHEAD_MS:
        return now_ms
    return timestamp_ms


def event_time_ms(value: str | int, now_ms: int | None = None) -> int:
    """Epoch milliseconds of an `event_time`. `now_ms`: `record_time_ms` of its record; None: do not compare with it.

    Raises InvalidEvent `invalid_time` (not a time) or `time_out_of_range` (before 2000, after 2100, or more than 24 h
    after `now_ms`).
    """
    if isinstance(value, int):
        ms = value
    else:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidEvent(
                "invalid_time", f"expected ISO 8601 or epoch milliseconds, got {value[:40]!r} at `$.event_time`"
            ) from None
        ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if ms < MIN_TIME_MS:
        raise InvalidEvent("time_out_of_range", f"expected a time after 2000-01-01, got {ms} ms at `$.event_time`")
    if ms > MAX_TIME_MS:
        raise InvalidEvent("time_out_of_range", f"expected a time before 2100-01-01, got {ms} ms at `$.event_time`")
    if now_ms is not None and ms > now_ms + MAX_AHEAD_MS:
        raise InvalidEvent(
            "time_out_of_range",
            f"expected a time at most 24 h after the record's, {now_ms} ms, got {ms} ms at `$.event_time`",
        )
    return ms
