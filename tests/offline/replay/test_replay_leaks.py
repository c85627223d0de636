"""No decision of a replay knows what came after it: later events at the same merchants, labels before they arrive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.replay import Replayer
from offline.replay.replayer import Replayed
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model


@pytest.fixture(scope="module")
def table(log: TransactionTable) -> TransactionTable:
    """A log with many frauds, of which merchants are known by their labels."""
    return replace(log, label=(np.random.default_rng(0).random(len(log)) < 0.2).astype(np.int8))


def decide(table: TransactionTable, folder: Path, delay_ms: int) -> Replayed:
    return Replayer(load_serving_model(folder), PantherModel.load(folder), label_delay_ms=delay_ms).decide(table)


def same(a: Replayed, b: Replayed, rows: np.ndarray) -> bool:
    scores = np.allclose(a.decision["score"][rows], b.decision["score"][rows], rtol=0, atol=2e-6)
    return scores and bool((a.features[rows] == b.features[rows]).all())


def test_a_label_changes_no_decision_before_the_hour_after_it_arrived(
    table: TransactionTable, artifact_folder: Path
) -> None:
    at_ms = int(table.time_ms[len(table) // 2])
    flipped = replace(table, label=np.where(table.time_ms > at_ms, 1 - table.label, table.label).astype(np.int8))
    told, other = (decide(each, artifact_folder, 2 * DAY_MS) for each in (table, flipped))
    arrives_ms = (at_ms + 2 * DAY_MS) // HOUR_MS * HOUR_MS + HOUR_MS  # none of them counts before
    before = np.flatnonzero(table.time_ms < arrives_ms)
    assert same(told, other, before)
    assert not same(told, other, np.arange(len(table)))


def test_a_label_that_comes_later_changes_no_decision_before_it_would_have_come(
    table: TransactionTable, artifact_folder: Path
) -> None:
    soon, late = (decide(table, artifact_folder, days * DAY_MS) for days in (1, 3))
    first_ms = (int(table.time_ms[0]) + DAY_MS) // HOUR_MS * HOUR_MS + HOUR_MS
    before = np.flatnonzero(table.time_ms < first_ms)
    assert len(before) > 20
    assert same(soon, late, before)
    assert not same(soon, late, np.arange(len(table)))


def test_later_events_of_anybody_at_the_same_merchants_change_no_decision(
    table: TransactionTable, artifact_folder: Path
) -> None:
    half, rng = len(table) // 2, np.random.default_rng(1)
    later = np.arange(len(table)) >= half
    words = {
        name: replace(column, index=np.where(later, rng.permutation(column.index), column.index).astype(np.int32))
        for name, column in (("user", table.user), ("merchant", table.merchant))
    }
    other = replace(table, amount=np.where(later, table.amount * 9, table.amount), **words)
    assert (table.merchant.index[:half] != other.merchant.index[half : 2 * half]).any()
    assert same(decide(table, artifact_folder, DAY_MS), decide(other, artifact_folder, DAY_MS), np.arange(half))
