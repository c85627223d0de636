"""Merchants' live history: sums by day in any order, and what a payment sees of it as of its hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from panther_core.base.errors import FingerprintMismatch
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.entities.arrays import Floats, Ints
from panther_core.entities.episodes import Episode
from panther_core.entities.merchant_alerts import LOOK, REST_H, RISK, alerts_at, threshold_within
from panther_core.entities.merchant_history import PAYMENT, MerchantHistory
from panther_core.entities.merchants import (
    DAYS,
    MERCHANT,
    WEEKS,
    advance,
    decode_merchants,
    deviation_of,
    elsewise,
    encode_merchants,
    episode_odds,
    merchant_features,
    risk_of,
    take_deviations,
    take_labels,
    take_payments,
)

_FIRST_MS = 20_000 * DAY_MS
_EPISODE = Episode(hazard=1e-3, length_d=28, share=0.95)


@dataclass(frozen=True)
class Payments:
    """N payments in time order. `merchant`: a number from 0 on; `ratio`: amount over the payer's usual amount."""

    merchant: Ints
    time_ms: Ints
    ratio: Floats


@dataclass(frozen=True)
class Labels:
    """L labels in the order of their arrival. `row`: which payment; `elsewise` as `take_labels` has it."""

    row: Ints
    told_ms: Ints
    fraud: NDArray[np.bool_]
    elsewise: Floats


def as_of_hours(
    payments: Payments, labels: Labels, read: Callable[[NDArray[np.void]], Mapping[str, Floats]]
) -> dict[str, Floats]:
    """Columns [N] that `read` makes of the payments' merchants, each as of the full hour before the payment."""
    merchant, paid_day = payments.merchant, payments.time_ms // DAY_MS
    states = np.zeros(int(merchant.max(initial=-1)) + 1, MERCHANT)
    hour, told_hour = payments.time_ms // HOUR_MS, labels.told_ms // HOUR_MS
    hours = np.arange(hour[0], hour[-1] + 2) if len(hour) else np.zeros(1, np.int64)
    cuts, told_cuts = np.searchsorted(hour, hours), np.searchsorted(told_hour, hours)
    out = dict[str, Floats]()

    def ready(who: Ints, day: int) -> NDArray[np.void]:
        own = states[who]
        advance(own, day)
        states[who] = own
        return own

    for i, day in enumerate((hours[:-1] // 24).tolist()):
        now = np.arange(cuts[i], cuts[i + 1])
        if len(now):
            who, place = np.unique(merchant[now], return_inverse=True)
            for name, column in read(ready(who, day)).items():
                out.setdefault(name, np.zeros(len(hour)))[now] = column[place]
            take_payments(states, merchant[now], paid_day[now], payments.ratio[now])
        told = slice(told_cuts[i], told_cuts[i + 1])
        rows = labels.row[told]
        if len(rows):
            ready(np.unique(merchant[rows]), day)
            told_day, fraud = labels.told_ms[told] // DAY_MS, labels.fraud[told]
            take_labels(states, merchant[rows], paid_day[rows], told_day, fraud, labels.elsewise[told])
    return out


class Log(NamedTuple):
    payments: Payments
    labels: Labels


@pytest.fixture(scope="module")
def log() -> Log:
    rng = np.random.default_rng(0)
    rows, days = 3000, 90
    time_ms = _FIRST_MS + np.sort(rng.integers(0, days * DAY_MS, rows))
    payments = Payments(rng.integers(0, 12, rows), time_ms, rng.gamma(4, 0.25, rows))
    told_ms = time_ms + rng.integers(HOUR_MS, 15 * DAY_MS, rows)
    order = np.argsort(told_ms, kind="stable")[: rows - 200]  # some labels never come
    fraud = rng.random(rows) < np.where(payments.merchant == 3, 0.4, 0.02)
    return Log(payments, Labels(order, told_ms[order], fraud[order], rng.uniform(1e-4, 0.5, rows)[order]))


def columns(log: Log) -> dict[str, np.ndarray]:
    def read(states: np.ndarray) -> dict[str, np.ndarray]:
        return merchant_features(states, 0.01) | {"odds": episode_odds(states, _EPISODE)}

    return as_of_hours(log.payments, log.labels, read)


def test_a_payment_sees_what_earlier_hours_brought(log: Log) -> None:
    found, (payments, labels) = columns(log), log
    told_ms, robbed = np.full(len(payments.time_ms), 1 << 60), np.zeros(len(payments.time_ms), np.bool_)
    told_ms[labels.row], robbed[labels.row] = labels.told_ms, labels.fraud
    for i in np.random.default_rng(1).choice(len(payments.time_ms), 200, replace=False):
        hour = payments.time_ms[i] // HOUR_MS * HOUR_MS
        today = hour // DAY_MS
        own = payments.merchant == payments.merchant[i]
        before, told = own & (payments.time_ms < hour), own & (told_ms < hour)
        for days in (1, 7, 28):
            recent = before & (payments.time_ms // DAY_MS > today - days)
            assert found[f"count_{days}d"][i] == recent.sum()
            want = (np.minimum(payments.ratio[recent], 8).sum() + 2) / (recent.sum() + 2)
            assert found[f"mean_ratio_{days}d"][i] == pytest.approx(want, abs=2e-3)
            lately = told & (told_ms // DAY_MS > today - days)
            assert found[f"known_{days}d"][i] == lately.sum()
            assert found[f"frauds_{days}d"][i] == (lately & robbed).sum()
        assert (found["known_all"][i], found["frauds_all"][i]) == (told.sum(), (told & robbed).sum())
        day = payments.time_ms // DAY_MS
        held = told & (day > today - DAYS)
        honest = day[held & ~robbed].max(initial=today - DAYS)
        assert found["streak"][i] == (held & robbed & (day > honest)).sum()
        assert found["honest_day"][i] == (today - honest if honest > today - DAYS else 120)


def test_whatever_the_order_the_state_is_the_same(log: Log) -> None:
    payments, labels = log
    states = []
    for seed in (0, 1):
        state, rng = np.zeros(12, MERCHANT), np.random.default_rng(seed)
        advance(state, int(payments.time_ms[-1] // DAY_MS) + 15)
        rows, told = rng.permutation(len(payments.time_ms)), rng.permutation(len(labels.row))
        day = payments.time_ms // DAY_MS
        for part in np.array_split(rows, 7):
            take_payments(state, payments.merchant[part], day[part], payments.ratio[part])
        for part in np.array_split(told, 5):
            row = labels.row[part]
            told_day = labels.told_ms[part] // DAY_MS
            take_labels(state, payments.merchant[row], day[row], told_day, labels.fraud[part], labels.elsewise[part])
        states.append(state.tobytes())
    assert states[0] == states[1]


def test_what_comes_later_changes_nothing_before(log: Log) -> None:
    payments, labels = log
    cut_ms = _FIRST_MS + 45 * DAY_MS
    early, before = payments.time_ms < cut_ms, columns(log)
    known = labels.told_ms < cut_ms
    changed = Log(
        Payments(payments.merchant, payments.time_ms, np.where(early, payments.ratio, payments.ratio + 1)),
        Labels(labels.row, labels.told_ms, labels.fraud ^ ~known, labels.elsewise),
    )
    after = columns(changed)
    for name, column in before.items():
        np.testing.assert_array_equal(column[early], after[name][early], err_msg=name)
    assert (before["odds"][~early] != after["odds"][~early]).any()


def test_days_that_are_too_old_are_forgotten() -> None:
    state = np.zeros(1, MERCHANT)
    advance(state, 20_000)
    one, day = np.zeros(1, np.int64), np.array([20_000])
    take_payments(state, one, day, np.ones(1))
    take_payments(state, one, day - DAYS, np.ones(1))  # comes too late to be counted
    assert merchant_features(state, 0)["count_28d"][0] == 1
    for later, count in ((27, 1), (28, 0), (DAYS - 1, 0), (10 * DAYS, 0)):
        advance(state, 20_000 + later)
        assert merchant_features(state, 0)["count_28d"][0] == count
    assert not state["payments"].any()


def test_frauds_on_days_without_an_honest_payment_are_an_episode() -> None:
    state, one = np.zeros(2, MERCHANT), np.zeros(6, np.int64)
    advance(state, 20_030)
    paid = np.arange(20_020, 20_026)
    for merchant, fraud, chance in ((0, np.ones(6, np.bool_), 1e-3), (1, np.array([True, False] * 3), 0.1)):
        take_labels(state, one + merchant, paid, paid + 4, fraud, np.full(6, chance))
    odds = episode_odds(state, _EPISODE)
    assert 0.7 < odds[0] < 0.9, "it may have begun long before the first fraud, and be over"
    assert odds[1] < 0.2
    found = merchant_features(state, 0.01)
    assert found["streak"].tolist() == [6, 0]
    assert found["streak_day"].tolist() == [10, 120]
    assert found["streak_surprise"][0] == pytest.approx(-np.log(1e-3), abs=1e-3)


def test_nobody_has_no_columns() -> None:
    none = np.zeros(0, np.int64)
    empty = np.zeros(0)
    assert columns(Log(Payments(none, none, empty), Labels(none, none, empty > 0, empty))) == {}


def test_a_clock_that_is_ahead_brings_no_label_earlier_and_keeps_no_payment_back() -> None:
    hours = np.array([0, 22, 3, 4, 30])
    rows = np.zeros(5, PAYMENT)
    rows["merchant"], rows["time_ms"] = [1, 2, 1, 1, 2], _FIRST_MS // HOUR_MS * HOUR_MS + hours * HOUR_MS
    rows["came_ms"] = np.where(hours == 22, rows["time_ms"] - 20 * HOUR_MS, rows["time_ms"])
    rows["ratio"], rows["label"] = 1, [1, -1, -1, -1, -1]
    rows["told_ms"] = rows["time_ms"] + 15 * HOUR_MS
    seen = MerchantHistory().seen(rows)
    assert seen[:, RISK_NAMES.index("known_28d")].tolist() == [0, 0, 0, 0, 0]
    assert seen[:, RISK_NAMES.index("count_28d")].tolist() == [0, 0, 1, 2, 1]


@pytest.mark.parametrize("chunk", [1000, 137])
def test_a_log_in_chunks_sees_what_the_whole_log_sees(log: Log, chunk: int) -> None:
    payments, labels = log
    last = dict(zip(labels.row.tolist(), range(len(labels.row)), strict=True))  # one label of each payment
    kept = np.sort(np.array([*last.values()]))
    one = Labels(labels.row[kept], labels.told_ms[kept], labels.fraud[kept], elsewise(payments.ratio[labels.row[kept]]))
    want = as_of_hours(payments, one, lambda states: dict(zip(RISK_NAMES, risk_of(states).T, strict=True)))
    rows = np.zeros(len(payments.time_ms), PAYMENT)
    rows["merchant"], rows["time_ms"], rows["ratio"] = payments.merchant, payments.time_ms, payments.ratio
    rows["came_ms"], rows["label"] = payments.time_ms, -1
    rows["label"][one.row], rows["told_ms"][one.row] = one.fraud, one.told_ms
    history = MerchantHistory()
    parts = []
    for low in range(0, len(rows), chunk):
        parts.append(history.seen(rows[low : low + chunk]))
        other = MerchantHistory()
        other.restore(history.memory())
        history = other
    for name, column in zip(RISK_NAMES, np.concatenate(parts).T, strict=True):
        np.testing.assert_allclose(column, want[name], rtol=1e-6, err_msg=name)


def test_a_merchant_that_was_an_alert_rests() -> None:
    looks = np.zeros(5, LOOK)
    looks["merchant"], looks["hour"] = [1, 1, 2, 1, 1], [10, 20, 20, 10 + REST_H, 11 + REST_H]
    looks["seller"][:, RISK] = [3, 4, 1, 2, 3]
    assert alerts_at(looks, 2.0).tolist() == [True, False, False, True, False]
    assert threshold_within(looks, 1) == 4
    assert threshold_within(looks, 2) == 2
    assert threshold_within(looks, 3) == 1
    assert threshold_within(looks, 0) > 4
    assert threshold_within(looks[:0], 5) > 0


def test_a_state_of_the_first_layout_is_read() -> None:
    state = decode_merchants([None])
    advance(state, 20_000)
    take_payments(state, np.zeros(1, np.int64), np.array([20_000]), np.ones(1))
    old = (1).to_bytes(2, "little") + encode_merchants(state)[0][2 : MERCHANT.fields["deviations"][1]]
    (read,) = decode_merchants([old])
    assert read == state[0]
    with pytest.raises(FingerprintMismatch, match="1833"):
        decode_merchants([old[:-1]])


def test_deviations_count_by_week_and_are_forgotten() -> None:
    state, one = decode_merchants([None]), np.zeros(9, np.int64)
    assert np.isnan(deviation_of(state)[0])
    advance(state, 20_000)
    days = np.full(9, 20_000)
    days[8] -= 7 * WEEKS  # too old
    take_deviations(state, one, days, np.array([0.2] * 6 + [5.5, np.nan, 9]))
    assert deviation_of(state).tolist() == [5.5]
    assert deviation_of(state, 0.8).tolist() == [0.5]
    advance(state, 20_000 + 7 * WEEKS)
    assert np.isnan(deviation_of(state)[0])
