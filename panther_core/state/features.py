"""Context features psi(c) of a transaction, from the user's state before it (paper eq. 3).

`FEATURES` is the list: name, reason code and formula of each feature stand side by side. `context_features` computes
them all in one vectorised function over (states[B], events[B]); online, replay and training call this one function.
Everything is known at the time of the event. Decayed counters stand in for sliding windows: they cost O(1) a user, and
`count_1d` is the number of earlier events, each weighted by 2^(-age / 1 day).

To add a feature: append one line to FEATURES, and train anew (artifacts name the features they were trained on, and
are refused with others). A reason code that panther_core.decide.reasons does not have stops the import. A feature that
needs a new fact of the user also needs a field in panther_core.state.record and its update in `transition.append`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.schema import NEW_COUNTRY, NEW_DEVICE, NEW_MERCHANT
from panther_core.state.record import HALF_LIVES_MS, MERCHANTS
from panther_core.state.spending import WINDOWS_D, Spending

Column = NDArray[Any]  # [B]
_TWO_PI = 2 * np.pi


class _Batch:
    """What several features are made of, for B events whose `code` is complete (gap and flags filled)."""

    def __init__(self, states: NDArray[np.void], events: NDArray[np.void]) -> None:
        self.states, self.events = states, events
        self.n, self.time, self.code, self.ring = states["n"], events["time_ms"], events["code"], states["ring"]
        self.known = self.n > 0
        self.log_amount = np.log1p(events["amount"])
        factor = decay(states, self.time)
        self.counts, self.sums = states["counts"] * factor, states["sums"] * factor
        self.filled = np.arange(self.ring.shape[1]) < self.n[:, None]
        self.held = np.maximum(self.filled.sum(axis=1), 1)
        self.day = (self.time % DAY_MS) / DAY_MS * _TWO_PI  # angle of the time of day
        self.spending = Spending(states, events["amount"].astype(np.float64), self.time)
        self.week = self.code["hour"] / 168 * _TWO_PI  # angle of the hour of the week
        self.seller = seller_scale(events["seller"])

    def of_known(self, column: Column) -> Column:
        """0 for users without a history."""
        return np.where(self.known, column, 0)

    def share(self, mask: NDArray[np.bool_]) -> Column:
        """Share of the ring's events [B, L] for which `mask` holds."""
        return np.asarray((mask & self.filled).sum(axis=1) / self.held, np.float64)

    def against_usual(self, span: int) -> Column:
        """log_amount minus log1p of the mean amount over a decayed span."""
        return self.of_known(self.log_amount - np.log1p(self.sums[:, span] / np.maximum(self.counts[:, span], 1e-3)))

    def since(self, name: str, unit_ms: int) -> Column:
        """log1p of the time since the state's moment `name`, in units of `unit_ms`."""
        return self.of_known(np.log1p(np.maximum(self.time - self.states[name], 0) / unit_ms))

    def deviation(self) -> Column:
        """Deviations of log_amount from the user's own running mean, within 8."""
        spread = np.sqrt(np.maximum(self.states["amount_var"], 0.05))
        return self.of_known(np.clip((self.log_amount - self.states["amount_mean"]) / spread, -8, 8))

    def merchant_share(self) -> Column:
        """Share of the user's last 16 merchants that are this one."""
        same = (self.states["merchants"] == self.events["merchant"][:, None]).sum(axis=1)
        return np.asarray(same / np.minimum(np.maximum(self.n, 1), MERCHANTS))

    def near_hour(self) -> NDArray[np.bool_]:
        """Events of the ring [B, L] within an hour of this hour of day."""
        apart = np.abs(self.ring["hour"] % 24 - (self.code["hour"] % 24).astype(np.int16)[:, None])
        return np.asarray(np.minimum(apart, 24 - apart) <= 1)


class Feature(NamedTuple):
    """One context feature: its column's name, the code of the reason it speaks for, and its formula."""

    name: str
    reason: str
    of: Callable[[_Batch], Column]


def _spent(of: Callable[[Spending, int], Column], days: int, batch: _Batch) -> Column:
    """log1p of a sum of the last days, which may be large."""
    return np.log1p(of(batch.spending, days))


def _seller(place: int, batch: _Batch) -> Column:
    return batch.seller[:, place]


def _about(name: str) -> str:
    """The reason that what is known of a merchant (RISK_NAMES) speaks for."""
    return "RISKY_COUNTERPARTY" if name.startswith(("count_", "mean_ratio_")) else "MERCHANT_REPORTED"


FEATURES = (
    Feature("log_amount", "UNUSUAL_AMOUNT", lambda b: b.log_amount),
    Feature("amount_z", "UNUSUAL_AMOUNT", _Batch.deviation),
    Feature("amount_mean", "UNUSUAL_AMOUNT", lambda b: b.states["amount_mean"]),
    Feature("log_gap_s", "UNUSUAL_TIMING", lambda b: b.since("last_time_ms", 1000)),
    Feature("hour_sin", "UNUSUAL_HOUR", lambda b: np.sin(b.day)),
    Feature("hour_cos", "UNUSUAL_HOUR", lambda b: np.cos(b.day)),
    Feature("weekday_sin", "UNUSUAL_HOUR", lambda b: np.sin(b.week)),
    Feature("weekday_cos", "UNUSUAL_HOUR", lambda b: np.cos(b.week)),
    Feature("count_1h", "HIGH_VELOCITY", lambda b: np.log1p(b.counts[:, 0])),
    Feature("count_1d", "HIGH_VELOCITY", lambda b: np.log1p(b.counts[:, 1])),
    Feature("count_7d", "HIGH_VELOCITY", lambda b: np.log1p(b.counts[:, 2])),
    Feature("count_30d", "HIGH_VELOCITY", lambda b: np.log1p(b.counts[:, 3])),
    Feature("sum_1h", "HIGH_VELOCITY", lambda b: np.log1p(b.sums[:, 0])),
    Feature("sum_1d", "HIGH_VELOCITY", lambda b: np.log1p(b.sums[:, 1])),
    Feature("sum_7d", "HIGH_VELOCITY", lambda b: np.log1p(b.sums[:, 2])),
    Feature("sum_30d", "HIGH_VELOCITY", lambda b: np.log1p(b.sums[:, 3])),
    Feature("amount_vs_1d", "UNUSUAL_AMOUNT", lambda b: b.against_usual(1)),
    Feature("amount_vs_30d", "UNUSUAL_AMOUNT", lambda b: b.against_usual(3)),
    Feature("merchant_new", "NEW_MERCHANT", lambda b: (b.code["flags"] & NEW_MERCHANT) > 0),
    Feature("merchant_share", "NEW_MERCHANT", _Batch.merchant_share),
    Feature("country_new", "NEW_COUNTRY", lambda b: (b.code["flags"] & NEW_COUNTRY) > 0),
    Feature("device_new", "NEW_DEVICE", lambda b: (b.code["flags"] & NEW_DEVICE) > 0),
    Feature("category_share", "UNUSUAL_CATEGORY", lambda b: b.share(b.ring["category"] == b.code["category"][:, None])),
    Feature("channel_share", "UNUSUAL_CHANNEL", lambda b: b.share(b.ring["channel"] == b.code["channel"][:, None])),
    Feature("hour_share", "UNUSUAL_HOUR", lambda b: b.share(b.near_hour())),
    Feature("risk", "RISKY_COUNTERPARTY", lambda b: b.code["risk"] / 4),
    Feature("log_history", "USER_PROFILE", lambda b: np.log1p(b.n)),
    Feature("log_age_d", "USER_PROFILE", lambda b: b.since("first_time_ms", DAY_MS)),
    Feature("spend_ratio", "UNUSUAL_AMOUNT", lambda b: np.log(b.spending.ratio)),
    Feature("spend_known", "USER_PROFILE", lambda b: np.log1p(b.spending.known)),
    *(Feature(f"count_{d}_days", "HIGH_VELOCITY", partial(_spent, Spending.count, d)) for d in WINDOWS_D),
    *(Feature(f"unusual_{d}_days", "UNUSUAL_SPENDING", partial(_spent, Spending.unusual, d)) for d in WINDOWS_D),
    *(Feature(f"ratio_{d}_days", "UNUSUAL_SPENDING", partial(_spent, Spending.mean_ratio, d)) for d in WINDOWS_D),
    *(Feature(f"excess_{d}_days", "UNUSUAL_SPENDING", partial(_spent, Spending.excess, d)) for d in WINDOWS_D),
    Feature("unusual_began_d", "UNUSUAL_SPENDING", lambda b: np.log1p(b.spending.began_d)),
    Feature("since_unusual_began", "UNUSUAL_SPENDING", lambda b: np.log1p(b.spending.since_began())),
    Feature("last_unusual_d", "UNUSUAL_SPENDING", lambda b: np.log1p(b.spending.last_d())),
    Feature("last_unusual_ratio", "UNUSUAL_SPENDING", lambda b: b.states["odd_ratio"]),
    *(Feature(f"merchant_{name}", _about(name), partial(_seller, i)) for i, name in enumerate(RISK_NAMES)),
    Feature("late", "UNUSUAL_TIMING", lambda b: b.known & (b.time < b.states["last_time_ms"])),
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
WIDTH = len(FEATURES)
_RATIO, _SELLER = NAMES.index("spend_ratio"), NAMES.index(f"merchant_{RISK_NAMES[0]}")
_RATE = np.array([name.startswith("rate_") for name in RISK_NAMES])
_ODDS = np.array([name == "episode_log_odds" for name in RISK_NAMES])


def seller_scale(seller: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is known of merchants [B, RISK_NAMES] as features: counts and days on a logarithmic scale, rates by their
    logarithm."""
    counts = np.log1p(np.maximum(seller, 0))
    rates = np.log(np.maximum(seller, 1e-6))
    return np.asarray(np.where(_RATE, rates, np.where(_ODDS, seller, counts)), np.float32)


def put_seller(features: NDArray[np.float32], seller: NDArray[np.float32]) -> None:
    """Put what is known of merchants [B, RISK_NAMES] into features [B, WIDTH], in place."""
    features[:, _SELLER : _SELLER + len(RISK_NAMES)] = seller_scale(seller)


def against_usual(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Amount over what is usual for the payer [B], of features [B, WIDTH]; 1 for users without a history."""
    return np.exp(np.minimum(features[:, _RATIO], np.float32(20)))


def decay(states: NDArray[np.void], time_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Factors [B, 4] that bring the state's counters forward to `time_ms`.

    1 for late events: their age is negative and counts as 0.
    """
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
    """Features [B, WIDTH] of events whose `code` is complete (gap and flags filled), in the order of FEATURES."""
    batch = _Batch(states, events)
    out = np.empty((len(events), WIDTH), np.float32)
    for i, feature in enumerate(FEATURES):
        out[:, i] = feature.of(batch)
    return out
