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


def threshold_for(score: NDArray[np.float64], alert_budget: float) -> float:
    """Lowest threshold at which at most `alert_budget` of these scores alert (score >= threshold)."""
    allowed = int(len(score) * alert_budget)
    rounded = np.sort(np.round(score, SCORE_DECIMALS))[::-1]
    return _just_above(rounded[min(allowed, len(rounded) - 1)])


def threshold_in_a_wave(
    score: NDArray[np.float64], label: NDArray[np.int8], denser: float, alert_budget: float
) -> float:
    """Lowest threshold at which surely at most `alert_budget` of scores like these alert when frauds are `denser` times
    as many among them.

    Surely: of k frauds that alert here, so many more may alert elsewhere as two standard deviations of a count of k.
    """
    rounded = np.round(score, SCORE_DECIMALS)
    order = np.argsort(-rounded, kind="stable")
    fraud = label[order] == 1
    frauds, honest = np.cumsum(fraud), np.cumsum(~fraud)
    alerts = honest + denser * (frauds + 2 * np.sqrt(frauds))
    allowed = alert_budget * (honest[-1] + denser * frauds[-1])
    over = np.flatnonzero(alerts > allowed)
    return _just_above(rounded[order[over[0]]]) if len(over) else 0.0


def _just_above(score: np.float64) -> float:
    return float(np.round(score + 10.0**-SCORE_DECIMALS, SCORE_DECIMALS))
