"""Counterparty risk: the level of each merchant, by the merchant's smoothed fraud rate.

The level is part of the token (paper 3.2), so it must not know the future. The rule: a table that gives codes to
fine-tuning or evaluation events is fitted only on labels that had matured (event time + label delay) before the
first of them. A later model version refits on newer labels; codes already in users' histories stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STEP = 3.0  # each level starts at 3 times the fraud rate of the level before


@dataclass(frozen=True)
class MerchantRisk:
    """Sorted merchant hashes with their level (1 = below the average rate ... `risk_levels`) and smoothed rate."""

    merchant: NDArray[np.uint64]  # [M] ascending
    levels: NDArray[np.uint8]  # [M]
    rate: NDArray[np.float32]  # [M]

    def level(self, merchant: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Level of each hash, same shape; 0 for a merchant that the data of the fit did not have."""
        if not len(self.merchant):
            return np.zeros(merchant.shape, np.uint8)
        at = np.minimum(np.searchsorted(self.merchant, merchant), len(self.merchant) - 1)
        return np.where(self.merchant[at] == merchant, self.levels[at], 0).astype(np.uint8)

    @classmethod
    def fit(cls, merchant: NDArray[np.uint64], label: NDArray[np.int8], risk_levels: int) -> MerchantRisk:
        """Fit on matured labels: `merchant` [N] hashes, `label` [N] 1 fraud, 0 not, -1 unknown (ignored).

        Rates are shrunk towards the average by a beta prior whose strength is estimated from the spread between
        merchants (empirical Bayes, method of moments): one fraud in three sales is not yet a rate of a third.
        """
        known = (label >= 0) & (merchant != 0)
        names, index, count = np.unique(merchant[known], return_inverse=True, return_counts=True)
        if not len(names):
            return cls(names, np.zeros(0, np.uint8), np.zeros(0, np.float32))
        fraud = np.bincount(index, weights=label[known], minlength=len(names)).astype(np.float64)
        base = float(fraud.sum() / count.sum())
        strength = _prior_strength(fraud, count, base)
        rate = (fraud + strength * base) / (count + strength)
        edges = base * _STEP ** np.arange(risk_levels - 1)
        # the tolerance keeps a merchant whose rate is the average, but for rounding, in the lowest level
        levels = 1 + np.searchsorted(edges * (1 + 1e-9), rate, side="left")
        return cls(names, levels.astype(np.uint8), rate.astype(np.float32))


#: source of the events' risk levels: a fitted table, a level for each row, or None (all levels unknown)
Risk = MerchantRisk | NDArray[np.uint8] | None


def risk_levels(risk: Risk, merchant: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Level of each event's merchant [N]; `merchant` are the hashes."""
    if isinstance(risk, MerchantRisk):
        return risk.level(merchant)
    return np.zeros(merchant.shape, np.uint8) if risk is None else risk


def _prior_strength(fraud: NDArray[np.float64], count: NDArray[np.int64], base: float) -> float:
    """Pseudo-transactions of the beta prior, between 10 (merchants differ much) and 10,000 (not at all)."""
    noise = base * (1 - base)
    if len(count) < 2 or noise == 0:
        return 10_000.0
    spread = float((count * (fraud / count - base) ** 2).sum() - (len(count) - 1) * noise)
    weight = float(count.sum() - (count.astype(np.float64) ** 2).sum() / count.sum())
    between = spread / max(weight, 1e-12)
    return float(np.clip(noise / between - 1, 10, 10_000)) if between > 0 else 10_000.0
