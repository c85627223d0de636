"""The rule model: logistic regression on standardised context features, in plain numpy.

It decides when the model server is down (last step of the degrade ladder), and its additive terms explain alerts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.odds import sigmoid

_CLIP = 8.0  # standard deviations, so that one absurd value does not decide alone


@dataclass(frozen=True)
class RuleModel:
    """Weights over F context features (panther_core.state.features.NAMES order)."""

    mean: NDArray[np.float32]  # [F]
    std: NDArray[np.float32]  # [F], positive
    weight: NDArray[np.float32]  # [F] per standard deviation, in nats
    bias: float

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Additive logit terms [B, F] in nats, against an average transaction; features [B, F]."""
        return self.standardise(features) * self.weight

    def standardise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features in standard deviations, clipped to +-8."""
        scaled: NDArray[np.float32] = np.clip((features - self.mean) / self.std, -_CLIP, _CLIP)
        return scaled

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fraud probability [B] in 0..1."""
        probability: NDArray[np.float32] = sigmoid(self.logit(features)).astype(np.float32)
        return probability

    def logit(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logit of that probability [B]."""
        logit: NDArray[np.float32] = self.contributions(features).sum(axis=1) + self.bias
        return logit
