"""Figures of a variant's decisions that need labels.

The figures use every label of the log, also those that arrived long after the decision. CP@100 alone looks at arrival
too: on each day it leaves out the users with a known fraud, whose label had arrived by that morning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.report.facts import Detection, Savings
from offline.report.log import DecidedLog, VariantDecisions
from offline.report.resample import ReplayedRows, Resampled
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.evaluation import card_precision_by_day
from panther_core.report.curves import reliability, thinned

_TENTHS, _POINTS = 10, 100
_WEEK = 7
_WITHIN = {"at once": 0, "1 hour": HOUR_MS, "1 day": DAY_MS, "7 days": 7 * DAY_MS, "ever": None}


def measure_savings(log: DecidedLog, decided: VariantDecisions, judged: ReplayedRows, sampled: Resampled) -> Savings:
    """Every figure of one variant that needs labels."""
    rows, label = judged.rows, judged.label_N
    score, alert = decided.score[rows], decided.alert[rows]
    caught = alert & (label == 1)
    recall, precision = thinned(score, label)
    return Savings(
        metrics=sampled.figures(),
        recall=recall,
        precision=precision,
        alerts=int(alert.sum()),
        caught=int(caught.sum()),
        caught_amount=float(judged.amount_N[caught].sum()),
        detection=detection(judged.user_N, log.time_ms[rows], label == 1, alert, judged.amount_N),
        bins=reliability(score, label, _TENTHS),
        alerts_mean_score=float(score[alert].mean()) if alert.any() else 0.0,
    )


def cards_by_day(log: DecidedLog, decided: VariantDecisions, judged: ReplayedRows) -> dict[int, float]:
    """CP@100 by day (epoch days), after the Fraud Detection Handbook, week by week from the first measured day on.

    A day leaves out the users with a fraud whose label had arrived by its morning, in this week or up to a week before
    its beginning (the handbook's training week): users are not left out for ever. A day also leaves out the users whose
    fraud was found on an earlier day of the week.
    """
    day = log.time_ms // DAY_MS
    first = int(day[judged.rows[0]])
    fraud = np.flatnonzero(log.label == 1)  # frauds before the window included
    user, known_day = log.user.index[fraud], -(-log.label_time_ms[fraud] // DAY_MS)
    shares: dict[int, float] = {}
    for start in range(first, int(day[judged.rows[-1]]) + 1, _WEEK):
        recent = (log.label_time_ms[fraud] >= 0) & (log.label_time_ms[fraud] >= (start - _WEEK) * DAY_MS)
        out_from = np.full(len(log.user.words), np.iinfo(np.int64).max)
        np.minimum.at(out_from, user[recent], known_day[recent])
        week = judged.rows[(day[judged.rows] >= start) & (day[judged.rows] < start + _WEEK)]
        shares |= dict.fromkeys(day[week].tolist(), 0.0)  # 0 for a day on which every user is left out
        week = week[out_from[log.user.index[week]] > day[week]]
        shares |= card_precision_by_day(day[week], log.user.index[week], log.label[week], decided.score[week])
    return shares


def detection(
    user: NDArray[np.intp],
    time_ms: NDArray[np.int64],
    fraud: NDArray[np.bool_],
    alert: NDArray[np.bool_],
    amount: NDArray[np.float64],
) -> Detection:
    """Time to detection: from a user's first fraud to the first of their frauds that alerted; rows in time order."""
    rows = np.flatnonzero(fraud)
    who, first = np.unique(user[rows], return_index=True)
    found, at = np.unique(user[rows[alert[rows]]], return_index=True)
    place = np.searchsorted(who, found)
    delay = np.full(len(who), np.iinfo(np.int64).max)
    delay[place] = time_ms[rows[alert[rows]][at]] - time_ms[rows[first]][place]
    until = np.full(len(who), np.iinfo(np.int64).max)
    until[place] = rows[alert[rows]][at]
    lost = rows < until[np.searchsorted(who, user[rows])]
    detected = delay < np.iinfo(np.int64).max
    hours = np.quantile(delay[detected], np.linspace(0, 1, _POINTS + 1)) / HOUR_MS if detected.any() else np.zeros(0)
    limits = {name: np.iinfo(np.int64).max - 1 if most is None else most for name, most in _WITHIN.items()}
    return Detection(
        users=len(who),
        detected=int(detected.sum()),
        median_ms=float(np.median(delay[detected])) if detected.any() else None,
        within={name: float((delay <= most).mean()) for name, most in limits.items()},
        hours=hours.tolist(),
        share=(np.linspace(0, 1, _POINTS + 1)[: len(hours)] * detected.mean()).tolist(),
        lost_before=float(amount[rows[lost]].sum()),
    )
