"""Intervals of what is measured of fraud scores, from users drawn with replacement.

Users are drawn, not rows: the frauds of one victim come together, and rows drawn one by one would hide how few victims
there are. Shapes: N rows, U their users, R = RESAMPLES draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.report.curves import Floats, ranked

RESAMPLES = 200


@dataclass(frozen=True)
class JudgedRows:
    """N labelled rows, in any order, and how often each of their users is drawn: the same draws for every scorer."""

    label_N: NDArray[np.int8]
    user_N: NDArray[np.intp]  # 0 to U - 1
    times_RU: list[NDArray[np.int64]]

    @staticmethod
    def of(label_N: NDArray[np.int8], user_N: NDArray[np.integer[Any]], seed: int) -> JudgedRows:
        """Number the users from 0 on, and draw them."""
        who, dense_N = np.unique(user_N, return_inverse=True)
        return JudgedRows(label_N, dense_N, draws(len(who), seed))

    def average_precision(self, score_N: Floats) -> Floats:
        """Average precision [R], every row as often as its user is drawn; NaN for a draw without fraud."""
        order, end = ranked(score_N)
        fraud = self.label_N[order] == 1
        used = int(np.flatnonzero(fraud)[-1]) + 1  # rows that score below every fraud do not change the result
        end = np.unique(np.minimum(end, end[np.searchsorted(end, used - 1)]))
        whose, fraud = self.user_N[order[: end[-1] + 1]], fraud[: end[-1] + 1]
        out = np.full(len(self.times_RU), np.nan)
        for i, times_U in enumerate(self.times_RU):
            times = times_U[whose]
            alerts, caught = np.cumsum(times)[end], np.cumsum(times * fraud)[end]
            if caught[-1]:
                out[i] = (np.diff(caught, prepend=0) * (caught / np.maximum(alerts, 1))).sum() / caught[-1]
        return out


def draws(count: int, seed: int) -> list[NDArray[np.int64]]:
    """How often each of `count` users (or days) is drawn, R arrays [count]."""
    rng = np.random.default_rng(seed)
    return [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(RESAMPLES)]


def interval(resampled_R: Floats) -> tuple[float, float]:
    """The range of the middle 95 % of the draws; NaN is left out."""
    low, high = np.nanquantile(resampled_R, [0.025, 0.975])
    return float(low), float(high)
