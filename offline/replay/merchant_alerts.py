"""Alerts on merchants as the stream publishes them (topic merchant.alerts), from a replay's looks at merchants."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from panther_core.data.merchant_events import MerchantAlert, ReportedPayment
from panther_core.data.table import NO_MERCHANT, TransactionTable, hash_words
from panther_core.decide.merchant_alert import merchant_alert
from panther_core.entities.merchant_history import payment_hash


class MerchantAlerts:
    """Knows the payments that were reported as fraud, of which looks hold the hashes."""

    def __init__(self, label_delay_ms: int) -> None:
        self._delay_ms = label_delay_ms
        self._merchants: dict[int, str] = {}
        self._payments: dict[int, ReportedPayment] = {}

    def note(self, table: TransactionTable) -> None:
        """Take down the frauds of the next transactions; to be called before alerts are asked for that rest on them."""
        frauds = table.take(np.flatnonzero(table.label == 1))
        ids = frauds.transaction_id.tolist()
        named = payment_hash(frauds.user.map(hash_words(frauds.user.words)), hash_words(ids))
        for row, (number, merchant) in enumerate(zip(named.tolist(), frauds.merchant_hashes().tolist(), strict=True)):
            paid_ms = int(frauds.time_ms[row])
            self._payments[number] = ReportedPayment(ids[row], paid_ms, paid_ms + self._delay_ms)
            self._merchants[merchant] = frauds.merchant[row] or NO_MERCHANT

    def of(self, looks: NDArray[np.void], threshold: float | None) -> Iterator[MerchantAlert]:
        """The alerts among LOOK rows. `threshold`: that by which they are alerts."""
        for look in looks[looks["alert"]]:
            assert threshold is not None
            payments = [self._payments[number] for number in look["payments"].tolist() if number]
            name = self._merchants[int(look["merchant"])]
            yield merchant_alert(name, int(look["hour"]), look["seller"], threshold, payments)
