"""Counts and figures of a variant's decisions by day, week, slice and reason. Labels are used where there are any."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from offline.report.facts import Day, ReasonUse, Slice, Week
from offline.report.log import DecidedLog, VariantDecisions
from panther_core.base.times import DAY_MS
from panther_core.report.curves import Floats
from panther_core.report.slices import Parts, by_amount, by_history, by_word

_BINS, _LEAST = 10, 1e-4  # of the stability index: bins (tenths of the first week); a smaller share counts as _LEAST


def days(log: DecidedLog, decided: VariantDecisions, cards: dict[int, float]) -> list[Day]:
    """A Day for each day that has measured transactions. `cards`: CP@100 by epoch day."""
    rows = np.flatnonzero(log.measured)
    names, day = np.unique(log.time_ms[rows] // DAY_MS, return_inverse=True)
    fraud, alert = log.label[rows] == 1, decided.alert[rows]
    total, alerts, frauds, caught = (
        np.bincount(day[some], minlength=len(names)).tolist()
        for some in (np.ones(len(rows), np.bool_), alert, fraud, alert & fraud)
    )
    return [
        Day(int(name) * DAY_MS, total[i], alerts[i], frauds[i], caught[i], cards.get(int(name)))
        for i, name in enumerate(names.tolist())
    ]


def weeks(log: DecidedLog, decided: VariantDecisions) -> list[Week]:
    """Drift of the scores: each week against the first week."""
    rows = np.flatnonzero(log.measured)
    start = log.time_ms[rows[0]] // DAY_MS * DAY_MS
    week = (log.time_ms[rows] - start) // (7 * DAY_MS)
    score = decided.score[rows]
    edges = np.unique(np.quantile(score[week == 0], np.linspace(0, 1, _BINS + 1)[1:-1]))
    base = _shares(score[week == 0], edges)
    out = []
    for number in np.unique(week).tolist():
        own = rows[week == number]
        psi = stability(base, _shares(decided.score[own], edges))
        mean, rate = float(decided.score[own].mean()), float(decided.alert[own].mean())
        out.append(Week(int(start + number * 7 * DAY_MS), len(own), psi, mean, rate))
    return out


def stability(expected: Floats, got: Floats) -> float:
    """Population stability index of two lists of shares: sum of (got - expected) ln(got / expected)."""
    expected, got = np.maximum(expected, _LEAST), np.maximum(got, _LEAST)
    return float(((got - expected) * np.log(got / expected)).sum())


def _shares(score: Floats, edges: Floats) -> Floats:
    at = np.searchsorted(edges, score, side="right")
    return np.asarray(np.bincount(at, minlength=len(edges) + 1) / len(score), np.float64)


def slices(log: DecidedLog, decided: VariantDecisions) -> list[Slice]:
    """A slice for each value of each property that a measured transaction has."""
    out = []
    for by, (names, index) in _properties(log, decided).items():
        for value, name in enumerate(names):
            rows = np.flatnonzero(log.measured & (index == value))
            if len(rows):
                out.append(_slice(log, decided, rows, by, name))
    return out


def _properties(log: DecidedLog, decided: VariantDecisions) -> dict[str, Parts]:
    out: dict[str, Parts] = {
        "user": (["cold start", "known"], np.where(decided.cold, 0, 1)),
        "history": by_history(log.history_len),
        "amount": by_amount(log.amount, log.measured),
        "made by": by_word(decided.degraded, log.measured, "the live model"),
        "category": by_word(log.category, log.measured),
        "channel": by_word(log.channel, log.measured),
        "fraud kind": by_word(log.fraud_kind, log.measured & (log.label == 1)),
    }
    out["fraud kind"] = (out["fraud kind"][0], np.where(log.label == 1, out["fraud kind"][1], -1))
    return {by: part for by, part in out.items() if by in ("user", "made by") or len(part[0]) > 1}


def _slice(log: DecidedLog, decided: VariantDecisions, rows: NDArray[np.intp], by: str, value: str) -> Slice:
    known = rows[log.label[rows] >= 0]
    fraud, alert = log.label[known] == 1, decided.alert[known]
    caught, frauds, alerts = int((alert & fraud).sum()), int(fraud.sum()), int(alert.sum())
    ranks = 0 < frauds < len(known)
    return Slice(
        by=by,
        value=value,
        transactions=len(rows),
        alerts=int(decided.alert[rows].sum()),
        labelled=len(known),
        frauds=frauds,
        caught=caught,
        # None also where all labels are fraud: any alerts would have a precision of 100 %
        precision=caught / alerts if alerts and ranks else None,
        recall=caught / frauds if frauds else None,
        average_precision=float(average_precision_score(fraud, decided.score[known])) if ranks else None,
        value_caught=float(log.amount[known[alert & fraud]].sum() / log.amount[known[fraud]].sum()) if frauds else None,
    )


def reasons(log: DecidedLog, decided: VariantDecisions) -> list[ReasonUse]:
    """Use of each reason in alerts; the reason that is most often an alert's first one comes first."""
    rows = np.flatnonzero(log.measured & decided.alert)
    first, anywhere, caught, known = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in rows.tolist():
        codes = decided.reasons_of(row)
        anywhere.update(codes)
        if codes:
            first[codes[0]] += 1
            known[codes[0]] += int(log.label[row] >= 0)
            caught[codes[0]] += int(log.label[row] == 1)
    codes = sorted(anywhere, key=lambda code: (-first[code], -anywhere[code], code))
    return [
        ReasonUse(code, first[code], anywhere[code], caught[code] / known[code] if known[code] else None)
        for code in codes
    ]
