"""`panther bench replay`: how fast a log is replayed in process, with users who have a whole context behind them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.load import Load, label_delay_ms, long_table
from infra.local.training import train_once
from offline.replay.columns import decision_columns
from offline.replay.replayer import Replayer
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model

_CHUNK = 200_000  # rows, as the readers give them


def run_replay(folder: Path, load: Load, transactions: int) -> dict[str, Any]:
    """Keys as docs/benchmarks names them; `profile` is seconds by step."""
    table = long_table(load, transactions)
    split = load.users * load.history
    seen = table.take(slice(max(0, split - 400_000), split))
    train_once(folder, seen, key=f"bench {load.users} {load.history}", label_delay_ms=label_delay_ms(seen))
    artifact = folder / "models" / "1"
    replayer = Replayer(load_serving_model(artifact), PantherModel.load(artifact))
    for low in range(0, split, _CHUNK):
        replayer.decide(table.take(slice(low, min(low + _CHUNK, split))))
    replayer.seconds.clear()
    started, write_s, lengths = time.perf_counter(), 0.0, []
    for low in range(split, len(table), _CHUNK):
        part = table.take(slice(low, low + _CHUNK))
        decided = replayer.decide(part)
        lengths.append(decided.decision["history_len"])
        before = time.perf_counter()
        pq.write_table(decision_columns(part, decided, 0), folder / "decisions.parquet", compression="zstd")
        write_s += time.perf_counter() - before
    seconds = time.perf_counter() - started
    profile = {name: round(value, 2) for name, value in replayer.seconds.items()} | {"write": round(write_s, 2)}
    count = len(table) - split
    return {
        "tps": round(count / seconds, 1),
        "transactions": count,
        "seconds": round(seconds, 2),
        "history_len": int(np.median(np.concatenate(lengths))),
        "profile": profile,
    }
