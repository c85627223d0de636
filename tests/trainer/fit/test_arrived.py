"""A log taken in stretches is the log taken whole, for the rows that are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from panther_core.base.times import DAY_MS
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import fit_schema
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.state.history import prepare
from trainer.fit import arrived
from trainer.fit.arrived import Arrived

ALL = ("code", "history_len", "user", "profile", "kept", "late", "order", "bounds", "users", "states")


@pytest.fixture(scope="module")
def table(log: TransactionTable) -> TransactionTable:
    """With copies, some of which come in another stretch than what they are copies of."""
    rows = np.sort(np.r_[np.arange(2000), np.arange(0, 2000, 7), np.arange(0, 2000, 50)])
    return log.take(rows)


def test_stretches_are_the_whole_log(table: TransactionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = fit_schema(table.amount, table.category.words, table.channel.words)
    risk = MerchantRisk.fit(table.merchant_hashes(), table.label, schema.risk_levels)
    events = table.events(schema, risk)
    whole, all_at_once = prepare(events, schema, 16), MerchantHistory()
    see_merchants(whole, events, table.label, table.time_ms + DAY_MS, all_at_once)
    assert not whole.kept.all()

    monkeypatch.setattr(arrived, "_AT_ONCE", 97)
    rows, merchants = np.arange(0, len(table), 3), MerchantHistory()
    past = Arrived.of(table, schema, risk).history(16, DAY_MS, merchants, wanted=rows)
    for name in ALL:
        assert getattr(past, name).tobytes() == getattr(whole, name).tobytes(), name
    assert len(past.features) == len(rows)
    for name in ("features", "seller"):
        np.testing.assert_array_equal(getattr(past, name)[past.held(rows)], getattr(whole, name)[rows])
    ended, ended_at_once = ({m: s.tobytes() for m, s in zip(*of.end(), strict=True)} for of in (merchants, all_at_once))
    assert ended == ended_at_once
    looks, looks_at_once = (np.sort(of.take_looks(), order=["hour", "merchant"]) for of in (merchants, all_at_once))
    assert len(looks)
    assert looks.tobytes() == looks_at_once.tobytes()
    with pytest.raises(KeyError, match="rows that were asked for, got 1 others"):
        past.held(np.array([0, 1]))

    known = np.full((len(table), whole.seller.shape[1]), 7.0, np.float32)
    told = Arrived.of(replace(table, seller=known), schema, risk).history(16, DAY_MS, MerchantHistory())
    np.testing.assert_array_equal(told.seller[told.kept], known[told.kept])


def test_a_merchant_is_known_by_labels_that_had_come(table: TransactionTable) -> None:
    """And not by those that came later than most: the log says when."""
    schema, middle = fit_schema(table.amount, table.category.words, table.channel.words), len(table) // 2
    told_ms = table.time_ms + DAY_MS
    late_ms = np.where(np.arange(len(table)) < 500, table.time_ms[middle], told_ms)
    as_told, late, by_delay = (
        Arrived.of(replace(table, told_ms=told), schema, None).history(16, DAY_MS, MerchantHistory())
        for told in (told_ms, np.maximum(late_ms, told_ms), None)
    )
    np.testing.assert_array_equal(as_told.seller, by_delay.seller)
    without = replace(table, label=np.where(np.arange(len(table)) < 500, -1, table.label).astype(np.int8))
    never = Arrived.of(without, schema, None).history(16, DAY_MS, MerchantHistory())
    before = table.time_ms < table.time_ms[middle]
    np.testing.assert_array_equal(late.seller[before], never.seller[before])
    assert (as_told.seller[before] != never.seller[before]).any()
    assert (late.seller[~before] != never.seller[~before]).any()


def test_earlier_rows_are_the_users_own(table: TransactionTable) -> None:
    schema = fit_schema(table.amount, table.category.words, table.channel.words)
    found = Arrived.of(table, schema, None)
    rows = np.flatnonzero(found.kept)[::11]
    most = np.arange(len(rows)) % 6
    expected = set[int]()
    for row, few in zip(rows.tolist(), most.tolist(), strict=True):
        own = np.flatnonzero(found.kept[:row] & (found.user[:row] == found.user[row]))
        expected |= {*own[len(own) - min(few, len(own)) :].tolist()}
    assert found.earlier(rows, most).tolist() == sorted(expected)
