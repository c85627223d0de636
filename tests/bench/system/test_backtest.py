"""A refresh policy replayed: no training and no decision knows a label before it would have arrived."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from bench.system.backtest import BacktestPlan, run_backtest, train_versions
from offline.replay.request import ReplayRequest
from offline.report.build import write_report
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from tests.offline.replay.test_replay_run import write_fdh
from trainer.fit.dataset import known_at
from trainer.fit.train_config import preset
from trainer.training import train

DELAY_DAYS, START_DAY, EVERY_DAYS = 5, 40, 8


def plan_for(log: TransactionTable) -> BacktestPlan:
    tiny = preset("tiny")
    return BacktestPlan(
        train_until_ms=int(log.time_ms[0]) + START_DAY * DAY_MS,
        every_ms=EVERY_DAYS * DAY_MS,
        label_delay_ms=DELAY_DAYS * DAY_MS,
        first=structs.replace(tiny, epochs=1, head_epochs=1),
        refresh=structs.replace(tiny, epochs=1, head_epochs=1),
    )


def backtest(log: TransactionTable, folder: Path) -> Path:
    """The policy on this log; its result folder."""
    plan = plan_for(log)
    folder.mkdir()
    write_fdh(log, folder / "transactions.parquet", log.label)
    request = ReplayRequest(
        folder / "transactions.parquet", "fdh", (1,), folder / "models", label_delay_ms=plan.label_delay_ms
    )
    notes = run_backtest(log, request, plan, folder / "out")
    assert notes == []
    with pytest.raises(BadInput, match="finished backtest"):
        run_backtest(log, request, plan, folder / "out")
    with pytest.raises(BadInput, match="train-until"):
        run_backtest(log, request, replace(plan, train_until_ms=int(log.time_ms[-1]) + 1), folder / "other")
    assert not (folder / "other").exists()
    return folder / "out"


@pytest.fixture(scope="module")
def half(log: TransactionTable) -> TransactionTable:
    """Half of the users, with frauds in every slice of every training."""
    log = log.take(np.flatnonzero(log.user.index % 2 == 0))
    return replace(log, label=(np.random.default_rng(0).random(len(log)) < 0.05).astype(np.int8))


@pytest.fixture(scope="module")
def finished(half: TransactionTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result folder of a backtest of `half`; the versions lie beside it."""
    return backtest(half, tmp_path_factory.mktemp("backtest") / "whole")


def test_labels_that_change_after_a_moment_change_no_decision_before_they_arrive(
    half: TransactionTable, finished: Path, tmp_path: Path
) -> None:
    log = half
    day = (log.time_ms - log.time_ms[0]) / DAY_MS
    moment = START_DAY + EVERY_DAYS - DELAY_DAYS  # what happened before it has its label at the first refresh
    flipped = replace(log, label=np.where(day > moment, 1 - log.label, log.label).astype(np.int8))
    true, false = finished, backtest(flipped, tmp_path / "false")
    for name in ("never", f"every {EVERY_DAYS} days"):
        left, right = (pq.read_table(folder / f"decisions-{name}.parquet") for folder in (true, false))
        assert left.num_rows == len(log)
        assert not left["label"].equals(right["label"])
        left, right = (part.drop_columns(["label", "label_time"]) for part in (left, right))
        known = day <= moment + DELAY_DAYS  # then the first changed label is known, of a merchant
        before = int(np.flatnonzero(~known)[0])
        assert left.slice(0, before).equals(right.slice(0, before))
        assert not left.equals(right)
    versions = pq.read_table(true / f"decisions-every {EVERY_DAYS} days.parquet")["model_version"].to_numpy()
    expected = 1 + np.maximum(0, (day - START_DAY) // EVERY_DAYS)
    np.testing.assert_array_equal(versions, expected)
    report = write_report([true], true, None)
    assert [variant.name for variant in report.variants] == ["never", f"every {EVERY_DAYS} days"]
    assert report.variants[1].model_versions == [1, 2, 3]
    assert len(json.loads((true / "replay.json").read_text())["models"]) == 3


def test_an_interrupted_backtest_goes_on_with_the_versions_that_it_has(
    half: TransactionTable, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, whole = half, finished
    cut = tmp_path / "cut"
    cut.mkdir()
    write_fdh(log, cut / "transactions.parquet", log.label)
    shutil.copytree(whole.parent / "models", cut / "models")
    shutil.rmtree(cut / "models" / "2")  # killed in the second training
    (cut / "models" / "2").mkdir()
    request = ReplayRequest(
        cut / "transactions.parquet", "fdh", (1,), cut / "models", label_delay_ms=DELAY_DAYS * DAY_MS
    )
    plan = plan_for(log)
    with pytest.raises(BadInput, match="this plan"):
        run_backtest(log, request, replace(plan, seed=1), cut / "out")
    trained: list[Path] = []

    def noted(seen: TransactionTable, folder: Path, **options: Any) -> Any:
        trained.append(folder)
        return train(seen, folder, **options)

    monkeypatch.setattr("bench.system.backtest.train", noted)
    run_backtest(log, request, plan, cut / "out")
    assert trained == [cut / "models" / "2"]
    for path in whole.glob("*.parquet"):
        assert (cut / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_refresh_that_could_not_be_trained_does_not_take_the_next_ones_version_when_it_goes_on(
    half: TransactionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = half
    plan = plan_for(log)
    first_refresh = known_at(log, plan.train_until_ms + plan.every_ms, plan.label_delay_ms)

    def cannot_the_first(seen: TransactionTable, folder: Path, **options: Any) -> Any:
        if len(seen) == len(first_refresh):
            raise BadInput("no fraud in a slice")
        return train(seen, folder, **options)

    monkeypatch.setattr("bench.system.backtest.train", cannot_the_first)
    whole, notes = train_versions(log, tmp_path / "models", plan)
    assert len(notes) == 1
    again, same = train_versions(log, tmp_path / "models", plan)
    assert (again, same) == (whole, notes)
    assert list(whole) == [plan.train_until_ms, plan.train_until_ms + 2 * plan.every_ms]
