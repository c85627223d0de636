"""Metrics of full rankings: of items in the sequence benchmark, of tokens in next-transaction prediction."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HIT_RATES, NDCGS = (1, 5, 10, 50), (5, 10)
MISS = 1 << 40  # rank of an event that has no token ([UNK]): beyond every k, so it counts as a miss


def places_among(scores_NC: Tensor, own_N1: Tensor) -> Tensor:
    """Place [N] of each row's own candidate among its C candidates, 0 = best: how many others score no lower.

    Ties count against the own candidate, and so does a score that is not a number, which compares as not below.
    """
    below_NC = (scores_NC < own_N1).view(torch.uint8)  # summing bytes as int32 is faster than summing booleans
    return scores_NC.shape[1] - 1 - below_NC.sum(dim=1, dtype=torch.int32).long()


def metrics(ranks_U: NDArray[np.int64]) -> dict[str, float]:
    """HR@k: share of ranks below k (0 = best). NDCG@k: mean of 1 / log2(rank + 2) where the rank is below k, else 0."""
    gain = 1 / np.log2(ranks_U + 2.0)
    hits = {f"hr@{k}": float((ranks_U < k).mean()) for k in HIT_RATES}
    return hits | {f"ndcg@{k}": float(np.where(ranks_U < k, gain, 0).mean()) for k in NDCGS}
