"""What a version is worth on payments without labels, from its calibrated scores alone.

Confidence-based performance estimation (CBPE): a payment with score p is a fraud with chance p, so the expected counts
of a confusion matrix are sums of p and of 1 - p. Described at
https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html. It holds while scores are calibrated:
it sees that payments have moved to where the model is less sure, and never that frauds look different now. Labels
alone show that, so the figures on those that have matured stand beside it.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.evaluation import alert_metrics, fraud_metrics
from panther_core.report.curves import Floats
from panther_core.report.intervals import RESAMPLES, JudgedRows, interval

MISCALIBRATED = 2.0  # times as many, or as few, frauds as the scores promise


class Expected(msgspec.Struct, frozen=True):
    """Expected figures of a stretch. `low`, `high`: 95 % of the average precision in draws of labels by their
    chances."""

    precision: float
    recall: float
    average_precision: float
    low: float
    high: float
    frauds: float


class Realised(msgspec.Struct, frozen=True):
    """Figures on matured labels, and the average precision that the scores of the same rows promised.

    `promised`: promised frauds over frauds; `low`, `high`: 95 % of it in draws of users.
    """

    since: int
    until: int
    rows: int
    frauds: int
    average_precision: float
    precision: float
    recall: float
    expected_average_precision: float
    promised: float
    low: float
    high: float


def expected(score: Floats, threshold: float, seed: int = 0) -> Expected:
    """Figures that scores [N] promise, at the threshold and of their order; N at least 1."""
    alert = score >= threshold
    caught, frauds = float(score[alert].sum()), float(score.sum())
    chance = -np.sort(-score)
    rank = np.arange(1, len(chance) + 1)
    # a fraud at rank k has, in expectation, all the chances above it and itself before it
    above = np.cumsum(chance) - chance
    average = float((chance * (above + 1) / rank).sum() / max(frauds, 1e-12))
    rng, drawn = np.random.default_rng(seed), np.full(RESAMPLES, np.nan)
    for i in range(RESAMPLES):
        places = np.flatnonzero(rng.random(len(chance)) < chance)
        if len(places):
            drawn[i] = (np.arange(1, len(places) + 1) / (places + 1)).mean()
    low, high = interval(drawn) if np.isfinite(drawn).any() else (0.0, 1.0)
    return Expected(caught / max(int(alert.sum()), 1), caught / max(frauds, 1e-12), average, low, high, frauds)


def realised(
    score: Floats, label: NDArray[np.int8], user: NDArray[np.int32], threshold: float, since: int, until: int
) -> Realised | None:
    """The same figures by labels (0 or 1) [N]; None where there is no fraud, or nothing but fraud."""
    frauds = int((label == 1).sum())
    if not 0 < frauds < len(label):
        return None
    alerts = alert_metrics(score >= threshold, label)
    ratio, low, high = promised(score, label, JudgedRows.of(label, user, 0))
    return Realised(
        since,
        until,
        len(label),
        frauds,
        fraud_metrics(score, label)["average_precision"],
        alerts["precision"],
        alerts["recall"],
        expected(score, threshold).average_precision,
        ratio,
        low,
        high,
    )


def promised(score: Floats, label: NDArray[np.int8], rows: JudgedRows) -> tuple[float, float, float]:
    """Frauds that the scores promise over frauds that there were, and the interval over draws of users."""
    fraud = (label == 1).astype(np.float64)
    users = int(rows.user_N.max(initial=-1)) + 1
    sums, held = (np.bincount(rows.user_N, weights, users) for weights in (score, fraud))
    drawn = np.array([float(times @ sums) / max(float(times @ held), 1.0) for times in rows.times_RU])
    return float(score.sum()) / max(float(fraud.sum()), 1.0), *interval(drawn)
