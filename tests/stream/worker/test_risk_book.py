"""What a worker knows of merchants: of each the newest record that holds by then, whatever lies on the topic."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from panther_core.base.settings import KafkaSettings
from panther_core.base.times import HOUR_MS
from panther_core.data.merchant_events import RISK_NAMES, RISK_UNKNOWN, MerchantRiskRecord
from panther_core.data.table import UNKNOWN_SELLER, hash_words
from panther_core.decide.records import to_json
from stream.ops import metrics
from stream.worker.risk_book import RiskBook

_HOUR = 500_000
FRAUDS = RISK_NAMES.index("frauds_7d")


def record(hour: int, frauds: float, offset: int, merchant: str = "shop", **changes: Any) -> Any:
    features = {**RISK_UNKNOWN, "frauds_7d": frauds}
    risk = MerchantRiskRecord(merchant_id=merchant, as_of=hour * HOUR_MS, events=1, features=features)
    fields = {"key": merchant.encode(), "value": to_json(risk), "partition": 3, "offset": offset}
    return SimpleNamespace(topic="merchant.risk", **(fields | changes))


def frauds(book: RiskBook, hour: float, merchant: str = "shop") -> tuple[float, tuple[int, int]]:
    """What a payment at this hour sees, and the record's place."""
    (seller,), (place,), (as_of,) = book.seen(hash_words([merchant]), np.array([hour * HOUR_MS], np.int64))
    assert (as_of % HOUR_MS == 0) == (place[1] >= 0)
    return float(seller[FRAUDS]), place


@pytest.fixture
def book() -> RiskBook:
    return RiskBook(KafkaSettings())


def test_a_payment_sees_the_newest_record_that_holds_from_its_hour_on_or_an_earlier_one(book: RiskBook) -> None:
    book.note(record(_HOUR, 1, 10))
    assert frauds(book, _HOUR + 0.99) == (1, (3, 10))
    book.note(record(_HOUR + 1, 2, 11))  # made while the hour lasts
    assert frauds(book, _HOUR + 0.99) == (1, (3, 10))
    assert frauds(book, _HOUR + 1) == frauds(book, _HOUR + 90) == (2, (3, 11))
    book.note(record(_HOUR + 1, 5, 12))  # more has happened in that hour
    assert frauds(book, _HOUR + 0.5) == (1, (3, 10))
    assert frauds(book, _HOUR + 1.5) == (5, (3, 12))
    book.note(record(_HOUR - 20, 0, 13))  # a process that goes over an old stretch again
    assert frauds(book, _HOUR + 1.5) == (5, (3, 12))


def test_an_unknown_merchant_is_the_unknown_one(book: RiskBook) -> None:
    for name in range(3000):  # more than one growth of the array
        book.note(record(_HOUR, name, name, f"m{name}"))
    assert [frauds(book, _HOUR, f"m{name}")[0] for name in (0, 1023, 1024, 2999)] == [0, 1023, 1024, 2999]
    (seller,), (place,), _ = book.seen(hash_words(["nobody"]), np.array([_HOUR * HOUR_MS], np.int64))
    np.testing.assert_array_equal(seller, UNKNOWN_SELLER)
    assert place == (0, -1)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"another"},
        {"value": None},
        {"value": b"[1]"},
        {"value": to_json(MerchantRiskRecord(merchant_id="shop", as_of=0, events=1, features={"frauds_7d": 1.0}))},
        {"value": record(_HOUR, 1, 0).value.replace(b'"frauds_7d":1', b'"frauds_7d":1e999')},
    ],
)
def test_what_is_no_record_is_skipped_and_counted(book: RiskBook, changes: dict[str, Any]) -> None:
    before = metrics.RISK_UNREADABLE._value.get()
    book.note(record(_HOUR, 1, 10))
    book.note(record(_HOUR, 9, 11, **changes))
    assert frauds(book, _HOUR) == (1, (3, 10))
    assert metrics.RISK_UNREADABLE._value.get() == before + 1
