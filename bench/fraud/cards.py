"""Ranking of payments in `panther bench fdh` for analysts who check a number of cards a day: a card's whole day counts.

Most frauds that no label shows yet look like any payment, so each such payment has about the same small probability of
fraud. A card that has paid ten times today at such shops has ten times that probability. The payment at which the sum
over a card's day reaches a level is therefore scored with the whole sum. At most one payment a card and day is raised,
so the order of payments by their own probability hardly changes. The level is the one that `CARDS_A_DAY` cards a day
reached in the week before; no label is used. N rows in time order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.entities.grouped import Floats, Ints

CARDS_A_DAY = 90
_WEEK_D = 7


def day_hazard(table: TransactionTable, rows: Ints, odds: Floats) -> tuple[Floats, Floats]:
    """-log P(no fraud) of each row, and its sum over the card's rows of that day so far, its own included.

    `odds` [rows]: log odds of fraud; `rows` are contiguous whole days in order.
    """
    hazard = np.logaddexp(0, odds)
    key = table.user.index[rows].astype(np.int64) * (1 << 20) + table.time_ms[rows] // DAY_MS
    order = np.argsort(key, kind="stable")
    opens = np.append(True, np.diff(key[order]) != 0)
    total = np.cumsum(hazard[order])
    before = (total - hazard[order])[np.flatnonzero(opens)][np.cumsum(opens) - 1]
    so_far = np.empty(len(rows))
    so_far[order] = total - before
    return hazard, so_far


def usual_level(table: TransactionTable, test_from_ms: int, odds_N: Floats) -> float:
    """The level that `CARDS_A_DAY` cards a day reached by sums of small probabilities, in the week before the test."""
    bounds = np.searchsorted(table.time_ms, (test_from_ms - _WEEK_D * DAY_MS, test_from_ms))
    rows = np.arange(*bounds)
    low, high = 0.0, float(np.log(2))
    hazard, so_far = day_hazard(table, rows, odds_N[rows])
    for _ in range(30):
        level = (low + high) / 2
        low, high = (level, high) if raised(hazard, so_far, level).sum() > CARDS_A_DAY * _WEEK_D else (low, level)
    return high


def raised(hazard: Floats, so_far: Floats, level: float) -> NDArray[np.bool_]:
    """Rows at which a card's day reaches the level, without rows that reach it by their own probability alone."""
    return (so_far > level) & (so_far - hazard <= level) & (hazard <= level)


def by_card(table: TransactionTable, week: Ints, test_from_ms: int, logit: Floats, odds_N: Floats) -> Floats:
    """`logit` [week], where raised rows get the log odds of any fraud on their card's day so far, if higher."""
    level = usual_level(table, test_from_ms, odds_N)
    hazard, so_far = day_hazard(table, week, odds_N[week])
    return np.where(raised(hazard, so_far, level), np.maximum(logit, np.log(np.expm1(so_far))), logit)
