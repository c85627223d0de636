"""Recall at the top of each week, its draws, and the days to recovery."""

from __future__ import annotations

import numpy as np
import pytest

from bench.loop.figures import Decided, days_to_recovery, figures, recall_at_top
from panther_core.base.times import DAY_MS


def test_recall_counts_the_frauds_among_the_top_of_each_week() -> None:
    score = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.25])
    label = np.array([1, 0, 1, 0, 1, 1], np.int8)
    week, ones = np.array([0, 0, 0, 1, 1, 1]), np.ones(6, np.int64)
    assert recall_at_top(score, label, week, ones, 1 / 3) == 2 / 4  # one row a week
    assert recall_at_top(score, label, np.zeros(6, np.int64), ones, 1 / 3) == 1 / 4  # two rows of all
    assert recall_at_top(score, label, week, ones, 1e-9) == 2 / 4  # at least one row a week
    assert np.isnan(recall_at_top(score, np.zeros(6, np.int8), week, ones))


def test_a_row_drawn_twice_counts_as_two_rows() -> None:
    rng = np.random.default_rng(1)
    score, label = rng.permutation(60) / 60, (rng.random(60) < 0.3).astype(np.int8)
    week, times = np.repeat([0, 1, 2], 20), rng.integers(0, 4, 60)
    again = np.repeat(np.arange(60), times)
    one = recall_at_top(score, label, week, times, 0.2)
    # copies of a row share its rank here, and stand one after the other there: the last row looked at may differ
    other = recall_at_top(score[again], label[again], week[again], np.ones(len(again), np.int64), 0.2)
    assert one == pytest.approx(other, abs=3 * 3 / (label[again] == 1).sum())
    assert 0 < one < 1


def test_figures_compare_the_policies_with_intervals() -> None:
    rng = np.random.default_rng(2)
    label = (rng.random(4000) < 0.02).astype(np.int8)
    good, bad = label + rng.normal(0, 0.3, 4000), rng.normal(0, 1, 4000)
    user, time_ms = rng.integers(0, 200, 4000).astype(np.int32), np.sort(rng.integers(0, 28 * DAY_MS, 4000))
    found = figures(Decided(label, user, time_ms, {"never": bad, "gate on": good}), 0, 0)
    gain, low, high = found["differences"]["gate on - never"]["average_precision"]
    assert 0.3 < low < gain < high
    assert found["policies"]["gate on"]["recall_top_1pct"][0] <= 40 / label.sum()
    assert figures(Decided(label * 0, user, time_ms, {"never": bad}), 0, 0) == {}


def test_days_to_recovery() -> None:
    """A fraud a day of a hundred payments; from day 10 on the score sees it, before it sees none."""
    time_ms = np.repeat(np.arange(30), 100) * DAY_MS
    label = np.tile(np.arange(100) == 0, 30).astype(np.int8)
    score = np.where((label == 1) & (time_ms >= 10 * DAY_MS), 1.0, 0.5 * (label == 0))
    decided = Decided(label, np.zeros(3000, np.int32), time_ms, {"gate on": score})
    # a week has 700 payments, so one is looked at: a seventh of its frauds
    assert days_to_recovery(decided, "gate on", 0, 1 / 7) == 11  # the week from day 4 on is the first to see one
    assert days_to_recovery(decided, "gate on", 12 * DAY_MS, 1 / 7) == 7
    assert days_to_recovery(decided, "gate on", 0, 0.5) is None
