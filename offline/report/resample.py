"""Intervals of a replay's figures, by drawing users (for CP@100: days) with replacement.

Every variant has the same draws, so that the difference of two variants is taken draw by draw.
Shapes: N labelled measured rows, U their users, R resamples, D days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.report.facts import Estimate
from offline.report.log import DecidedLog, VariantDecisions
from panther_core.base.times import DAY_MS
from panther_core.evaluation import TOP_SHARES, alert_metrics, fraud_metrics
from panther_core.report.curves import Floats, ranked
from panther_core.report.intervals import JudgedRows, draws, interval


@dataclass(frozen=True)
class ReplayedRows(JudgedRows):
    """The rows of a log that are measured and have a label, with the draws of their users."""

    rows: NDArray[np.intp]  # [N], their places in the log
    amount_N: Floats
    days: int
    seed: int

    @staticmethod
    def of_log(log: DecidedLog, seed: int) -> ReplayedRows | None:
        """None where the labels do not hold both fraud and legitimate transactions."""
        rows = np.flatnonzero(log.measured & (log.label >= 0))
        label = log.label[rows]
        if not 0 < label.sum() < len(rows):
            return None
        days = len(np.unique(log.time_ms[log.measured] // DAY_MS))
        judged = JudgedRows.of(label, log.user.index[rows], seed)
        return ReplayedRows(label, judged.user_N, judged.times_RU, rows, log.amount[rows], days, seed)


@dataclass(frozen=True)
class Resampled:
    """Every figure of a variant: its value, and its values [R] under the draws."""

    value: dict[str, float]
    drawn: dict[str, Floats]

    def figures(self) -> dict[str, Estimate]:
        """Each figure with its 95 % interval."""
        return {name: Estimate(value, *interval(self.drawn[name])) for name, value in self.value.items()}

    def less(self, first: Resampled) -> dict[str, Estimate]:
        """These figures less those of `first`, draw by draw, with 95 % intervals."""
        return {
            name: Estimate(value - first.value[name], *interval(self.drawn[name] - first.drawn[name]))
            for name, value in self.value.items()
        }


def resample(judged: ReplayedRows, decided: VariantDecisions, cards: dict[int, float]) -> Resampled:
    """The figures of a variant, and their values under each draw. `cards`: CP@100 by day."""
    score, alert = decided.score[judged.rows], decided.alert[judged.rows]
    ranking, alerting = fraud_metrics(score, judged.label_N), alert_metrics(alert, judged.label_N)
    value = {name: ranking[name] for name in ranking if name != "auc"}
    value |= {name: alerting[name] for name in ("precision", "recall")}
    caught = alert & (judged.label_N == 1)
    value["value_caught"] = float(judged.amount_N[caught].sum() / judged.amount_N[judged.label_N == 1].sum())
    value["card_precision_100"] = float(np.mean(list(cards.values())))
    value["alerts_per_day"] = float(alert.sum() / judged.days)
    drawn = {"average_precision": judged.average_precision(score)}
    drawn |= _recall_at_top(judged, score)
    drawn |= _of_alerts(judged, alert)
    by_day = np.array(list(cards.values()))
    drawn["card_precision_100"] = np.array([times @ by_day / len(by_day) for times in draws(len(by_day), judged.seed)])
    return Resampled(value, drawn)


def _recall_at_top(judged: ReplayedRows, score: Floats) -> dict[str, Floats]:
    order, _ = ranked(score)
    whose, fraud = judged.user_N[order], judged.label_N[order] == 1
    out = {f"recall_top_{share * 100:g}pct": np.full(len(judged.times_RU), np.nan) for share in TOP_SHARES}
    for i, times_U in enumerate(judged.times_RU):
        times = times_U[whose]
        rows, caught = np.cumsum(times), np.cumsum(times * fraud)
        if not caught[-1]:
            continue
        for share, recalls in zip(TOP_SHARES, out.values(), strict=True):
            recalls[i] = caught[np.searchsorted(rows, max(1, round(share * rows[-1])))] / caught[-1]
    return out


def _of_alerts(judged: ReplayedRows, alert: NDArray[np.bool_]) -> dict[str, Floats]:
    """Figures of the alerts under each draw, from sums by user that are weighted by how often the user is drawn."""
    fraud, times_RU = judged.label_N == 1, np.stack(judged.times_RU)

    def drawn(weight_N: NDArray[np.generic]) -> Floats:
        by_user = np.bincount(judged.user_N, weights=weight_N.astype(np.float64), minlength=times_RU.shape[1])
        return np.asarray(times_RU @ by_user, np.float64)

    alerts, caught, frauds = drawn(alert), drawn(alert & fraud), drawn(fraud)
    money = drawn(judged.amount_N * fraud)
    with np.errstate(invalid="ignore"):  # in a draw without fraud recall is 0 / 0: NaN, which the interval leaves out
        return {
            "precision": caught / np.maximum(alerts, 1),
            "recall": caught / frauds,
            "value_caught": drawn(judged.amount_N * (alert & fraud)) / money,
            "alerts_per_day": alerts / judged.days,
        }
