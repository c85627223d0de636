"""Context features psi(c) of a transaction, from the user's state before it (paper eq. 3).

One vectorised function over (states[B], events[B]); online, replay and training all call this one. Everything is
known at the time of the event. Decayed counters stand in for sliding windows: they cost O(1) a user, and
`count_1d` is the number of earlier events, each weighted by 2^(-age / 1 day).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.schema import NEW_COUNTRY, NEW_DEVICE, NEW_MERCHANT
from panther_core.state.record import HALF_LIVES_MS, MERCHANTS

_SPANS = ("1h", "1d", "7d", "30d")
NAMES: tuple[str, ...] = (
    "log_amount",  # log1p(amount)
    "amount_z",  # deviations of log_amount from the user's own running mean
    "amount_mean",  # that mean
    "log_gap_s",  # log1p(seconds since the user's last event), 0 for the first
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
    *(f"count_{s}" for s in _SPANS),  # log1p of decayed event counts
    *(f"sum_{s}" for s in _SPANS),  # log1p of decayed amounts
    "amount_vs_1d",  # log_amount minus log1p(mean amount over a decayed day)
    "amount_vs_30d",
    "merchant_new",  # 1 = not among the user's last 16 merchants
    "merchant_share",  # share of the last 16 that are this merchant
    "country_new",  # 1 = differs from the last country given
    "device_new",
    "category_share",  # share of events in the ring with this category
    "channel_share",
    "hour_share",  # share of events in the ring within an hour of this hour of day
    "risk",  # counterparty risk level / 4
    "log_history",  # log1p(events known)
    "log_age_d",  # log1p(days since the user's first event)
    "late",  # 1 = older than the user's last event
)
WIDTH = len(NAMES)
_TWO_PI = 2 * np.pi


def decay(states: NDArray[np.void], time_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Factors [B, 4] that bring the state's counters forward to `time_ms`; 1 for late events, which wait for no one."""
    age = np.maximum(time_ms - states["last_time_ms"], 0).astype(np.float64)
    return np.asarray(np.exp2(-age[:, None] / HALF_LIVES_MS), np.float64)


def change_flags(states: NDArray[np.void], events: NDArray[np.void]) -> NDArray[np.uint8]:
    """CODE flags of each event: which of merchant, country and device are new to the user. First events: none."""
    known = states["n"] > 0
    flags = ~(states["merchants"] == events["merchant"][:, None]).any(axis=1) * NEW_MERCHANT
    for name, bit in (("country", NEW_COUNTRY), ("device", NEW_DEVICE)):
        changed = (events[name] != 0) & (states[name] != 0) & (events[name] != states[name])
        flags = flags + changed * bit
    return np.asarray(np.where(known, flags, 0), np.uint8)


def context_features(states: NDArray[np.void], events: NDArray[np.void]) -> NDArray[np.float32]:
    """Features [B, WIDTH] of events whose `code` is complete (gap and flags filled), in the order of NAMES."""
    n, time = states["n"], events["time_ms"]
    known = n > 0
    code, ring = events["code"], states["ring"]
    log_amount = np.log1p(events["amount"])
    spread = np.sqrt(np.maximum(states["amount_var"], 0.05))
    factor = decay(states, time)
    counts, sums = states["counts"] * factor, states["sums"] * factor
    day = (time % DAY_MS) / DAY_MS * _TWO_PI
    week = code["hour"] / 168 * _TWO_PI
    filled = np.arange(ring.shape[1]) < n[:, None]
    held = np.maximum(filled.sum(axis=1), 1)
    hours_apart = np.abs(ring["hour"] % 24 - (code["hour"] % 24).astype(np.int16)[:, None])
    merchants = np.minimum(np.maximum(n, 1), MERCHANTS)

    def share(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray((mask & filled).sum(axis=1) / held, np.float64)

    def typical(span: int) -> NDArray[np.float64]:
        return np.where(known, log_amount - np.log1p(sums[:, span] / np.maximum(counts[:, span], 1e-3)), 0)

    columns = [
        log_amount,
        np.where(known, np.clip((log_amount - states["amount_mean"]) / spread, -8, 8), 0),
        states["amount_mean"],
        np.where(known, np.log1p(np.maximum(time - states["last_time_ms"], 0) / 1000), 0),
        np.sin(day),
        np.cos(day),
        np.sin(week),
        np.cos(week),
        *np.log1p(counts).T,
        *np.log1p(sums).T,
        typical(1),
        typical(3),
        (code["flags"] & NEW_MERCHANT) > 0,
        (states["merchants"] == events["merchant"][:, None]).sum(axis=1) / merchants,
        (code["flags"] & NEW_COUNTRY) > 0,
        (code["flags"] & NEW_DEVICE) > 0,
        share(ring["category"] == code["category"][:, None]),
        share(ring["channel"] == code["channel"][:, None]),
        share(np.minimum(hours_apart, 24 - hours_apart) <= 1),
        code["risk"] / 4,
        np.log1p(n),
        np.where(known, np.log1p(np.maximum(time - states["first_time_ms"], 0) / DAY_MS), 0),
        known & (time < states["last_time_ms"]),
    ]
    out = np.empty((len(events), WIDTH), np.float32)
    for i, column in enumerate(columns):
        out[:, i] = column
    return out
