"""CBPE: right where scores are calibrated, wrong where they are not, and labels show which."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.evaluation import alert_metrics, fraud_metrics
from trainer.drift.expected import MISCALIBRATED, expected, realised

N, THRESHOLD = 60_000, 0.3
USER = np.random.default_rng(5).integers(0, 3000, N).astype(np.int32)


def calibrated(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Scores, and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    score = np.where(rng.random(N) < 0.02, 0.5, 0.003) * rng.uniform(0.5, 1.5, N)
    return score, (rng.random(N) < score).astype(np.int8)


def test_what_calibrated_scores_promise_is_what_labels_confirm() -> None:
    """On the mean of eight logs; one log's figures move by .02 with the few frauds that it has."""
    off = []
    for seed in range(8):
        score, label = calibrated(seed)
        promise, alerts = expected(score, THRESHOLD), alert_metrics(score >= THRESHOLD, label)
        true = {"average_precision": fraud_metrics(score, label)["average_precision"], **alerts}
        off.append([getattr(promise, name) - true[name] for name in ("average_precision", "precision", "recall")])
        assert promise.frauds == pytest.approx(label.sum(), rel=0.1)
    assert np.abs(np.mean(off, axis=0)).max() < 0.015


def test_the_expected_average_precision_is_the_mean_over_drawn_labels() -> None:
    rng = np.random.default_rng(1)
    score = rng.uniform(0.05, 0.9, 400)
    drawn = [fraud_metrics(score, (rng.random(400) < score).astype(np.int8))["average_precision"] for _ in range(300)]
    assert expected(score, 0.5).average_precision == pytest.approx(np.mean(drawn), abs=0.005)


@pytest.mark.parametrize(("factor", "side"), [(0.1, "low"), (1.9, "high")])
def test_miscalibrated_scores_promise_something_else(factor: float, side: str) -> None:
    """CBPE cannot see that itself: the check of calibration does, once labels have matured."""
    score, label = calibrated()
    wrong = np.minimum(score * factor, 0.999) if factor < 1 else 1 - (1 - score) ** 4
    promise, true = expected(wrong, THRESHOLD), fraud_metrics(wrong, label)["average_precision"]
    assert abs(promise.average_precision - true) > 0.1
    assert not promise.low < true < promise.high
    found = realised(wrong, label, USER, THRESHOLD, 0, 1)
    assert found is not None
    assert found.expected_average_precision == promise.average_precision
    assert (found.high < 1 / MISCALIBRATED) if side == "low" else (found.low > MISCALIBRATED)


def test_calibrated_scores_hold() -> None:
    score, label = calibrated(3)
    found = realised(score, label, USER, THRESHOLD, 7, 9)
    assert found is not None
    assert (found.since, found.until, found.rows, found.frauds) == (7, 9, N, label.sum())
    assert 1 / MISCALIBRATED < found.low < 1 < found.high < MISCALIBRATED


def test_without_a_fraud_nothing_is_realised() -> None:
    score, label = calibrated()
    assert realised(score, np.zeros_like(label), USER, THRESHOLD, 0, 1) is None
    assert expected(np.zeros(100), 0.5).average_precision == 0
