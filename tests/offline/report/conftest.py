"""Decisions as a replay leaves them, made up: two versions that agree on most."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.replay.columns import SCHEMA

DAY_MS = 86_400_000
START_MS = 1_522_540_800_000  # 2018-04-01
Columns = dict[str, object]


def made_up(rows: int = 6000, users: int = 300, seed: int = 0) -> Columns:
    """Three weeks; scores are probabilities that hold, and frauds come to the same few users."""
    rng = np.random.default_rng(seed)
    user = rng.integers(users, size=rows)
    score = np.round(np.where(user % 10 == 0, rng.beta(1, 3, rows), rng.beta(0.3, 30, rows)), 6)
    time = np.sort(START_MS + rng.integers(21 * DAY_MS, size=rows))
    alert = score >= 0.4
    none = [None] * rows
    columns: Columns = {
        "transaction_id": [f"t{i}" for i in range(rows)],
        "user_id": [f"u{i}" for i in user],
        "merchant_id": [f"m{i}" for i in rng.integers(40, size=rows)],
        "category": [("food", "travel", None)[i] for i in rng.integers(3, size=rows)],
        "channel": ["till"] * rows,
        "amount": np.round(rng.lognormal(3, 1, rows), 2),
        "event_time": time,
        "score": score,
        "threshold": np.full(rows, 0.4),
        "alert": alert,
        "history_len": np.arange(rows) // users,
        "cold_start": np.arange(rows) < users,
        "late": np.zeros(rows, bool),
        "id_reused": np.zeros(rows, bool),
        "degraded": none,
        "model_version": np.ones(rows),
        "reason_1": np.where(alert, "HIGH_VELOCITY", None),
        "reason_2": np.where(alert & (score > 0.5), "UNUSUAL_AMOUNT", None),
        "reason_3": none,
        "label": (rng.random(rows) < score).astype(np.int8),
        "label_time": time + 7 * DAY_MS,
        "fraud_kind": none,
    }
    return columns | {f"contribution_{i + 1}": np.zeros(rows) for i in range(3)}


def write_decisions(folder: Path, name: str, columns: Columns) -> None:
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in SCHEMA]
    pq.write_table(pa.table(arrays, schema=SCHEMA), folder / f"decisions-{name}.parquet")


@pytest.fixture
def columns() -> Columns:
    return made_up()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished replay without decisions yet."""
    return new_replay(tmp_path / "replay")


def new_replay(path: Path) -> Path:
    path.mkdir()
    manifest = {
        "code_version": "0.1.0",
        "data": [{"path": "/somewhere/private/log.parquet", "bytes": 1, "sha256": "ab"}],
        "labels": None,
        "models": [{"version": 1, "manifest_sha256": "cd"}],
        "seconds": 1.5,
        "tps": 4000,
        "finished": True,
    }
    (path / "replay.json").write_text(json.dumps(manifest))
    return path


Change = Callable[[Columns], Columns]
