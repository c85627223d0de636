"""Curves and bins equal scikit-learn's; intervals follow from users drawn again and again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve

from panther_core.report import curves
from panther_core.report.curves import bootstrap, histogram, precision_recall, reliability

Floats = NDArray[np.float64]


def scored(rows: int = 4000, decimals: int = 3) -> tuple[Floats, NDArray[np.int8]]:
    """Calibrated scores, many of them tied."""
    rng = np.random.default_rng(0)
    score = np.round(rng.beta(0.5, 4, rows), decimals)
    return score, (rng.random(rows) < score).astype(np.int8)


def test_precision_and_recall_equal_sklearn() -> None:
    score, label = scored()
    precision, recall = precision_recall(score, label)
    expected_precision, expected_recall, _ = precision_recall_curve(label, score)  # ends with a made-up point (1, 0)
    np.testing.assert_allclose(precision[::-1], expected_precision[:-1])
    np.testing.assert_allclose(recall[::-1], expected_recall[:-1])


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
    monkeypatch.setattr(curves, "RESAMPLES", 20)
    score, label = scored(600, 2)
    user = (np.random.default_rng(1).integers(0, 40, len(score)) * 3).astype(np.int32)
    (found,) = bootstrap([score], label, user, seed=5)
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
