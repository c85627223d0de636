"""What decisions knew of their merchants is found again by the records that they name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from offline.replay.sellers import _NEAR, _spans, named_sellers, sellers
from panther_core.data.merchant_events import RISK_NAMES, RISK_UNKNOWN, MerchantRiskRecord
from panther_core.data.table import UNKNOWN_SELLER
from panther_core.decide.records import to_json
from panther_core.kafka.answers import NOWHERE, headers_of

FRAUDS = RISK_NAMES.index("frauds_7d")


def decision(app: str, offset: int, seller: tuple[int, int]) -> Any:
    return SimpleNamespace(
        topic="fraud.scores", key=b"u", value=b"{}", headers=headers_of(app, 1, offset, 5, 0, seller)
    )


def risk(offset: int, frauds: float) -> Any:
    made = MerchantRiskRecord(
        merchant_id="m", as_of=1_600_000_000_000, events=1, features={**RISK_UNKNOWN, "frauds_7d": frauds}
    )
    return SimpleNamespace(topic="merchant.risk", key=b"m", value=to_json(made), partition=2, offset=offset)


def test_a_decision_names_its_record() -> None:
    scores = [
        decision("app", 10, (2, 7)),
        decision("other", 11, (2, 7)),  # another application's
        decision("app", 10, (2, 8)),  # said again: the first one counts
        decision("app", 12, NOWHERE),
        decision("app", 13, (2, 99)),  # a record that is gone
    ]
    named = named_sellers("app", scores)
    assert named == {(1, 10): (2, 7), (1, 12): NOWHERE, (1, 13): (2, 99)}
    seen = sellers([(1, 10), (1, 11), (1, 12), (1, 13)], named, [risk(7, 3), risk(8, 4)])
    assert seen[0, FRAUDS] == 3
    np.testing.assert_array_equal(seen[1:], np.stack([UNKNOWN_SELLER] * 3))
    assert sellers([], {}, []).shape == (0, len(RISK_NAMES))


def test_long_gaps_between_named_records_are_not_read() -> None:
    far = 10 * _NEAR
    assert list(_spans([3, 5, 5 + _NEAR, far, far + 1])) == [range(3, 6 + _NEAR), range(far, far + 2)]
    assert list(_spans([])) == []
