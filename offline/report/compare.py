"""Compares two variants: which alerts and which users change, and how."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.report.facts import AlertGroup, ChangedUser, Timeline, TimelineEvent, VariantComparison
from offline.report.log import DecidedLog, VariantDecisions
from offline.report.resample import Resampled
from panther_core.base.odds import log_odds

_USERS, _TIMELINES, _EVENTS = 10, 8, 6

Rows = NDArray[np.intp]


def compare(
    log: DecidedLog, first: VariantDecisions, second: VariantDecisions, sampled: tuple[Resampled, Resampled] | None
) -> VariantComparison:
    """Compare two variants. `sampled`: figures of both on the same resamples; None without labels."""
    one, other = first.alert & log.measured, second.alert & log.measured
    names = (f"only {first.name}", f"only {second.name}", "both")
    groups = [
        _group(log, name, np.flatnonzero(a))
        for name, a in zip(names, (one & ~other, other & ~one, one & other), strict=True)
    ]
    change = log_odds(second.score) - log_odds(first.score)
    return VariantComparison(
        first=first.name,
        second=second.name,
        differences=sampled[1].less(sampled[0]) if sampled else {},
        groups=groups,
        users=_users(log, first, second, change),
        timelines=_timelines(log, first, second, change),
    )


def _group(log: DecidedLog, name: str, rows: Rows) -> AlertGroup:
    fraud = rows[log.label[rows] == 1]
    return AlertGroup(
        name,
        alerts=len(rows),
        labelled=int((log.label[rows] >= 0).sum()),
        frauds=len(fraud),
        fraud_amount=float(log.amount[fraud].sum()),
        users=len(np.unique(log.user.index[rows])),
    )


def _users(
    log: DecidedLog, first: VariantDecisions, second: VariantDecisions, change: NDArray[np.float64]
) -> list[ChangedUser]:
    """Users with the most alerts that only one of the variants gives; ties go to the largest change of score."""
    rows = np.flatnonzero(log.measured & (first.alert != second.alert))
    count = np.bincount(log.user.index[rows], minlength=len(log.user.words))
    largest = np.zeros(len(count))
    np.maximum.at(largest, log.user.index[rows], np.abs(change[rows]))
    users = np.lexsort((-largest, -count))[:_USERS]
    return [_user(log, first, second, change, user) for user in users.tolist() if count[user]]


def _user(
    log: DecidedLog, first: VariantDecisions, second: VariantDecisions, change: NDArray[np.float64], user: int
) -> ChangedUser:
    rows = np.flatnonzero(log.measured & (log.user.index == user))
    fraud = log.label[rows] == 1
    return ChangedUser(
        user_id=log.user.words[user],
        transactions=len(rows),
        alerts=(int(first.alert[rows].sum()), int(second.alert[rows].sum())),
        frauds=int(fraud.sum()),
        caught=(int(first.alert[rows[fraud]].sum()), int(second.alert[rows[fraud]].sum())),
        largest=float(change[rows[np.argmax(np.abs(change[rows]))]]),
    )


def _timelines(
    log: DecidedLog, first: VariantDecisions, second: VariantDecisions, change: NDArray[np.float64]
) -> list[Timeline]:
    """Alerts that only one variant gives, with the user's events before: the largest change of each user.

    At most half of the timelines are of alerts that only the first variant gives, at most half of the second's.
    """
    out = []
    for mine, theirs in ((first, second), (second, first)):
        rows = np.flatnonzero(log.measured & mine.alert & ~theirs.alert)
        rows = rows[np.lexsort((-mine.score[rows], -np.abs(change[rows])))]
        _, one_a_user = np.unique(log.user.index[rows], return_index=True)
        for row in rows[np.sort(one_a_user)][: _TIMELINES // 2].tolist():
            before = np.flatnonzero(log.user.index[: row + 1] == log.user.index[row])[-_EVENTS:]
            events = [_event(log, first, second, at) for at in before.tolist()]
            out.append(Timeline(log.user[row] or "", str(log.transaction_id[row]), events))
    return out


def _event(log: DecidedLog, first: VariantDecisions, second: VariantDecisions, row: int) -> TimelineEvent:
    return TimelineEvent(
        transaction_id=str(log.transaction_id[row]),
        time=int(log.time_ms[row]),
        category=log.category[row] or "",
        channel=log.channel[row] or "",
        merchant_id=log.merchant[row] or "",
        amount=float(log.amount[row]),
        label=int(log.label[row]),
        scores=(float(first.score[row]), float(second.score[row])),
        alerts=(bool(first.alert[row]), bool(second.alert[row])),
        reasons=(first.reasons_of(row), second.reasons_of(row)),
    )
