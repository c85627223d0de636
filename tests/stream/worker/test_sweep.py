from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rocksdict import Options, Rdict

from panther_core.data.events import ModelProgress
from panther_core.data.topics import TRANSACTIONS
from panther_core.serving_model import load_serving_model
from stream.worker import sweep as module
from stream.worker.paid import PREFIX
from stream.worker.sweep import VersionSweep


def test_a_sweep_looks_at_users_alone_in_every_partition(
    artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the states of each partition lie as many payments as thirty days had."""
    model, stores = load_serving_model(artifact_folder), {}
    state = model.codec.fresh(1)
    state["n"], state["cached_n"], state["model_version"] = 1, 1, model.live.version
    for partition in (0, 1, 2):
        stores[partition] = Rdict(str(tmp_path / str(partition)), Options(raw_mode=True))
        for number in range(50):
            stores[partition][PREFIX + number.to_bytes(4, "big")] = b"paid"
        stores[partition][b"somebody"] = state.tobytes()
    monkeypatch.setattr(module, "_SCAN", 10)
    monkeypatch.setattr(module, "noticing_damage", lambda *_: nullcontext())
    monkeypatch.setattr(module, "partition_store", lambda _, partition: stores[partition])
    told: list[ModelProgress] = []

    async def report(progress: ModelProgress) -> None:
        told.append(progress)

    mine = [SimpleNamespace(topic=TRANSACTIONS, partition=partition) for partition in stores]
    consumer = SimpleNamespace(assignment=lambda: mine)
    conf = SimpleNamespace(id="app")
    app: Any = SimpleNamespace(conf=conf, rebalancing=False, consumer=consumer, consumer_generation_id=1)
    table: Any = SimpleNamespace(data=SimpleNamespace(offset_key=b"offset"))
    idle: Any = SimpleNamespace(claim=lambda found: list(found), release=lambda free: None)
    store: Any = SimpleNamespace(report=report)
    nobody: Any = None
    sweep = VersionSweep(app, table, nobody, nobody, store, idle, nobody, users_per_s=200)

    async def go() -> int:
        steps = 0
        sweep._begin(model)
        while sweep._left:
            await sweep._move_some(model)
            steps += 1
        return steps

    assert asyncio.run(go()) == 3, "one step for each partition"
    assert [progress.partition for progress in told] == [0, 1, 2]
