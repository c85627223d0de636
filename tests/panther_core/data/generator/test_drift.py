"""A drift changes a log from its day on, and nothing before; without one the log is what it always was."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.generator.config import FRAUD_KINDS, NEW_KINDS
from panther_core.data.table import TransactionTable, Words
from tests.panther_core.data.generator.test_generate import SMALL, digest

CONFIG = GeneratorConfig(users=1200, days=70, drift_day=35, seed=7)
BEGIN_MS = CONFIG.start_ms + CONFIG.drift_day * DAY_MS


@pytest.fixture(scope="module")
def table() -> TransactionTable:
    return generate(CONFIG)


@pytest.fixture(scope="module")
def steady() -> TransactionTable:
    return generate(msgspec.structs.replace(CONFIG, drift_day=0))


def counts(table: TransactionTable) -> list[int]:
    assert table.fraud_kind is not None
    kinds = table.fraud_kind.index
    return np.bincount(kinds[kinds >= 0], minlength=len(FRAUD_KINDS) + 1).tolist()


def test_without_a_drift_the_bytes_are_those_of_earlier_releases() -> None:
    table = generate(SMALL)
    assert digest(table) == "d08f6966366fb93c76a65c79c911fd4c9f667000b3590471aa6a4d5b05485232"
    assert table.fraud_kind is not None
    assert table.fraud_kind.words == FRAUD_KINDS


def test_nothing_before_the_day_tells_of_it(table: TransactionTable, steady: TransactionTable) -> None:
    rows = int(np.searchsorted(table.time_ms, BEGIN_MS))
    early, same = table.take(slice(0, rows)), steady.take(slice(0, rows))
    assert steady.time_ms[rows] >= BEGIN_MS
    assert digest(early) == digest(same)
    assert counts(early)[-1] == 0


def test_other_fraud_as_frequent_as_before(table: TransactionTable, steady: TransactionTable) -> None:
    late, as_ever = (one.take(np.flatnonzero(one.time_ms >= BEGIN_MS)) for one in (table, steady))
    now, before = counts(late), counts(as_ever)
    assert table.fraud_kind is not None
    assert table.fraud_kind.words == (*FRAUD_KINDS, *NEW_KINDS)
    honest = int((late.label == 0).sum())
    assert now[-1] == round(CONFIG.push_payment * honest)
    assert now[2] == before[2] + round(CONFIG.merchant_wave * honest)
    assert all(now[kind] < 0.7 * before[kind] for kind in (0, 1, 3))
    assert late.label.mean() == pytest.approx(as_ever.label.mean(), rel=0.25)


def test_some_people_pay_otherwise_and_the_others_as_before(table: TransactionTable, steady: TransactionTable) -> None:
    settled_ms = BEGIN_MS + 8 * DAY_MS

    def online(one: TransactionTable) -> tuple[np.ndarray, np.ndarray]:
        rows = (one.time_ms >= settled_ms) & (one.label == 0)
        user, there = one.user.index[rows], one.channel.index[rows] == one.channel.words.index("online")
        count = np.bincount(user, minlength=CONFIG.users)
        return np.bincount(user[there], minlength=CONFIG.users) / np.maximum(count, 1), count

    (share, count), (usual, _) = online(table), online(steady)
    moved = share > usual + 0.1
    assert moved[count > 20].mean() == pytest.approx(CONFIG.moved_share, abs=0.06)
    assert (share[~moved] - usual[~moved]).mean() == pytest.approx(0, abs=0.01)


def test_rows_stay_within_their_period_and_in_order(table: TransactionTable) -> None:
    assert (np.diff(table.time_ms) >= 0).all()
    assert table.time_ms[-1] < CONFIG.start_ms + CONFIG.days * DAY_MS
    for name in ("merchant", "category", "channel", "country"):
        column: Words = getattr(table, name)
        assert column.index.min() >= 0
        assert column.index.max() < len(column.words)


def test_a_drift_after_the_end_is_refused() -> None:
    with pytest.raises(BadInput, match="expected drift_day before the end of the log, got day 70 of 70"):
        GeneratorConfig(days=70, drift_day=70)
