"""Label history of a key (a merchant or a user), as far as it is known when a transaction comes.

Labels arrive after a delay: the label of an event at time s is known from s + delay on, so a row at time t sees the
labels of events at or before t - delay, and never its own. A label of -1 is never known. Shapes: N rows in time order;
positions are those of `Grouped` over the labelled rows.

The streak is the run of frauds since the newest known legitimate event. A compromised terminal has only frauds until it
is cleaned, so the compromise began between the legitimate event before the streak and the streak's first fraud; the
ages of both are features. A fraud may also be due to the payer, a robbed user. Traits that compare the payment with its
payer's habits (`suspicion`, `ratio` of the amount) tell the two apart: if the minimum of a trait over the streak is
small, some fraud at the terminal was an otherwise ordinary payment, which points to the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.entities.grouped import Floats, Grouped, Ints, last_true, segment_minimum

WINDOWS_D = (1, 7, 14, 28)
_NEVER_D = 120.0
_PRIOR = 2.0  # pseudo-events of the smoothed rate
_HUGE = 1e5
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Labelled:
    """The labelled rows of a table by key, and for each row the position up to which labels are known."""

    grouped: Grouped  # over the labelled rows
    keys: Ints  # [N] of all rows
    time_ms: Ints  # [N] of all rows
    fraud: NDArray[np.bool_]  # [labelled] in row order
    event_ms: Ints  # [labelled] in row order
    rows: Ints  # [labelled] row numbers
    known: Ints  # [N] position behind the newest known event of the row's key
    delay_ms: int

    @classmethod
    def of(cls, keys: Ints, time_ms: Ints, label: NDArray[np.int8], key_count: int, delay_ms: int) -> Labelled:
        """`keys` [N] 0..key_count-1, `label` [N] 1 fraud, 0 not, -1 unknown."""
        rows = np.flatnonzero(label >= 0)
        grouped = Grouped.of(keys[rows], time_ms[rows], key_count)
        known = grouped.until(keys, time_ms - delay_ms)
        return cls(grouped, keys, time_ms, label[rows] == 1, time_ms[rows], rows, known, delay_ms)

    def base_rate(self) -> Floats:
        """Fraud rate [N] over all labels known at each row, whatever the key; 0 while there are none."""
        known = np.searchsorted(self.event_ms, self.time_ms - self.delay_ms, side="right")
        frauds = np.concatenate([[0], np.cumsum(self.fraud)])[known]
        return np.asarray(frauds / np.maximum(known, 1), np.float64)

    def age_days(self, position: Ints, there: NDArray[np.bool_], calendar: bool = False) -> Floats:
        """Days [N] from the event at `position` to each row (calendar days if asked); _NEVER_D where not `there`."""
        event = self.event_ms[self.grouped.order][np.where(there, position, 0)] if len(self.rows) else self.time_ms
        days = self.time_ms // DAY_MS - event // DAY_MS if calendar else (self.time_ms - event) / DAY_MS
        return np.where(there, days, _NEVER_D)


def label_counts(labelled: Labelled, windows_d: tuple[int, ...] = WINDOWS_D) -> dict[str, Floats]:
    """Known events, frauds and smoothed fraud rate in windows that end at t - delay, and over all time."""
    events, frauds = labelled.grouped.running(np.ones(len(labelled.rows))), labelled.grouped.running(labelled.fraud)
    end, out, base = labelled.known, {}, labelled.base_rate()
    for days in (*windows_d, 0):
        cut = labelled.time_ms - labelled.delay_ms - days * DAY_MS
        low = labelled.grouped.until(labelled.keys, cut) if days else labelled.grouped.first(labelled.keys)
        name = f"{days}d" if days else "all"
        out[f"known_{name}"] = events[end] - events[low]
        out[f"frauds_{name}"] = frauds[end] - frauds[low]
        out[f"rate_{name}"] = (out[f"frauds_{name}"] + _PRIOR * base) / (out[f"known_{name}"] + _PRIOR)
    return out


def recency(labelled: Labelled) -> dict[str, Floats]:
    """Days since the newest known event, and since the newest known fraud."""
    newest, start = labelled.known - 1, labelled.grouped.first(labelled.keys)
    fraud = _at(last_true(labelled.fraud[labelled.grouped.order]), newest)
    return {
        "last_known_d": labelled.age_days(newest, newest >= start),
        "last_fraud_d": labelled.age_days(fraud, (fraud >= start) & (newest >= start)),
    }


def newest_fraud(labelled: Labelled) -> Ints:
    """Row number [N] of the newest known event of each row's key if that event was a fraud, else -1."""
    newest = labelled.known - 1
    there = newest >= labelled.grouped.first(labelled.keys)
    row = _at(labelled.rows[labelled.grouped.order], newest)
    fraud = _at(labelled.fraud[labelled.grouped.order], newest)
    return np.where(there & fraud, row, -1)


def streaks(labelled: Labelled, traits: dict[str, Floats]) -> dict[str, Floats]:
    """Columns [N] about the streak: its length, the two ages that bound its beginning, and the minimum of each trait.

    `traits`: columns [N] by name, each row as of its own time. Without a streak the minimum is 0.
    """
    order, start = labelled.grouped.order, labelled.grouped.first(labelled.keys)
    fraud = labelled.fraud[order]
    newest = labelled.known - 1
    honest = np.where(newest >= start, _at(last_true(~fraud), newest), start - 1)
    honest = np.maximum(honest, start - 1)
    length = np.maximum(newest - honest, 0)
    streak, legal = length > 0, honest >= start
    out = {
        "streak": length.astype(np.float64),
        "streak_day": labelled.age_days(honest + 1, streak, calendar=True),
        "streak_last_day": labelled.age_days(newest, streak, calendar=True),
        "honest_day": labelled.age_days(honest, legal, calendar=True),
        "honest_d": labelled.age_days(honest, legal),
    }
    begins = ~fraud  # the minimum starts again at a legitimate event and at the first row of a key
    begins[labelled.grouped.bounds[:-1][np.diff(labelled.grouped.bounds) > 0]] = True
    for name, values in traits.items():
        least = segment_minimum(np.where(fraud, values[labelled.rows][order], _HUGE), begins)
        out[f"streak_min_{name}"] = np.where(streak, _at(least, newest), 0)
    return out


def _at(values: NDArray[Scalar], position: Ints) -> NDArray[Scalar]:
    """Values by position. A position of -1 gives the first value; callers mask such rows."""
    return values[np.maximum(position, 0)] if len(values) else np.zeros(len(position), values.dtype)
