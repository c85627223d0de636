"""Published records lead back to the stored rows they were made of."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from panther_core.data.decision import ALERT, COLD, DECISION, LATE, REUSED
from panther_core.data.events import Transaction
from panther_core.data.schema import fit_schema
from panther_core.decide.reasons import KINDS
from panther_core.decide.records import alert_of, decision_behind, decisions_of, row_of

SCHEMA = fit_schema(np.arange(1.0, 50.0), ["food"], ["chip"])
TRANSACTION = Transaction(
    transaction_id="t", user_id="u", merchant_id="m", merchant_category="food", amount=3.0, currency="EUR",
    channel="chip", event_time=1_700_000_000_000,
)  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(0, 15), st.integers(0, 2))
def test_a_row_survives_its_records(seed: int, flags: int, degraded: int) -> None:
    rng, row = np.random.default_rng(seed), np.zeros(1, DECISION)
    row["scored_at"], row["latency_ms"], row["history_len"] = rng.integers(1, 2**31 - 1, 3)
    row["score"], row["threshold"] = rng.random(2).round(6)
    row["flags"] = (flags & 1) * ALERT + (flags >> 1 & 1) * COLD + (flags >> 2 & 1) * LATE + (flags >> 3) * REUSED
    row["degraded"], row["model_version"] = degraded, 3
    row["reason"][0, :2], row["contribution"][0, :2] = rng.integers(1, len(KINDS) + 1, 2), rng.normal(size=2)
    row["prototype"][0], row["similarity"][0] = rng.integers(1, 60, 3), rng.random(3)
    (decision,) = decisions_of(row, [TRANSACTION.transaction_id], [TRANSACTION.user_id], [1_700_000_000_000])
    alert = alert_of(row[0], decision, TRANSACTION, SCHEMA, "x") if flags & 1 else None
    again = row_of(decision, alert)
    assert decisions_of(
        np.array([again]), [TRANSACTION.transaction_id], [TRANSACTION.user_id], [1_700_000_000_000]
    ) == [decision]
    if alert is not None:
        assert alert_of(again, decision, TRANSACTION, SCHEMA, "x") == alert
        assert decision_behind(alert) == decision
