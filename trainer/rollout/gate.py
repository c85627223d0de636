"""The gate of a refresh: may the challenger take the champion's place?

Both are scored on the same rows: the latest ones whose labels have matured, which neither has learnt from. Intervals
are of users drawn with replacement (panther_core.report.intervals). Every check says what it compared, so that a
refusal can be read the morning after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.evaluation import fraud_metrics
from panther_core.report.curves import Floats
from panther_core.report.intervals import JudgedRows, interval
from panther_core.report.slices import Parts
from trainer.drift.expected import MISCALIBRATED, promised
from trainer.drift.stability import SHIFTED
from trainer.rollout.checks import Check

FEW_FRAUDS = 20  # a slice, or a shadow, with fewer says nothing
_FEW_USERS = 6  # whose frauds are judged: with fewer, one version is better on all of them once in 32 times by chance
_OVER_BUDGET = 1.5  # times the alert budget; a training's threshold leaves room for a wave of frauds, too
_SLOWER = 2.0  # times the champion's latency


@dataclass(frozen=True)
class Window:
    """The judged rows [N]: labels (0 or 1), users' numbers, slices by property; and both versions' scores."""

    label: NDArray[np.int8]
    user: NDArray[np.int32]
    slices: Mapping[str, Parts]
    champion: Floats
    challenger: Floats


def judge(
    window: Window,
    alerted: tuple[float, float],
    alert_budget: float,
    latency_ms: Sequence[float] | None,
    shifts: Mapping[str, float],
    seed: int = 0,
) -> list[Check]:
    """All checks. `alerted`: shares of all payments that the champion and the challenger would have alerted on;
    `latency_ms`: of a batch on the running server, in the same order, None where it was not measured; `shifts`:
    stability index of each attribute, of the judged rows against those that the challenger learnt from."""
    rows = JudgedRows.of(window.label, window.user, seed)
    out = [_better(window, rows), _calibration(window, rows), *_slices(window, seed)]
    out.append(_alerts(*alerted, alert_budget))
    if latency_ms is not None:
        out.append(_latency(*latency_ms))
    return [*out, _population(shifts)]


def _better(window: Window, rows: JudgedRows) -> Check:
    before, after = (fraud_metrics(s, window.label)["average_precision"] for s in (window.champion, window.challenger))
    low, high = interval(rows.average_precision(window.challenger) - rows.average_precision(window.champion))
    users = len(np.unique(window.user[window.label == 1]))
    better = low > 0 and users >= _FEW_USERS
    verb = "beats" if better else "does not beat"
    why = (
        f"the challenger's average precision, {after:.4f}, {verb} the champion's, {before:.4f}: difference "
        f"{after - before:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
    if users < _FEW_USERS:
        why += f" on the frauds of {users} users, where fewer than {_FEW_USERS} say nothing"
    return Check("average_precision", better, before, after, (low, high), why)


def _calibration(window: Window, rows: JudgedRows) -> Check:
    """Promised frauds over frauds: of the challenger's scores, with the interval over users."""
    before = promised(window.champion, window.label, rows)[0]
    after, low, high = promised(window.challenger, window.label, rows)
    good = low <= MISCALIBRATED and high >= 1 / MISCALIBRATED
    why = (
        f"the challenger's scores promise {after:.2f} times the frauds that there were [{low:.2f}, {high:.2f}]; within "
        f"{MISCALIBRATED:g} times, up or down, is asked"
    )
    return Check("calibration", good, before, after, (low, high), why)


def _slices(window: Window, seed: int) -> list[Check]:
    """Of each watched slice with enough frauds: the challenger must not be worse beyond chance."""
    out = []
    for by, (names, index) in window.slices.items():
        for value, name in enumerate(names):
            here = np.flatnonzero(index == value)
            label = window.label[here]
            if label.sum() < FEW_FRAUDS or label.all():
                continue
            rows = JudgedRows.of(label, window.user[here], seed)
            scores = window.champion[here], window.challenger[here]
            before, after = (fraud_metrics(score, label)["average_precision"] for score in scores)
            low, high = interval(rows.average_precision(scores[1]) - rows.average_precision(scores[0]))
            verb = "falls" if high < 0 else "holds"
            why = f"average precision of {by} {name} {verb}: {before:.4f} to {after:.4f} [{low:+.4f}, {high:+.4f}]"
            out.append(Check(f"slice: {by} {name}", high >= 0, before, after, (low, high), why))
    return out


def _alerts(before: float, after: float, budget: float) -> Check:
    most = _OVER_BUDGET * budget
    why = (
        f"the challenger would have alerted on {after:.3%} of the payments (the champion on {before:.3%}); at most "
        f"{most:.3%} is asked, {_OVER_BUDGET:g} times the budget"
    )
    return Check("alert_budget", after <= most, before, after, None, why)


def _latency(before: float, after: float) -> Check:
    why = (
        f"a batch takes the challenger {after:.1f} ms and the champion {before:.1f} on the running server; at most "
        f"{_SLOWER:g} times is asked"
    )
    return Check("latency_ms", after <= _SLOWER * before, before, after, None, why)


def _population(shifts: Mapping[str, float]) -> Check:
    name, worst = max(shifts.items(), key=lambda pair: pair[1], default=("nothing", 0.0))
    why = (
        f"the payments judged differ most from those learnt from in {name}: stability index {worst:.3f}; at most "
        f"{SHIFTED:g} is asked"
    )
    return Check("population", worst <= SHIFTED, None, worst, None, why)
