"""The feature columns that all heads share: spending and label history, each row as it was known at its own time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.entities.counterparty import Labelled, label_counts, newest_fraud, recency, streaks
from panther_core.entities.grouped import Floats, Grouped, Ints
from panther_core.entities.spending import UNUSUAL, spending_features
from panther_core.state.features import NAMES

_SEEN_D = (1, 7, 28)
#: columns that only grow with time, so that every value in a test window lies beyond those seen in training
_CLOCKS = ("seller.base_rate", "context.log_age_d")
_AROUND_MS = 14 * DAY_MS


@dataclass(frozen=True)
class Matrix:
    """Feature columns: values [N, F], and the F names."""

    values: NDArray[np.float32]
    names: tuple[str, ...]

    def without(self, prefixes: tuple[str, ...]) -> Matrix:
        """The matrix without the columns whose name starts with one of `prefixes`."""
        kept = [i for i, name in enumerate(self.names) if not name.startswith(prefixes)]
        return Matrix(self.values[:, kept], tuple(self.names[i] for i in kept))

    def column(self, name: str) -> Floats:
        """One column [N]."""
        return self.values[:, self.names.index(name)].astype(np.float64)

    def take(self, rows: Ints) -> Matrix:
        """The given rows."""
        return Matrix(self.values[rows], self.names)

    def beside(self, values: NDArray[np.float32], names: tuple[str, ...]) -> Matrix:
        """The matrix with further columns on the right."""
        return Matrix(np.hstack([self.values, values]), (*self.names, *names))

    @classmethod
    def of(cls, columns: Mapping[str, Floats]) -> Matrix:
        """A matrix of columns [N] by name, in the order of the mapping."""
        return cls(np.column_stack([c.astype(np.float32) for c in columns.values()]), tuple(columns))


def with_context(matrix: Matrix, context_NF: NDArray[np.float32]) -> Matrix:
    """The matrix with the stream's context features (`context.*`) on the right, without the columns of `_CLOCKS`."""
    return matrix.beside(context_NF, tuple(f"context.{name}" for name in NAMES)).without(_CLOCKS)


def label_and_spending(table: TransactionTable, delay_ms: int) -> Matrix:
    """Columns `spending.*`, `payer.*` (labels of the user), `seller.*` and `seen.*` (merchant, with, without labels).

    Row i depends on itself without its label, on the events before it, and on labels of events that are older than it
    by `delay_ms` or more.
    """
    user, merchant = table.user.index.astype(np.int64), table.merchant.index.astype(np.int64)
    by_user = Grouped.of(user, table.time_ms, len(table.user.words))
    spending = spending_features(by_user, table.time_ms, table.amount)
    payer = Labelled.of(user, table.time_ms, table.label, len(table.user.words), delay_ms)
    seller = Labelled.of(merchant, table.time_ms, table.label, len(table.merchant.words), delay_ms)
    traits = {
        "amount": table.amount,
        "ratio": spending["ratio"],
        "unusual": spending["unusual_14d"],
        "suspicion": spending["excess_14d"] + np.log(np.maximum(spending["ratio"], 1)),
    }
    columns = {f"spending.{k}": v for k, v in spending.items()}
    columns |= {f"payer.{k}": v for k, v in (label_counts(payer) | recency(payer)).items()}
    columns |= {f"seller.{k}": v for k, v in (label_counts(seller) | recency(seller) | streaks(seller, traits)).items()}
    columns |= _other_victim(table, newest_fraud(seller), by_user, payer, spending["ratio"] > UNUSUAL)
    columns |= {f"seen.{k}": v for k, v in _seen(table, merchant, spending["ratio"]).items()}
    return Matrix.of(columns | {"seller.base_rate": seller.base_rate()})


def _seen(table: TransactionTable, merchant: Ints, ratio: Floats) -> dict[str, Floats]:
    """The merchant's recent payments, without labels: their count, and their mean size relative to what each customer
    usually pays."""
    grouped = Grouped.of(merchant, table.time_ms, len(table.merchant.words))
    rows, ratios, now = grouped.running(np.ones(len(table))), grouped.running(np.minimum(ratio, 8)), grouped.position
    out: dict[str, Floats] = {}
    for days in _SEEN_D:
        low = np.minimum(grouped.until(merchant, table.time_ms - days * DAY_MS), now)
        out[f"count_{days}d"] = rows[now] - rows[low]
        out[f"mean_ratio_{days}d"] = (ratios[now] - ratios[low] + 2) / (out[f"count_{days}d"] + 2)
    return out


def _other_victim(
    table: TransactionTable, fraud_row: Ints, by_user: Grouped, payer: Labelled, unusual: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Unusual amounts and known frauds of the victim of the merchant's newest known fraud, within 14 days of it.

    Unusual amounts or frauds at other merchants say that the user was robbed, not that the merchant is compromised. 0
    where the merchant's newest known event is no fraud.
    """
    there, row = fraud_row >= 0, np.maximum(fraud_row, 0)
    user, paid_ms, now_ms = payer.keys[row], table.time_ms[row], table.time_ms
    odd, frauds = by_user.running(unusual), payer.grouped.running(payer.fraud)

    def around(grouped: Grouped, total: Floats, until_ms: Ints) -> Floats:
        low = grouped.until(user, paid_ms - _AROUND_MS)
        high = grouped.until(user, np.minimum(paid_ms + _AROUND_MS, until_ms))
        return np.where(there, total[np.maximum(high, low)] - total[low], 0)

    return {
        "seller.victim_unusual": around(by_user, odd, now_ms - 1),
        "seller.victim_frauds": around(payer.grouped, frauds, now_ms - payer.delay_ms),
    }
