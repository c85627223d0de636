"""What a training says at its end: whether its model is any good, in lines for people and in numbers for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.artifact import PAGE, Manifest
from panther_core.base.times import DAY_MS
from trainer.fit.calibrate import threshold_for
from trainer.report.facts import Fraud
from trainer.report.fraud import FEW_ROBBED
from trainer.report.measure import BOOSTING, BOOSTING_PANTHER, RULES

_BUDGETS = (0.001, 0.0025, 0.005, 0.01, 0.02)
_FRAUD = 0.5  # a larger share of frauds is no payment log
_TRIES = 2000
_HEAD_BELOW = 0.005  # average precision that a mean of heads may have less than one of them
_COLD = 2.0  # times the budget that users' first events may alert

Floats = NDArray[np.float64]


def thresholds(
    validation: Floats, score: Floats, label: NDArray[np.int8], amount: Floats, time_ms: NDArray[np.int64]
) -> list[dict[str, float]]:
    """What other thresholds would give on the test rows: each is set on the `validation` scores for a budget.

    By budget: threshold, alerts a day, precision, recall, and the share of the defrauded money that alerts catch.
    """
    days = days_of(time_ms)
    fraud = label == 1
    out = []
    for budget in _BUDGETS:
        at = threshold_for(validation, budget)
        alert = score >= at
        caught = float(amount[alert & fraud].sum())
        out.append(
            {
                "budget": budget,
                "threshold": at,
                "alerts_a_day": float(alert.sum()) / days,
                "precision": float(fraud[alert].mean()) if alert.any() else 0.0,
                "recall": float(alert[fraud].mean()),
                "money": caught / max(float(amount[fraud].sum()), 1e-9),
            }
        )
    return out


def days_of(time_ms: NDArray[np.int64]) -> float:
    """Days that rows at these times span, at least one."""
    return max(1.0, (int(time_ms.max()) - int(time_ms.min())) / DAY_MS)


def by_chance(rows: int, frauds: int, seed: int = 0) -> float:
    """The average precision that scores without any knowledge exceed once in forty times."""
    tries = min(_TRIES, 200 + 2_000_000 // max(1, frauds))
    places = np.sort(np.random.default_rng(seed).random((tries, frauds)), axis=1) * rows
    found = np.arange(1, frauds + 1) / np.maximum(np.ceil(places), np.arange(1, frauds + 1))
    return float(np.quantile(found.mean(axis=1), 0.975))


def behind(gains: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """What scores better on the same rows beyond chance; `gains`: of the served model over each, with its interval.

    Boosting with PANTHER's outputs is one of the heads that the served model averages: a mean of heads may lie a little
    below its best one, and is no worse a choice for that.
    """
    least = {RULES: 0.0, BOOSTING: 0.0, BOOSTING_PANTHER: _HEAD_BELOW}
    return [name for name, below in least.items() if gains[name][2] < 0 and -gains[name][0] > below]


def faults(fraud: Fraud, metrics: Mapping[str, Any]) -> list[str]:
    """Why this model should not go live; empty where nothing speaks against it."""
    out = []
    share, first = fraud.frauds / max(1, fraud.rows), metrics["test_first_events"]["alert_rate"]
    if share > _FRAUD:
        out.append(f"{share:.0%} of the test rows are frauds: this is no payment log, or its labels are turned round")
    if fraud.robbed is not None and fraud.robbed < FEW_ROBBED:
        out.append(
            f"the {fraud.frauds} frauds of the test rows are of {fraud.robbed} users (or weeks of one): too few to "
            "tell whether it is any good"
        )
    for name in behind(fraud.gains):
        gain, low, high = fraud.gains[name]
        out.append(
            f"its average precision is below that of {name} on the same rows by {-gain:.3f} [{-high:.3f}, {-low:.3f}]"
        )
    worth, luck = fraud.scorers[0].metrics["average_precision"], by_chance(fraud.rows, fraud.frauds)
    if worth <= luck:
        out.append(
            f"its average precision, {worth:.3f}, cannot be told from chance, which reaches {luck:.3f} once in forty "
            "times: the labels tell nothing that it has learnt"
        )
    if first > _COLD * fraud.alert_budget:
        out.append(f"{first:.1%} of users' first five events alert, over twice the budget of {fraud.alert_budget:.1%}")
    return out


def lines(out: Path, manifest: Manifest, fraud: Fraud, days: float) -> Iterator[str]:
    """The end of a training in a few lines."""
    metrics = manifest.metrics
    worth = ", ".join(
        f"{scorer.name} {scorer.metrics['average_precision']:.3f} [{scorer.interval[0]:.3f}, {scorer.interval[1]:.3f}]"
        for scorer in fraud.scorers
    )
    test, first = metrics["test"], metrics["test_first_events"]
    parts = ", ".join(f"{name} {weight:.0%}" for name, weight in metrics["blend"].items())
    yield f"average precision on {fraud.rows:,} test rows with {fraud.frauds:,} frauds: {worth}"
    yield (
        f"alerts at {manifest.threshold:.4g}: {fraud.alerts / days:,.1f} a day ({test['alert_rate']:.2%} of payments), "
        f"precision {test['precision']:.0%}, recall {test['recall']:.0%}; served: {parts}"
    )
    yield (
        f"users' first five events: {first['alert_rate']:.2%} alert (budget {manifest.alert_budget:.2%}), "
        f"precision {first['precision']:.0%}"
    )
    if not fraud.alerts:
        yield (
            f"none of the test's payments alerts: the scores tell too little, or the alert budget of "
            f"{manifest.alert_budget:.2%} is too small for this log (alert_budget in --config; the report's thresholds)"
        )
    yield f"the whole report: {out / PAGE}"
    for fault in metrics["faults"]:
        yield f"[bold red]this model should not go live:[/] {fault}"
