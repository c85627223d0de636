"""Logits from probabilities and probabilities from logits, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: log_odds treats a probability nearer to 0 or 1 than this as exactly so far away
LEAST = 1e-6


def sigmoid(logit: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + e^-logit), in the type of `logit`.

    Not scipy.special.expit: its last bits differ, and published scores and artifacts must stay byte for byte.
    """
    with np.errstate(over="ignore"):  # e^-logit is infinite for a logit below -88 in float32: a chance of 0, as it is
        chance: NDArray[Any] = 1 / (1 + np.exp(-logit))
    return chance


def log_odds(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(p / (1 - p)); p is clipped to [LEAST, 1 - LEAST], so that the result is finite."""
    kept = np.clip(chance, LEAST, 1 - LEAST)
    odds: NDArray[np.float64] = np.log(kept / (1 - kept))
    return odds
