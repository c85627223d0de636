"""The gate of a refresh: may the challenger take the champion's place?

Both are scored on the same rows: the latest ones whose labels have matured, which neither has learnt from. Intervals
are of users drawn with replacement (panther_core.report.intervals). Every check says what it compared, so that a
refusal can be read the morning after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.base.odds import sigmoid
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.evaluation import fraud_metrics
from panther_core.model.serving import PantherModel
from panther_core.report.curves import Floats
from panther_core.report.intervals import JudgedRows, interval
from panther_core.report.slices import Parts
from panther_core.serving_model import load_serving_model
from panther_core.state.history import prepare
from trainer.fit.finetune import all_logits, head_inputs

_FEW_FRAUDS = 20  # a slice with fewer says nothing
_OVER_BUDGET = 1.5  # times the alert budget; a training's threshold leaves room for a wave of frauds, too
_MISCALIBRATED = 2.0  # times as many, or as few, frauds as the scores promise
_SLOWER = 2.0  # times the champion's latency
_SHIFT = 0.25  # population stability index, from which on a population counts as another one
_RARE_SHARE, _LEAST_SHARE = 0.01, 1e-3


class Check(msgspec.Struct, frozen=True):
    """One check of the gate: what the champion has, what the challenger has, and the 95 % interval of what was judged
    (None where there is none). `why` says it in a sentence."""

    check: str
    held: bool
    champion: float | None
    challenger: float | None
    interval: tuple[float, float] | None
    why: str


@dataclass(frozen=True)
class Window:
    """The judged rows [N]: labels (0 or 1), users' numbers, slices by property; and both versions' scores."""

    label: NDArray[np.int8]
    user: NDArray[np.int32]
    slices: Mapping[str, Parts]
    champion: Floats
    challenger: Floats


def scores_of(
    artifact: Path, table: TransactionTable, rows: NDArray[np.int64], label_delay_ms: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """What a version would have answered to rows of a log, as a replay of it does; and which rows it would have decided
    (not copies). Scores are calibrated probabilities [N], NaN for a row that it would not have decided."""
    model, served = PantherModel.load(artifact), load_serving_model(artifact)
    events = table.events(served.schema, served.risk)
    past = prepare(events, served.schema, model.config.length)
    merchants = MerchantHistory(served.merchant_threshold)
    see_merchants(past, events, table.label, table.time_ms + label_delay_ms, merchants)
    kept = past.kept[rows]
    inputs = head_inputs(model, past, model.encode_history(past), rows[kept])
    logit = all_logits(model.head, inputs)
    if model.blend is not None:
        logit = model.blend.logit(logit, inputs.dense_NX.numpy(), inputs.e_NU.numpy())
    out = np.full(len(rows), np.nan)
    out[kept] = sigmoid(logit)
    return out, kept


def judge(
    window: Window,
    thresholds: tuple[float, float],
    alert_budget: float,
    latency_ms: Sequence[float] | None,
    shifts: Mapping[str, float],
    seed: int = 0,
) -> list[Check]:
    """All checks. `thresholds`: the champion's and the challenger's; `latency_ms`: of a batch on the running server, in
    the same order, None where it was not measured; `shifts`: stability index of each attribute, of the judged rows
    against those that the challenger learnt from."""
    rows = JudgedRows.of(window.label, window.user, seed)
    out = [_better(window, rows), _calibration(window, rows), *_slices(window, seed)]
    out.append(_alerts(window, thresholds, alert_budget))
    if latency_ms is not None:
        out.append(_latency(*latency_ms))
    return [*out, _population(shifts)]


def _better(window: Window, rows: JudgedRows) -> Check:
    before, after = (fraud_metrics(s, window.label)["average_precision"] for s in (window.champion, window.challenger))
    low, high = interval(rows.average_precision(window.challenger) - rows.average_precision(window.champion))
    verb = "beats" if low > 0 else "does not beat"
    why = (
        f"the challenger's average precision, {after:.4f}, {verb} the champion's, {before:.4f}: difference "
        f"{after - before:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
    return Check("average_precision", low > 0, before, after, (low, high), why)


def _calibration(window: Window, rows: JudgedRows) -> Check:
    """Promised frauds over frauds: of the challenger's scores, with the interval over users."""
    fraud = (window.label == 1).astype(np.float64)

    def ratio(score: Floats) -> float:
        return float(score.sum()) / max(float(fraud.sum()), 1.0)

    users = int(rows.user_N.max(initial=-1)) + 1
    promised, held = (np.bincount(rows.user_N, weights, users) for weights in (window.challenger, fraud))
    drawn = np.array([float(times @ promised) / max(float(times @ held), 1.0) for times in rows.times_RU])
    low, high = interval(drawn)
    before, after = ratio(window.champion), ratio(window.challenger)
    good = low <= _MISCALIBRATED and high >= 1 / _MISCALIBRATED
    why = (
        f"the challenger's scores promise {after:.2f} times the frauds that there were [{low:.2f}, {high:.2f}]; within "
        f"{_MISCALIBRATED:g} times, up or down, is asked"
    )
    return Check("calibration", good, before, after, (low, high), why)


def _slices(window: Window, seed: int) -> list[Check]:
    """Of each watched slice with enough frauds: the challenger must not be worse beyond chance."""
    out = []
    for by, (names, index) in window.slices.items():
        for value, name in enumerate(names):
            here = np.flatnonzero(index == value)
            label = window.label[here]
            if label.sum() < _FEW_FRAUDS or label.all():
                continue
            rows = JudgedRows.of(label, window.user[here], seed)
            scores = window.champion[here], window.challenger[here]
            before, after = (fraud_metrics(score, label)["average_precision"] for score in scores)
            low, high = interval(rows.average_precision(scores[1]) - rows.average_precision(scores[0]))
            verb = "falls" if high < 0 else "holds"
            why = f"average precision of {by} {name} {verb}: {before:.4f} to {after:.4f} [{low:+.4f}, {high:+.4f}]"
            out.append(Check(f"slice: {by} {name}", high >= 0, before, after, (low, high), why))
    return out


def _alerts(window: Window, thresholds: tuple[float, float], budget: float) -> Check:
    pairs = zip((window.champion, window.challenger), thresholds, strict=True)
    before, after = (float((score >= threshold).mean()) for score, threshold in pairs)
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
        f"{_SHIFT:g} is asked"
    )
    return Check("population", worst <= _SHIFT, None, worst, None, why)


def shift(before: NDArray[np.integer], now: NDArray[np.integer]) -> float:
    """Population stability index of codes: sum over values of (now - before) * log(now / before), of shares.

    Values that were rare before count as one. What chance alone makes of samples of these sizes is taken off:
    (values - 1) * (1 / rows before + 1 / rows now), to first order.
    """
    size = int(max(before.max(initial=0), now.max(initial=0))) + 1
    counts = np.stack([np.bincount(part, minlength=size) for part in (before, now)]).astype(np.float64)
    rare = counts[0] < _RARE_SHARE * len(before)
    merged = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    merged = merged[:, merged.any(axis=0)]
    shares = np.maximum(merged / np.maximum(merged.sum(axis=1, keepdims=True), 1), _LEAST_SHARE)
    found = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    by_chance = (merged.shape[1] - 1) * (1 / max(len(before), 1) + 1 / max(len(now), 1))
    return max(0.0, found - float(by_chance))


def refusals(checks: Sequence[Check]) -> list[str]:
    """Why the challenger must not go live; empty where every check held."""
    return [check.why for check in checks if not check.held]
