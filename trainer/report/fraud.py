"""Figures of the fraud scores in the report of a version. N rows, in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.evaluation import TOP_SHARES
from panther_core.report.curves import Floats, histogram, reliability, thinned
from panther_core.report.intervals import RESAMPLES, JudgedRows, interval
from trainer.report.facts import Fraud, ScorerFigures, TopShare

_BINS, _BARS = 10, 40
_FEW_USERS = 20
#: with frauds of fewer users, draws of users say nothing of how far off a figure may be
FEW_ROBBED = 5


@dataclass(frozen=True)
class ScoredRows:
    """Test rows: label, user's number, time and calibrated scores by scorer (the model first), each [N]."""

    label: NDArray[np.int8]
    user: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    scores: dict[str, Floats]

    def units(self) -> NDArray[np.int64]:
        """What intervals draw together [N]: the rows of a user, or of a user's week where users are too few to be
        drawn."""
        if len(np.unique(self.user)) >= _FEW_USERS:
            return self.user.astype(np.int64)
        week = self.time_ms // (7 * DAY_MS)
        return np.asarray(np.unique(np.stack([self.user, week]), axis=1, return_inverse=True)[1], np.int64).ravel()


def measure_fraud(
    tested: ScoredRows, metrics: dict[str, dict[str, float]], threshold: float, alert_budget: float, seed: int
) -> Fraud:
    """Measure the scorers on the test rows.

    `metrics`: figures of each scorer on the test rows, and under "validation" the model's on the validation rows.
    """
    label, scores = tested.label, list(tested.scores.values())
    frauds, model = int(label.sum()), scores[0]
    units = tested.units()
    rows = JudgedRows.of(label, units, seed)
    robbed = len(np.unique(units[label == 1]))

    def span(resampled_R: Floats, widest: tuple[float, float]) -> tuple[float, float]:
        return interval(resampled_R) if robbed >= FEW_ROBBED else widest

    resampled_SR = np.stack([rows.average_precision(score) for score in scores])
    alert = model >= threshold
    names = list(tested.scores)
    gains = {
        name: (
            metrics[names[0]]["average_precision"] - metrics[name]["average_precision"],
            *span(resampled_SR[0] - resampled_R, (-1.0, 1.0)),
        )
        for name, resampled_R in zip(names[1:], resampled_SR[1:], strict=True)
    }
    return Fraud(
        rows=len(label),
        frauds=frauds,
        users=len(np.unique(tested.user)),
        robbed=robbed,
        threshold=threshold,
        alert_budget=alert_budget,
        validation=metrics["validation"],
        alerts=int(alert.sum()),
        alerts_mean_score=float(model[alert].mean()) if alert.any() else 0.0,
        scorers=[
            ScorerFigures(name, metrics[name], span(resampled_R, (0.0, 1.0)), *thinned(score, label))
            for name, score, resampled_R in zip(names, scores, resampled_SR, strict=True)
        ],
        gains=gains,
        resamples=RESAMPLES,
        top=[_top(share, len(label), frauds) for share in TOP_SHARES],
        bins=reliability(model, label, _BINS),
        histogram=histogram(model, label, _BARS),
    )


def _top(share: float, rows: int, frauds: int) -> TopShare:
    count = max(1, round(rows * share))
    return TopShare(share, count, min(1.0, count / frauds))
