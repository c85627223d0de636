"""A small trained model version on disk, shared by the tests that need a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from panther_core.base.times import DAY_MS
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from trainer.fit.train_config import preset
from trainer.training import train


@pytest.fixture(scope="session")
def log() -> TransactionTable:
    return generate(GeneratorConfig(users=60, days=60, merchants=40, mean_transactions_per_day=1.3, seed=3))


@pytest.fixture(scope="session")
def artifact_folder(log: TransactionTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "1"
    train(log, folder, config=preset("tiny"), version=1, label_delay_ms=DAY_MS, seed=0, profile=PROFILE)
    return folder
