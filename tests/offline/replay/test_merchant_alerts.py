"""A replay's alerts on merchants name merchants and payments as the stream does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offline.replay.merchant_alerts import MerchantAlerts
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.table import NO_MERCHANT, TransactionTable, Words, hash_words
from panther_core.entities.merchant_alerts import LOOK
from panther_core.entities.merchant_history import payment_hash


def test_payments_are_told_apart_by_their_users_and_a_merchant_may_have_no_name(log: TransactionTable) -> None:
    table = log.take(slice(0, 3))
    table = replace(
        table,
        transaction_id=np.array(["same", "same", "other"]),
        user=Words(np.array([0, 1, 1], np.int32), ("one", "two")),
        merchant=Words(np.array([-1, -1, 0], np.int32), ("shop",)),
        label=np.array([1, 1, 0], np.int8),
    )
    alerts = MerchantAlerts(DAY_MS)
    alerts.note(table)
    looks = np.zeros(2, LOOK)
    looks["hour"], looks["alert"] = 20_000 * 24, [True, False]
    looks["payments"][0, :2] = payment_hash(hash_words(["two", "one"]), hash_words(["same", "same"]))
    (alert,) = alerts.of(looks, 0.0)
    assert (alert.merchant_id, alert.as_of) == (NO_MERCHANT, 20_000 * 24 * HOUR_MS)
    assert [(p.transaction_id, p.event_time) for p in alert.payments] == [
        ("same", int(table.time_ms[1])),
        ("same", int(table.time_ms[0])),
    ]
    assert alert.payments[0].reported_at == int(table.time_ms[1]) + DAY_MS
