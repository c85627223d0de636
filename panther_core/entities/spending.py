"""Features that compare an amount with what the user usually spends, and traces of unusual spending before it.

No labels are used. A row depends on its own amount and on rows before it. Shapes: N rows, in time order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.entities.grouped import Floats, Grouped, Ints, last_true

WINDOWS_D = (1, 3, 7, 14, 30)
UNUSUAL = 2.5  # times the user's usual amount
_DROPPED = 3.0  # times the usual amount: larger amounts are left out of the mean
_SETTLED = 3  # rows that a user's mean needs before amounts are judged by it
_RATIO_MAX, _NEVER = 8.0, 99.0
MEMORY_D = 14  # an unusual amount is remembered for so many calendar days


def usual_amount(grouped: Grouped, amount: Floats) -> tuple[Floats, Floats]:
    """Mean [N] of the user's amounts before each row, without outliers, and the number of rows [N] in that mean.

    The mean of all users' first amounts so far counts as one more row. The loop works in waves: wave k holds the k-th
    row of every user.
    """
    rank = grouped.position - np.repeat(grouped.bounds[:-1], np.diff(grouped.bounds))[grouped.position]
    by_rank = np.argsort(rank, kind="stable")
    cuts = np.searchsorted(rank[by_rank], np.arange(rank.max(initial=-1) + 2))
    user = np.searchsorted(grouped.bounds, grouped.position, side="right") - 1
    total, count = np.zeros((2, len(grouped.bounds) - 1))
    first = _first_mean(rank, amount)
    prior = np.zeros(len(total))
    mean, known = np.zeros((2, len(amount)))
    for wave in range(len(cuts) - 1):
        rows = by_rank[cuts[wave] : cuts[wave + 1]]
        u = user[rows]
        if wave == 0:
            prior[u] = first[rows]
        mean[rows], known[rows] = (total[u] + prior[u]) / (count[u] + 1), count[u]
        settled = count[u] >= _SETTLED
        kept = ~settled | (amount[rows] <= _DROPPED * mean[rows])
        total[u] += np.where(kept, np.minimum(amount[rows], np.where(settled, UNUSUAL * mean[rows], np.inf)), 0)
        count[u] += kept
    return np.maximum(mean, 1e-2), known


def _first_mean(rank: Ints, amount: Floats) -> Floats:
    """Mean [N] of all users' first amounts before each row; the row's own amount where there are none."""
    first = rank == 0
    total = np.cumsum(np.where(first, amount, 0)) - np.where(first, amount, 0)
    count = np.cumsum(first) - first
    return np.where(count > 0, total / np.maximum(count, 1), amount)


def spending_features(grouped: Grouped, time_ms: Ints, amount: Floats) -> dict[str, Floats]:
    """Columns [N] by name; `grouped` is by user. `ratio` is the amount over the user's usual amount: 1 is typical."""
    usual, known = usual_amount(grouped, amount)
    ratio = amount / usual
    unusual = (ratio > UNUSUAL) & (known >= _SETTLED)
    user = np.searchsorted(grouped.bounds, grouped.position, side="right") - 1
    now = grouped.position
    gap_d = _gap_days(grouped, time_ms, now - 1, user)
    columns = {"amount": amount, "usual": usual, "ratio": ratio, "known": known, "gap_d": gap_d}
    columns |= _windows(grouped, time_ms, user, ratio, unusual)
    return columns | _traces(grouped, time_ms, user, ratio, unusual)


def _windows(
    grouped: Grouped, time_ms: Ints, user: Ints, ratio: Floats, unusual: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Columns [N] a window: count of rows, count of unusual amounts, mean ratio, and the sum of log(ratio / 2) over
    ratios above 2, which says how unusual the amounts were and not only how often."""
    rows, odd, ratios, excess = (
        grouped.running(v)
        for v in (
            np.ones(len(ratio)),
            unusual,
            np.minimum(ratio, _RATIO_MAX),
            np.log(np.clip(ratio, 2, _RATIO_MAX) / 2),
        )
    )
    now, out = grouped.position, {}
    for days in WINDOWS_D:
        low = np.minimum(grouped.until(user, time_ms - days * DAY_MS), now)
        count = rows[now] - rows[low]
        out[f"count_{days}d"] = count
        out[f"unusual_{days}d"] = odd[now] - odd[low]
        out[f"mean_ratio_{days}d"] = (ratios[now] - ratios[low] + 2) / (count + 2)
        # rounded, since the difference of prefix sums leaves rounding errors in place of 0 for an empty window
        out[f"excess_{days}d"] = np.round(excess[now] - excess[low], 9)
    return out


def _traces(
    grouped: Grouped, time_ms: Ints, user: Ints, ratio: Floats, unusual: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Columns [N]: days and rows since the first unusual amount of the last MEMORY_D days, days since the newest
    unusual amount, and its ratio."""
    now, day = grouped.position, time_ms // DAY_MS
    odd_at = np.flatnonzero(unusual[grouped.order])
    low = np.minimum(grouped.until(user, (day - MEMORY_D + 1) * DAY_MS - 1), now)
    following = np.searchsorted(odd_at, low)
    first = np.append(odd_at, len(now))[following]
    began = first < now
    place = np.minimum(first, len(now) - 1)
    last = np.append(last_true(unusual[grouped.order]), -1)[now - 1]
    there = last >= grouped.first(user)
    return {
        "unusual_began_d": np.where(began, day - day[grouped.order][place], _NEVER),
        "rows_since_unusual_began": np.where(began, now - first, 0).astype(np.float64),
        "last_unusual_d": np.where(there, _gap_days(grouped, time_ms, last, user), _NEVER),
        "last_unusual_ratio": np.where(there, ratio[grouped.order][last], 0),
    }


def _gap_days(grouped: Grouped, time_ms: Ints, position: Ints, key: Ints) -> Floats:
    """Days [N] from the row at `position` to each row; _NEVER where the position belongs to another key."""
    there = position >= grouped.first(key)
    return np.where(there, (time_ms - time_ms[grouped.order][position]) / DAY_MS, _NEVER)
