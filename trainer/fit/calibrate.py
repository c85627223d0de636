"""Calibration of logits (Platt scaling) and the threshold for an alert budget, both on all rows of the validation
slice.

Rows are not sampled here: the probabilities and the share of alerts must be those of the stream.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from panther_core.decide.decisions import SCORE_DECIMALS


def platt(logit: NDArray[np.float64], label: NDArray[np.int8]) -> tuple[float, float]:
    """Scale (positive) and bias such that sigmoid(scale * logit + bias) is calibrated on these rows."""
    fit = LogisticRegression(C=1e6).fit(logit[:, None], label)
    scale, bias = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if scale <= 0:  # logits no better than chance: keep their order, and match the rate of fraud
        rate = float(np.clip(label.mean(), 1e-6, 1 - 1e-6))
        return 1.0, float(np.log(rate / (1 - rate)) - logit.mean())
    return scale, bias


def threshold_for(score: NDArray[np.float64], alert_budget: float, weight: NDArray[np.float64] | None = None) -> float:
    """Lowest threshold at which at most `alert_budget` of these scores alert (score >= threshold). `weight` [N]: how
    often each counts; once if not given."""
    rounded = np.round(score, SCORE_DECIMALS)
    order = np.argsort(-rounded, kind="stable")
    alerts = np.cumsum(np.ones(len(score)) if weight is None else weight[order])
    first = min(int(np.searchsorted(alerts, alerts[-1] * alert_budget, side="right")), len(order) - 1)
    return float(np.round(rounded[order[first]] + 10.0**-SCORE_DECIMALS, SCORE_DECIMALS))
