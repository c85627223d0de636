"""Metrics of full rankings, of items and of transactions alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HIT_RATES, NDCGS = (1, 5, 10, 50), (5, 10)
MISS = 1 << 40  # the place of what nobody can name, [UNK] say: no k reaches it, however few tokens there are


def metrics(ranks_U: NDArray[np.int64]) -> dict[str, float]:
    """HR@k: share of users whose item is among the first k. NDCG@k: 1 / log2(place + 2) of those, else 0; mean."""
    gain = 1 / np.log2(ranks_U + 2.0)
    hits = {f"hr@{k}": float((ranks_U < k).mean()) for k in HIT_RATES}
    return hits | {f"ndcg@{k}": float(np.where(ranks_U < k, gain, 0).mean()) for k in NDCGS}
