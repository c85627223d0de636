"""One split by time: every head is scored on both windows, and nothing later than a row moves its score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.fraud.timesplit import run_fraud
from bench.tables import windows_table
from panther_core.base.errors import BadInput
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from panther_core.model_config import ModelConfig
from trainer.heads.behaviour import BEHAVIOUR
from trainer.heads.ensemble import PARTS, Settings
from trainer.heads.neural import Training

DAYS = ("2025-02-10", "2025-02-20", "2025-03-01")
SETTINGS = Settings(negatives=0.5, boosted=1, neural=1, threads=1, training=Training(epochs=1, bins=4, hidden=8))
TINY = msgspec.structs.replace(
    BEHAVIOUR,
    model=ModelConfig(d=8, layers=1, heads=1, length=16, prototypes=4, user_dim=4, cnn_dim=2, cnn_filters=2),
    epochs=1,
)


@pytest.fixture(scope="module")
def table() -> TransactionTable:
    return generate(GeneratorConfig(users=120, days=60, merchants=60, seed=2, start="2025-01-01"))


def run(table: TransactionTable, folder: Path) -> dict[str, Any]:
    return run_fraud(table, DAYS, 1, settings=SETTINGS, behaviour=TINY, folder=folder, first="tiny")


@pytest.fixture(scope="module")
def result(table: TransactionTable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(table, tmp_path_factory.mktemp("fraud"))


def test_every_head_has_figures_on_both_windows(result: dict[str, Any]) -> None:
    assert {*(head.name for head in PARTS), "deepfm", "served"} < set(result["models"])
    assert windows_table(result).row_count == 2 * len(result["models"])
    for windows in result["models"].values():
        assert windows.keys() == {"validation", "test"}
        assert all(0 <= value <= 1 for figures in windows.values() for value in figures.values())


def test_what_comes_after_a_window_changes_nothing_in_it(
    table: TransactionTable, result: dict[str, Any], tmp_path: Path
) -> None:
    first = result
    late = np.searchsorted(table.time_ms, np.datetime64("2025-02-20", "ms").astype(np.int64))
    rng, amount, label = np.random.default_rng(0), table.amount.copy(), table.label.copy()
    amount[late:] = rng.permutation(amount[late:])
    label[late:] = rng.permutation(label[late:])
    user, merchant = table.user.index.copy(), table.merchant.index.copy()
    user[late:], merchant[late:] = rng.permutation(user[late:]), rng.permutation(merchant[late:])
    words = {"user": replace(table.user, index=user), "merchant": replace(table.merchant, index=merchant)}
    second = run(replace(table, amount=amount, label=label, **words), tmp_path)
    for name, windows in first["models"].items():
        assert second["models"][name]["validation"] == windows["validation"], name
    assert second["models"]["lightgbm"]["test"] != first["models"]["lightgbm"]["test"]


def test_a_window_without_frauds_says_so(table: TransactionTable) -> None:
    with pytest.raises(BadInput, match="test window"):
        run_fraud(table, ("2025-02-10", "2026-01-01", "2026-02-01"), 1, settings=SETTINGS, behaviour=TINY)
