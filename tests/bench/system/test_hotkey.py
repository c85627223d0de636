"""What `panther bench hotkey` sends as the hot key, and its figures of a stream whose every time is known."""

from __future__ import annotations

from typing import Any

import pytest

from bench.system import hotkey
from bench.system.hotkey import ROWS, as_garbage, hot_of
from bench.system.offered import Offered
from panther_core.base.errors import InvalidEvent
from panther_core.data.events import decode_transaction
from panther_core.data.table import TransactionTable
from stream.tools.ledger import Ledger


def test_the_hot_rows_are_of_one_user_or_one_merchant(log: TransactionTable) -> None:
    table = log.take(slice(0, 50))
    assert {t.user_id for t in hot_of(table, "user").rows()} == {"hot-user"}
    many = list(hot_of(table, "merchant").rows())
    assert {t.merchant_id for t in many} == {"hot-merchant"}
    assert len({t.user_id for t in many}) > 10


def test_garbage_is_refused(log: TransactionTable) -> None:
    with pytest.raises(InvalidEvent, match="transaction_id"):
        decode_transaction(as_garbage(next(log.rows())))


def test_the_rows_that_were_asked_for() -> None:
    assert (
        *(("user", 0), ("user", 50), ("user", 300), ("user", 1000)),
        ("nobody", 1000),
        ("merchant", 1000),
        ("garbage", 1000),
    ) == ROWS


def test_figures_of_a_known_stream() -> None:
    """100 a second for 10 s, each decided after 10 ms, the last 70 never; the first 3 s are not counted."""
    due = {f"t{i}": 1e12 + 10 * i for i in range(1000)}
    ledger = Ledger(appended_ms={t: int(at) + 10 for t, at in due.items() if int(t[1:]) < 930})
    figures: dict[str, Any] = hotkey._figures(Offered(due, 0.0), ledger, 100, 50)
    assert figures["others_p50_ms"] == figures["others_p99_ms"] == 10
    assert figures["others_decided"] == figures["others_within_2_s"] == 0.9
    assert figures["others_tps"] == pytest.approx(100, rel=0.01)
    assert figures["hot_tps"] == 50
