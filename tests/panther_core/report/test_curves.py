"""Curves and bins equal scikit-learn's; intervals follow from users drawn again and again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score

from panther_core.report import intervals
from panther_core.report.curves import histogram, reliability, thinned
from panther_core.report.intervals import JudgedRows

Floats = NDArray[np.float64]


def scored(rows: int = 4000, decimals: int = 3) -> tuple[Floats, NDArray[np.int8]]:
    """Calibrated scores, many of them tied."""
    rng = np.random.default_rng(0)
    score = np.round(rng.beta(0.5, 4, rows), decimals)
    return score, (rng.random(rows) < score).astype(np.int8)


def test_a_thinned_curve_has_points_of_the_whole_one_from_the_first_to_the_last() -> None:
    score, label = scored()
    recall, precision = thinned(score, label)
    alerts = [score >= threshold for threshold in np.unique(score)[::-1]]
    whole = [(np.round(label[rows].sum() / label.sum(), 5), np.round(label[rows].mean(), 5)) for rows in alerts]
    points = list(zip(recall, precision, strict=True))
    assert set(points) <= set(whole)
    assert (points[0], points[-1]) == (whole[0], whole[-1])
    assert recall == sorted(recall)
    assert np.diff(recall).max() < 0.02


def test_reliability_equals_sklearn() -> None:
    score, label = scored()
    observed, predicted = calibration_curve(label, score, n_bins=10, strategy="quantile")
    bins = reliability(score, label, 10)
    np.testing.assert_allclose([part.frauds / part.rows for part in bins], observed)
    np.testing.assert_allclose([part.mean_score for part in bins], predicted)
    assert sum(part.rows for part in bins) == len(score)
    assert sum(part.frauds for part in bins) == label.sum()
    assert len(reliability(np.full(50, 0.3), label[:50], 10)) == 1


def test_bootstrap_equals_average_precision_of_the_drawn_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 20)
    score, label = scored(600, 2)
    user = (np.random.default_rng(1).integers(0, 40, len(score)) * 3).astype(np.int32)
    found = JudgedRows.of(label, user, seed=5).average_precision(score)
    rng, people = np.random.default_rng(5), np.unique(user)
    for got in found:
        times = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        rows = np.repeat(np.arange(len(score)), times[np.searchsorted(people, user)])
        assert got == pytest.approx(average_precision_score(label[rows], score[rows]))


def test_histogram_counts_every_row_once() -> None:
    score, label = scored()
    score[:2] = 0, 1
    found = histogram(score, label, 25)
    assert (sum(found.legitimate), sum(found.fraud)) == ((label == 0).sum(), label.sum())
    assert len(found.edges) == 26
    assert histogram(np.full(9, 0.5), label[:9], 5).edges[0] <= 0.5
