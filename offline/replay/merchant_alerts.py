"""Alerts on merchants as the stream publishes them (topic merchant.alerts), from a replay's looks at merchants."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from panther_core.data.merchant_events import MerchantAlert, ReportedPayment
from panther_core.data.schema import hash64
from panther_core.data.table import TransactionTable
from panther_core.decide.merchant_alert import merchant_alert


class MerchantAlerts:
    """Knows the payments that were reported as fraud, of which looks hold the hashes."""

    def __init__(self, label_delay_ms: int) -> None:
        self._delay_ms = label_delay_ms
        self._merchants: dict[int, str] = {}
        self._payments: dict[int, ReportedPayment] = {}

    def note(self, table: TransactionTable) -> None:
        """Take down the frauds of the next transactions; to be called before alerts are asked for that rest on them."""
        for row in np.flatnonzero(table.label == 1).tolist():
            name, paid_ms = str(table.transaction_id[row]), int(table.time_ms[row])
            self._payments[hash64(name)] = ReportedPayment(name, paid_ms, paid_ms + self._delay_ms)
            merchant = table.merchant[row] or ""
            self._merchants[hash64(merchant)] = merchant

    def of(self, looks: NDArray[np.void], threshold: float | None) -> Iterator[MerchantAlert]:
        """The alerts among LOOK rows. `threshold`: that by which they are alerts."""
        for look in looks[looks["alert"]]:
            assert threshold is not None
            payments = [self._payments[number] for number in look["payments"].tolist() if number]
            name = self._merchants[int(look["merchant"])]
            yield merchant_alert(name, int(look["hour"]), look["seller"], threshold, payments)
