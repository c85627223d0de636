"""Spending and label history against a slow reference that looks at one row at a time, and against leaks."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.entities.counterparty import Labelled, label_counts, recency, streaks
from panther_core.entities.grouped import Grouped, segment_minimum
from panther_core.entities.spending import spending_features

DELAY_MS = 7 * DAY_MS
KEYS = 6
Columns = dict[str, np.ndarray]


class Rows:
    """Random rows of a few keys over 60 days, with runs of fraud at some keys and some labels unknown."""

    def __init__(self, seed: int, count: int = 400) -> None:
        rng = np.random.default_rng(seed)
        self.time_ms = np.sort(rng.integers(0, 60 * DAY_MS, count)) + 17_600 * DAY_MS
        self.time_ms[5:8] = self.time_ms[5]  # ties
        self.key = rng.integers(0, KEYS - 1, count)  # the last key has no row
        self.amount = np.round(rng.lognormal(3, 0.8, count), 2)
        burst = (self.key < 2) & ((self.time_ms // DAY_MS) % 20 < 8)
        self.label = np.where(burst, 1, rng.random(count) < 0.05).astype(np.int8)
        self.label[rng.random(count) < 0.05] = -1

    def labels(self) -> Columns:
        known = Labelled.of(self.key, self.time_ms, self.label, KEYS, DELAY_MS)
        return label_counts(known) | recency(known) | streaks(known, {"amount": self.amount})

    def spending(self) -> Columns:
        return spending_features(Grouped.of(self.key, self.time_ms, KEYS), self.time_ms, self.amount)


def slow_labels(rows: Rows, i: int) -> dict[str, float]:
    """What the columns of row `i` are by definition."""
    now = rows.time_ms[i]
    cut = now - DELAY_MS
    known_everywhere = (rows.time_ms <= cut) & (rows.label >= 0)
    base = rows.label[known_everywhere].mean() if known_everywhere.any() else 0.0
    mine = [j for j in range(len(rows.key)) if known_everywhere[j] and rows.key[j] == rows.key[i]]
    frauds = [j for j in mine if rows.label[j] == 1]
    out: dict[str, float] = {}
    for days in (1, 7, 14, 28, 0):
        name, low = (f"{days}d", cut - days * DAY_MS) if days else ("all", -1)
        n = sum(rows.time_ms[j] > low for j in mine)
        f = sum(rows.time_ms[j] > low for j in frauds)
        out |= {f"known_{name}": n, f"frauds_{name}": f, f"rate_{name}": (f + 2 * base) / (n + 2)}

    def age(j: int | None, calendar: bool = False) -> float:
        if j is None:
            return 120.0
        if calendar:
            return float(now // DAY_MS - rows.time_ms[j] // DAY_MS)
        return float((now - rows.time_ms[j]) / DAY_MS)

    streak: list[int] = []
    for j in reversed(mine):
        if rows.label[j] == 0:
            break
        streak.insert(0, j)
    honest = mine[len(mine) - len(streak) - 1] if len(mine) > len(streak) else None
    return out | {
        "last_known_d": age(mine[-1] if mine else None),
        "last_fraud_d": age(frauds[-1] if frauds else None),
        "streak": len(streak),
        "streak_day": age(streak[0] if streak else None, True),
        "streak_last_day": age(streak[-1] if streak else None, True),
        "honest_day": age(honest, True),
        "honest_d": age(honest),
        "streak_min_amount": min((rows.amount[j] for j in streak), default=0),
    }


def slow_spending(rows: Rows, i: int, ratio: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Windows and traces of row `i` from the ratios of the rows before it."""
    now = rows.time_ms[i]
    past = [j for j in range(i) if rows.key[j] == rows.key[i]]
    odd = [j for j in past if ratio[j] > 2.5 and known[j] >= 3]
    out: dict[str, float] = {"gap_d": (now - rows.time_ms[past[-1]]) / DAY_MS if past else 99.0}
    for days in (1, 3, 7, 14, 30):
        recent = [j for j in past if rows.time_ms[j] > now - days * DAY_MS]
        out |= {
            f"count_{days}d": len(recent),
            f"unusual_{days}d": len(set(recent) & set(odd)),
            f"mean_ratio_{days}d": (sum(min(ratio[j], 8) for j in recent) + 2) / (len(recent) + 2),
            f"excess_{days}d": sum(np.log(np.clip(ratio[j], 2, 8) / 2) for j in recent),
        }
    lately = [j for j in odd if now // DAY_MS - rows.time_ms[j] // DAY_MS < 14]
    return out | {
        "unusual_began_d": now // DAY_MS - rows.time_ms[lately[0]] // DAY_MS if lately else 99,
        "rows_since_unusual_began": sum(j >= lately[0] for j in past) if lately else 0,
        "last_unusual_d": (now - rows.time_ms[odd[-1]]) / DAY_MS if odd else 99,
        "last_unusual_ratio": ratio[odd[-1]] if odd else 0,
    }


def slow_usual(rows: Rows) -> tuple[list[float], list[int]]:
    """Running mean of ordinary amounts, row by row."""
    amounts: dict[int, list[float]] = {}
    prior: dict[int, float] = {}
    firsts: list[float] = []
    usual, known = [], []
    for key, amount in zip(rows.key.tolist(), rows.amount.tolist(), strict=True):
        if key not in prior:
            prior[key] = float(np.mean(firsts)) if firsts else amount
            firsts.append(amount)
        own = amounts.setdefault(key, [])
        mean = (sum(own) + prior[key]) / (len(own) + 1)
        usual.append(mean)
        known.append(len(own))
        if len(own) < 3:
            own.append(amount)
        elif amount <= 3 * mean:
            own.append(min(amount, 2.5 * mean))
    return usual, known


@pytest.mark.parametrize("seed", range(3))
def test_labels_equal_reference(seed: int) -> None:
    rows = Rows(seed)
    columns = rows.labels()
    for i in range(0, len(rows.key), 3):
        expected = slow_labels(rows, i)
        assert {name: columns[name][i] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_spending_equals_reference(seed: int) -> None:
    rows = Rows(seed)
    columns = rows.spending()
    usual, known = slow_usual(rows)
    np.testing.assert_allclose(columns["usual"], usual)
    np.testing.assert_array_equal(columns["known"], known)
    for i in range(0, len(rows.key), 3):
        expected = slow_spending(rows, i, columns["ratio"], columns["known"])
        assert {name: columns[name][i] for name in expected} == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_after_a_row_changes_it(seed: int) -> None:
    rows, other = Rows(seed), Rows(seed)
    rng = np.random.default_rng(seed)
    at = int(rng.integers(100, 300))
    later = np.arange(len(rows.key)) > at
    other.amount[later] *= 7
    other.key[later] = rng.permutation(other.key[later])
    young = other.time_ms > rows.time_ms[at] - DELAY_MS  # labels that had not arrived at row `at`
    other.label[young] = rng.integers(-1, 2, int(young.sum()))
    for before, after in ((rows.labels(), other.labels()), (rows.spending(), other.spending())):
        for name, column in before.items():
            np.testing.assert_allclose(after[name][: at + 1], column[: at + 1], atol=1e-8, err_msg=name)


def test_a_label_counts_as_soon_as_its_delay_is_over() -> None:
    time_ms = np.array([0, DELAY_MS - 1, DELAY_MS])
    known = Labelled.of(np.zeros(3, np.int64), time_ms, np.array([1, 0, 0], np.int8), 1, DELAY_MS)
    assert label_counts(known)["frauds_all"].tolist() == [0, 0, 1]


def test_no_label_at_all() -> None:
    rows = Rows(0)
    rows.label[:] = -1
    columns = rows.labels()
    assert not columns["known_all"].any()
    assert not columns["streak"].any()
    assert (columns["last_known_d"] == 120).all()


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(BadInput, match="time order, got row 2"):
        Grouped.of(np.zeros(3, np.int64), np.array([1, 3, 2]), 1)


def test_segment_minimum() -> None:
    values = np.array([3.0, 5, 1, 4, 6, 2])
    starts = np.array([True, False, False, True, False, False])
    assert segment_minimum(values, starts).tolist() == [3, 3, 1, 4, 4, 2]
