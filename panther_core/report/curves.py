"""What is measured of fraud scores: precision and recall, calibration, histogram. N rows, in any order."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from panther_core.base.odds import log_odds, sigmoid

Floats = NDArray[np.float64]
_POINTS = 300


class Bin(msgspec.Struct, frozen=True):
    """Rows between two quantiles of the score."""

    mean_score: float
    rows: int
    frauds: int


class Histogram(msgspec.Struct, frozen=True):
    """Rows by score and class; `edges` of the score, one more than there are counts."""

    edges: list[float]
    legitimate: list[int]
    fraud: list[int]


def ranked(score: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers from the highest score down, and the last place in that order of each distinct score."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)


def thinned(score: Floats, label: NDArray[np.int8]) -> tuple[list[float], list[float]]:
    """Recall and precision at falling thresholds, no more than about _POINTS, evenly spread over recall."""
    precision, recall, _ = precision_recall_curve(label, score)
    precision, recall = precision[-2::-1], recall[-2::-1]  # without the point (1, 0) that sklearn puts at the end
    first = np.searchsorted(recall, np.linspace(0, 1, _POINTS))
    at = np.unique(np.append(first, [0, len(recall) - 1]))
    return recall[at].round(5).tolist(), precision[at].round(5).tolist()


def reliability(score: Floats, label: NDArray[np.int8], bins: int) -> list[Bin]:
    """Bins of equal counts by score; where scores are tied, fewer."""
    edges = np.quantile(score, np.linspace(0, 1, bins + 1))
    at = np.searchsorted(edges[1:-1], score)
    rows, frauds = np.bincount(at, minlength=bins), np.bincount(at, weights=label, minlength=bins)
    total = np.bincount(at, weights=score, minlength=bins)
    return [Bin(float(total[i] / rows[i]), int(rows[i]), int(frauds[i])) for i in range(bins) if rows[i]]


def histogram(score: Floats, label: NDArray[np.int8], bars: int) -> Histogram:
    """Counts by class in `bars` intervals of equal width in log-odds, from the lowest score to the highest."""
    odds = log_odds(score)
    ends = np.linspace(np.floor(odds.min()), np.ceil(odds.max()) + (odds.max() == odds.min()), bars + 1)
    legitimate, fraud = (np.histogram(odds[label == value], ends)[0] for value in (0, 1))
    return Histogram(sigmoid(ends).tolist(), legitimate.tolist(), fraud.tolist())


def wilson(hits: NDArray[np.int64], count: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of a share (Wilson 1927)."""
    z2, p = 1.96**2, hits / count
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * np.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return np.maximum(middle - half, 0), middle + half
