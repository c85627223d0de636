"""Episodes are found again in data made of them; lone frauds; the card order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.fraud.cards import CARDS_A_DAY, by_card, day_hazard, raised, usual_level
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable, Words
from trainer.heads.compromise import lone_frauds
from trainer.heads.episode_fit import EpisodeLabels, fit_episode


@pytest.mark.parametrize(("length_d", "share"), [(12, 1.0), (28, 0.4)])
def test_an_episode_is_found_again(length_d: int, share: float) -> None:
    rng = np.random.default_rng(length_d)
    keys, days, hazard = 2000, 90, 0.001
    begins = rng.random((days, keys)) < hazard
    inside = np.zeros((days, keys), np.bool_)
    for day, key in zip(*np.nonzero(begins), strict=True):
        inside[day : day + length_d, key] = True
    day, key = rng.integers(0, days, 180_000), rng.integers(0, keys, 180_000)
    fraud = inside[day, key] & (rng.random(len(day)) < share) | (rng.random(len(day)) < 0.002)
    found = fit_episode(EpisodeLabels(day, key, fraud, np.full(len(day), 0.002), keys))
    assert found.length_d == pytest.approx(length_d, abs=1)
    assert found.share == pytest.approx(share, abs=0.06)
    assert found.hazard == pytest.approx(hazard, rel=0.3)


def test_no_fraud_no_episode() -> None:
    days = np.arange(20)
    assert fit_episode(EpisodeLabels(days, days * 0, days < 0, np.full(20, 0.1), 1)).hazard == 0


def test_lone_frauds_lie_between_honest_payments_of_their_merchant() -> None:
    merchant = np.array([0, 1, 0, 1, 0, 1, 1, 2])
    fraud = np.array([0, 0, 1, 1, 0, 1, 0, 1], np.bool_)
    assert np.flatnonzero(lone_frauds(merchant, fraud)).tolist() == [2]


@pytest.fixture
def table() -> TransactionTable:
    """Two weeks of 400 cards that pay up to 20 times a day."""
    rng = np.random.default_rng(0)
    card = rng.choice(400, 40_000, p=np.arange(1, 401) / 80_200)
    time_ms = 17_600 * DAY_MS + np.sort(rng.integers(0, 14 * DAY_MS, len(card)))
    nothing = Words(np.full(len(card), -1, np.int32), ())
    words = tuple(str(i) for i in range(400))
    user = Words(card.astype(np.int32), words)
    zero = np.zeros(len(card))
    return TransactionTable(
        transaction_id=np.arange(len(card)).astype(str),
        user=user,
        merchant=user,
        category=nothing,
        channel=nothing,
        currency=nothing,
        time_ms=time_ms,
        amount=zero,
        label=zero.astype(np.int8),
    )


def test_a_card_is_raised_once_a_day_and_as_often_as_asked(table: TransactionTable) -> None:
    odds = np.random.default_rng(1).normal(-6, 0.2, len(table))
    middle = int(table.time_ms[0]) // DAY_MS * DAY_MS + 7 * DAY_MS
    week = np.flatnonzero(table.time_ms >= middle)
    level = usual_level(table, middle, odds)
    up = raised(*day_hazard(table, week, odds[week]), level)
    assert up.sum() / 7 == pytest.approx(CARDS_A_DAY, rel=0.15)
    cards = table.user.index[week][up].astype(np.int64) * 10**6 + table.time_ms[week][up] // DAY_MS
    assert len(np.unique(cards)) == up.sum()
    scored = by_card(table, week, middle, odds[week], odds)
    assert (scored[~up] == odds[week][~up]).all()
    assert (scored[up] > odds[week].max()).all()


def test_the_card_order_of_a_row_depends_on_nothing_after_it(table: TransactionTable) -> None:
    odds = np.random.default_rng(1).normal(-6, 0.2, len(table))
    middle = int(table.time_ms[0]) // DAY_MS * DAY_MS + 7 * DAY_MS
    week = np.flatnonzero(table.time_ms >= middle)
    at = len(week) // 2
    later = odds.copy()
    later[week[at:]] += 2
    changed = replace(
        table, user=Words(np.where(np.arange(len(table)) < week[at], table.user.index, 0), table.user.words)
    )
    before, after = by_card(table, week, middle, odds[week], odds), by_card(changed, week, middle, later[week], later)
    np.testing.assert_allclose(after[:at], before[:at], rtol=1e-9)  # prefix sums cross keys
    assert (after[at:] != before[at:]).any()
