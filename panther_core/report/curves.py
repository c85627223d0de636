"""What is measured of fraud scores: curves, intervals, calibration. Plain numpy; N rows, in any order."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 200
_POINTS, _LOWEST = 300, 1e-6


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


def precision_recall(score: Floats, label: NDArray[np.int8]) -> tuple[Floats, Floats]:
    """Precision and recall [thresholds] when all rows of at least a score alert, from the highest score down."""
    order, end = ranked(score)
    caught = np.cumsum(label[order], dtype=np.int64)[end]
    return caught / (end + 1), caught / caught[-1]


def bootstrap(scores: list[Floats], label: NDArray[np.int8], user: NDArray[np.int32], seed: int) -> list[Floats]:
    """Average precision [RESAMPLES] of each scorer, users drawn with replacement, the same ones for all scorers.

    Users, not rows: the frauds of one victim come together, and rows drawn one by one would hide how few victims
    there are. NaN for a draw without fraud.
    """
    who, user_N = np.unique(user, return_inverse=True)
    times_RU = draws(len(who), seed)
    return [resampled_precision(score, label, user_N, times_RU) for score in scores]


def draws(people: int, seed: int) -> list[NDArray[np.int64]]:
    """How often each of `people` is drawn, [RESAMPLES] arrays [people]."""
    rng = np.random.default_rng(seed)
    return [np.bincount(rng.integers(people, size=people), minlength=people) for _ in range(RESAMPLES)]


def resampled_precision(
    score: Floats, label: NDArray[np.int8], user: NDArray[Any], times_RU: list[NDArray[np.int64]]
) -> Floats:
    """Average precision [resamples] with user u's rows `times_RU[r][u]` times; NaN without fraud."""
    order, end = ranked(score)
    fraud = label[order] == 1
    used = int(np.flatnonzero(fraud)[-1]) + 1  # what scores below every fraud does not enter
    end = np.unique(np.minimum(end, end[np.searchsorted(end, used - 1)]))
    whose, fraud = user[order[: end[-1] + 1]], fraud[: end[-1] + 1]
    out = np.full(len(times_RU), np.nan)
    for i, times_U in enumerate(times_RU):
        times = times_U[whose]
        alerts, caught = np.cumsum(times)[end], np.cumsum(times * fraud)[end]
        if caught[-1]:
            out[i] = (np.diff(caught, prepend=0) * (caught / np.maximum(alerts, 1))).sum() / caught[-1]
    return out


def ranked(score: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows from the highest score down, and the last place of each distinct score."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)


def interval(resampled_R: Floats) -> tuple[float, float]:
    """95 % of the resamples."""
    low, high = np.nanquantile(resampled_R, [0.025, 0.975])
    return float(low), float(high)


def thinned(score: Floats, label: NDArray[np.int8]) -> tuple[list[float], list[float]]:
    """Recall and precision at no more than about _POINTS places, evenly spread over recall."""
    precision, recall = precision_recall(score, label)
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
    """Bars of equal width in log-odds; the outer ones hold what lies beyond."""
    odds = log_odds(score)
    ends = np.linspace(np.floor(odds.min()), np.ceil(odds.max()) + (odds.max() == odds.min()), bars + 1)
    legitimate, fraud = (np.histogram(odds[label == value], ends)[0] for value in (0, 1))
    return Histogram((1 / (1 + np.exp(-ends))).tolist(), legitimate.tolist(), fraud.tolist())


def log_odds(score: Floats) -> Floats:
    """ln(p / (1 - p)), within a millionth of certainty."""
    kept = np.clip(score, _LOWEST, 1 - _LOWEST)
    out: Floats = np.log(kept / (1 - kept))
    return out


def wilson(hits: NDArray[np.int64], count: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of a share (Wilson 1927)."""
    z2, p = 1.96**2, hits / count
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * np.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return np.maximum(middle - half, 0), middle + half
