"""Metrics of fraud scores, by name (paper 4); training, replay, reports and benchmarks all use these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

TOP_SHARES = (0.0001, 0.001, 0.01)
CARDS = 100  # customers that analysts look at in a day (Fraud Detection Handbook)


def fraud_metrics(score: NDArray[np.float64], label: NDArray[np.int8]) -> dict[str, float]:
    """Average precision, ROC AUC, and recall among the top 0.01 %, 0.1 % and 1 % of scores (at least one row)."""
    order, frauds = np.argsort(-score, kind="stable"), int(label.sum())
    out = {
        "average_precision": float(average_precision_score(label, score)),
        "auc": float(roc_auc_score(label, score)),
    }
    for share in TOP_SHARES:
        top = order[: max(1, round(len(order) * share))]
        out[f"recall_top_{share * 100:g}pct"] = float(label[top].sum() / frauds)
    return out


def alert_metrics(alert: NDArray[np.bool_], label: NDArray[np.int8]) -> dict[str, float]:
    """Share of transactions alerted, and precision and recall of the alerts."""
    caught = float(label[alert].sum())
    return {
        "alert_rate": float(alert.mean()),
        "precision": caught / max(1, int(alert.sum())),
        "recall": caught / max(1, int(label.sum())),
    }


def card_precision(
    day: NDArray[np.int64],
    customer: NDArray[np.int32],
    label: NDArray[np.int8],
    score: NDArray[np.float64],
    cards: int = CARDS,
) -> float:
    """Card precision CP@`cards`, mean over the test days; of equal scores the lower customer number comes first."""
    return float(np.mean(list(card_precision_by_day(day, customer, label, score, cards).values())))


def card_precision_by_day(
    day: NDArray[np.int64],
    customer: NDArray[np.int32],
    label: NDArray[np.int8],
    score: NDArray[np.float64],
    cards: int = CARDS,
) -> dict[int, float]:
    """By day: defrauded customers among the `cards` with the highest scores, over `cards`.

    A customer whose fraud was found on one day is not looked at on the later days.
    """
    caught: set[int] = set()
    shares = {}
    for d in np.unique(day):
        rows = np.flatnonzero((day == d) & ~np.isin(customer, list(caught)))
        names, index = np.unique(customer[rows], return_inverse=True)
        best, fraud = np.full(len(names), -np.inf), np.zeros(len(names), np.int8)
        np.maximum.at(best, index, score[rows])
        np.maximum.at(fraud, index, label[rows])
        top = np.argsort(-best, kind="stable")[:cards]
        hits = names[top[fraud[top] == 1]]
        shares[int(d)] = len(hits) / cards
        caught |= set(hits.tolist())
    return shares
