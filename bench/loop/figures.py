"""What the policies of a simulated loop were worth: recall within a budget of alerts, and average precision.

Recall at the top is of weeks: of each week's payments the share with the highest scores is looked at, and the frauds
among those are counted over all frauds of those weeks. Weeks are counted from the drift (or from the first turn), so no
week lies on both sides of it. Intervals are of users drawn with replacement (panther_core.report.intervals).

Shapes: N rows, U their users, R draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.evaluation import fraud_metrics
from panther_core.report.curves import Floats
from panther_core.report.intervals import JudgedRows, interval

TOP = 0.001
"""Share of a week's payments that is looked at."""
RECOVERED = 0.95  # of the recall before the drift
_WEEK_MS = 7 * DAY_MS
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Decided:
    """N labelled rows in time order: labels (0 or 1), numbers of users, times; and the scores of each policy."""

    label: NDArray[np.int8]
    user: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    scores: Mapping[str, Floats]

    def take(self, rows: Bools) -> Decided:
        """Some of the rows."""
        scores = {name: score[rows] for name, score in self.scores.items()}
        return replace(self, label=self.label[rows], user=self.user[rows], time_ms=self.time_ms[rows], scores=scores)


def recall_at_top(
    score: Floats, label: NDArray[np.int8], week: NDArray[np.int64], times: NDArray[np.int64], share: float = TOP
) -> float:
    """Frauds among the top `share` of each week's rows over all frauds, each row as often as `times` [N]; NaN without
    fraud. Of a week at least one row is looked at."""
    order = np.lexsort((-score, week))
    times, fraud, week = times[order], label[order] == 1, week[order]
    begin = np.flatnonzero(np.diff(week, prepend=week[0] - 1)) if len(week) else np.zeros(0, np.int64)
    size = np.diff(np.append(begin, len(week)))
    total = np.add.reduceat(times, begin) if len(begin) else times
    before = np.cumsum(times) - times
    rank = before - np.repeat(before[begin], size)
    looked = rank < np.repeat(np.maximum(1, np.round(share * total)), size)
    frauds = int((times * fraud).sum())
    return float((times * (fraud & looked)).sum() / frauds) if frauds else float("nan")


def figures(decided: Decided, anchor_ms: int, seed: int) -> dict[str, Any]:
    """Of each policy: recall at the top, and average precision, with the interval; and the difference of each pair of
    policies (`a - b`). Rows without a fraud, or none but frauds, give {}."""
    label, week = decided.label, (decided.time_ms - anchor_ms) // _WEEK_MS
    if not 0 < label.sum() < len(label):
        return {}
    rows = JudgedRows.of(label, decided.user, seed)
    ones = np.ones(len(label), np.int64)
    names, point, drawn = list(decided.scores), dict[str, dict[str, float]](), dict[str, dict[str, Floats]]()
    for name, score in decided.scores.items():
        metrics = fraud_metrics(score, label)
        point[name] = {
            "recall_top_0.1pct": recall_at_top(score, label, week, ones),
            "recall_top_1pct": recall_at_top(score, label, week, ones, 10 * TOP),
            "average_precision": metrics["average_precision"],
        }
        drawn[name] = {
            "recall_top_0.1pct": _recalls(rows, score, week, TOP),
            "recall_top_1pct": _recalls(rows, score, week, 10 * TOP),
            "average_precision": rows.average_precision(score),
        }
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    return {
        "rows": len(label),
        "frauds": int(label.sum()),
        "best_recall_top_0.1pct": recall_at_top(label.astype(np.float64), label, week, ones),
        "policies": {
            name: {of: [value, *interval(drawn[name][of])] for of, value in found.items()}
            for name, found in point.items()
        },
        "differences": {
            f"{a} - {b}": {of: [point[a][of] - point[b][of], *interval(drawn[a][of] - drawn[b][of])] for of in point[a]}
            for a, b in pairs
        },
    }


def days_to_recovery(decided: Decided, policy: str, drift_ms: int, before: float) -> int | None:
    """Days from the drift to the end of the first seven days on which the policy's recall at the top is RECOVERED of
    `before` or more; None where there are no such days."""
    last = int(decided.time_ms[-1])
    for day, begin in enumerate(range(drift_ms, last - _WEEK_MS + DAY_MS, DAY_MS)):
        here = decided.take((decided.time_ms >= begin) & (decided.time_ms < begin + _WEEK_MS))
        week, ones = np.zeros(len(here.label), np.int64), np.ones(len(here.label), np.int64)
        if recall_at_top(here.scores[policy], here.label, week, ones) >= RECOVERED * before:
            return day + 7
    return None


def _recalls(rows: JudgedRows, score: Floats, week: NDArray[np.int64], share: float) -> Floats:
    return np.array([recall_at_top(score, rows.label_N, week, times[rows.user_N], share) for times in rows.times_RU])
