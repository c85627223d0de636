"""The Fraud Detection Handbook's prequential protocol (its chapters 5 to 7): folds and metrics of `panther bench fdh`.

In the fold that starts on day S, labels of S..S+6 have arrived when the test week, S+14..S+20, begins; the week between
is the label delay. Customers whose fraud was known by a test day (frauds of S up to 8 days before that day) are left
out of that day. CP@100 is the share of frauds among the 100 customers with the highest scores of a test day; a customer
found to be defrauded is left out of later days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS, iso_ms
from panther_core.data.table import TransactionTable
from panther_core.entities.arrays import Floats, Ints
from panther_core.evaluation import card_precision

PUBLISHED = ("2018-08-15", "2018-08-08", "2018-08-01", "2018-07-25")
DELAY_MS = 7 * DAY_MS
_TEST_FROM, _DAYS = 14, 7


@dataclass(frozen=True)
class Fold:
    """Row numbers of one fold. `week` has every row of the test week, `kept` the places in `week` that count."""

    start: str
    matured: Ints  # rows whose label was known when the test week began
    week: Ints
    kept: Ints
    day: Ints  # [kept] test day, 0..6
    test_from_ms: int


def parse_folds(text: str | None) -> tuple[str, ...]:
    """Fold starts from a comma-separated option, or the published ones for None. Raises BadInput."""
    if text is None:
        return PUBLISHED
    starts = tuple(part.strip() for part in text.split(",") if part.strip())
    for start in starts:
        try:
            date.fromisoformat(start)
        except ValueError:
            raise BadInput(f"expected dates YYYY-MM-DD in --folds, got {start!r}") from None
    days = sorted(date.fromisoformat(start) for start in starts)
    if not days or any((b - a).days < _DAYS for a, b in pairwise(days)):
        raise BadInput(f"expected --folds at least {_DAYS} days apart, got {text!r}: test weeks must not overlap")
    return starts


def fold(table: TransactionTable, start: str) -> Fold:
    """The fold that starts on day `start`. Raises BadInput when the table lacks days or labels that it needs."""
    first_ms = iso_ms(start)
    day = table.time_ms // DAY_MS - first_ms // DAY_MS
    missing = sorted(set(range(_TEST_FROM + _DAYS)) - set(np.unique(day).tolist()))
    if missing:
        raise BadInput(
            f"expected transactions on every day from {start} to {_plus(start, _TEST_FROM + _DAYS - 1)} for the fold "
            f"of {start}, got none on {_plus(start, missing[0])} ({len(missing)} such days); the data holds "
            f"{_date(table.time_ms[0])} to {_date(table.time_ms[-1])}: choose other --folds or a folder with these days"
        )
    test_from_ms = first_ms + _TEST_FROM * DAY_MS
    settled = np.arange(int(np.searchsorted(table.time_ms, test_from_ms - DELAY_MS)))
    matured = settled[table.label[settled] >= 0]
    week = np.flatnonzero((day >= _TEST_FROM) & (day < _TEST_FROM + _DAYS))
    if not 0 < table.label[matured].sum() < len(matured) or (table.label[week] < 0).any():
        raise BadInput(
            f"expected labels (TX_FRAUD) with frauds before {_plus(start, 7)} and on all test days: see --data"
        )
    kept, test_day = _counted(table, day, week)
    return Fold(start, matured, week, kept, test_day, test_from_ms)


def _counted(table: TransactionTable, day: Ints, week: Ints) -> tuple[Ints, Ints]:
    """Places in `week` of customers without a known fraud on the test day, and the test day of each place."""
    user, fraud = table.user.index, table.label == 1
    first = np.full(len(table.user.words), np.iinfo(np.int64).max)  # first day of fraud of each customer, from S on
    counted = fraud & (day >= 0)
    np.minimum.at(first, user[counted], day[counted])
    test_day = day[week] - _TEST_FROM
    kept = np.flatnonzero(first[user[week]] > test_day + _DAYS - 1)
    return kept, test_day[kept]


def metrics(fold: Fold, table: TransactionTable, score: Floats) -> dict[str, float]:
    """AP, AUC and CP@100 of the fold's test week; `score` [week]."""
    rows, kept = fold.week[fold.kept], score[fold.kept]
    label = table.label[rows]
    return {
        "ap": float(average_precision_score(label, kept)),
        "auc": float(roc_auc_score(label, kept)),
        "cp100": card_precision(fold.day, table.user.index[rows], label, kept),
    }


def _plus(start: str, days: int) -> str:
    return (date.fromisoformat(start) + timedelta(days=days)).isoformat()


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(int(time_ms) / 1000, UTC).date().isoformat()
