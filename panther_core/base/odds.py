"""Between logits and probabilities, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: the least probability, and the least distance from 1, that log_odds tells apart
LEAST = 1e-6


def sigmoid(logit: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + e^-logit), in the type of `logit`.

    Not scipy.special.expit: its last bits differ, and published scores and artifacts must stay byte for byte.
    """
    chance: NDArray[Any] = 1 / (1 + np.exp(-logit))
    return chance


def log_odds(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(p / (1 - p)); probabilities nearer to 0 or 1 than LEAST count as LEAST away, so the result is finite."""
    kept = np.clip(chance, LEAST, 1 - LEAST)
    odds: NDArray[np.float64] = np.log(kept / (1 - kept))
    return odds
