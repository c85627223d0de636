"""Fitting the rule model: logistic regression on context features, calibrated like the fraud head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from panther_core.decide.rules import RuleModel
from trainer.fit.calibrate import platt

_PRIOR = 2000.0  # rows that the evidence counts as, however many there are, against a prior that no feature says much
_MOST = 0.75  # nats a standard deviation: with features cut off at 8 deviations, 6 nats a feature


def fit_rules(
    features: NDArray[np.float32],
    label: NDArray[np.int8],
    validation: NDArray[np.float32],
    validation_label: NDArray[np.int8],
) -> RuleModel:
    """Fit on rows [N, F] with sampled negatives, calibrate on all validation rows."""
    mean = features.mean(axis=0)
    std = np.maximum(features.std(axis=0), 1e-3).astype(np.float32)
    plain = RuleModel(mean, std, np.ones(features.shape[1], np.float32), 0.0)
    fit = LogisticRegression(C=_PRIOR / len(label), max_iter=500).fit(plain.standardise(features), label)
    weight = fit.coef_[0].astype(np.float32)
    logit = (plain.standardise(validation) * weight).sum(axis=1).astype(np.float64)
    scale, bias = platt(logit, validation_label)
    # a feature that is nearly always the same has a tiny deviation, and its one odd row is many deviations away
    return RuleModel(mean, std, np.clip(weight * scale, -_MOST, _MOST).astype(np.float32), bias)
