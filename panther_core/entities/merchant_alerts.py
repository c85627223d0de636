"""When a merchant is an alert (paper 4.1.3: high-risk merchants).

A merchant is looked at after each hour in which a payment there was reported as fraud, as of that full hour: only such
a label makes it riskier. Its risk are the log odds that it is in an episode of compromise, by what labels said of the
payments of each day and how unusual these were for their payers. It is an alert where they reach a threshold, and where
there was no alert of it in the REST_H hours before. The threshold is set in training, for a number of alerts a day.

Shapes: L looks in the order of their hours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.data.merchant_events import RISK_NAMES
from panther_core.entities.arrays import Ints
from panther_core.entities.merchants import advance, risk_of

REST_H = 28 * 24
REPORTS = 10  # newest payments that were reported as fraud, which an alert names
_LOWEST = 0.0  # no threshold is lower: a merchant that is likelier sound than compromised is no alert
RISK = RISK_NAMES.index("episode_log_odds")

#: one look at a merchant: the hour from which on it holds, and what a record of merchant.risk would say then;
#: `payments`: the newest ones reported as fraud, newest first (merchant_history.payment_hash), 0 for none
LOOK = np.dtype(
    [
        ("merchant", "u8"),
        ("hour", "i8"),
        ("seller", "f4", len(RISK_NAMES)),
        ("alert", "?"),
        ("payments", "u8", REPORTS),
    ]
)


def look_at(states: NDArray[np.void], hour: Ints, threshold: float | None) -> tuple[NDArray[np.float32], Ints]:
    """What is known of MERCHANT states [B] as of full hours [B], as [B, RISK_NAMES], and the places of those that are
    alerts now, in which that is noted."""
    as_of = states.copy()
    advance(as_of, hour // 24)
    seller = risk_of(as_of)
    if threshold is None:
        return seller, np.zeros(0, np.int64)
    alerts = np.flatnonzero(rises(seller[:, RISK], hour, states["alerted"], threshold))
    states["alerted"][alerts] = hour[alerts]
    return seller, alerts


def rises(risk: NDArray[np.float32], hour: Ints, alerted: Ints, threshold: float) -> NDArray[np.bool_]:
    """Whether looks [B] are alerts. `alerted`: the hour of the last alert of the same merchant, 0 for none."""
    return np.asarray((risk >= threshold) & ((alerted == 0) | (hour - alerted >= REST_H)))


def threshold_within(looks: NDArray[np.void], alerts: float) -> float:
    """The lowest threshold at which there are at most so many alerts among LOOK rows [L]."""
    risks = np.unique(looks["seller"][:, RISK].astype(np.float64))
    risks = risks[risks >= _LOWEST]
    low, high = 0, len(risks)  # one above the largest risk raises no alert
    while low < high:
        middle = (low + high) // 2
        if alerts_at(looks, float(risks[middle])).sum() <= alerts:
            high = middle
        else:
            low = middle + 1
    return float(risks[low]) if low < len(risks) else float(max(risks[-1:], default=_LOWEST)) + 0.5


def alerts_at(looks: NDArray[np.void], threshold: float) -> NDArray[np.bool_]:
    """Which of LOOK rows [L] would be alerts at a threshold."""
    out, alerted = np.zeros(len(looks), np.bool_), dict[int, int]()
    high = np.flatnonzero(looks["seller"][:, RISK] >= threshold)
    merchants, hours = looks["merchant"][high].tolist(), looks["hour"][high].tolist()
    for i, merchant, hour in zip(high.tolist(), merchants, hours, strict=True):
        if hour - alerted.get(merchant, -REST_H) >= REST_H:
            out[i], alerted[merchant] = True, hour
    return out
