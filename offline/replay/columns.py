"""Decisions as the columns of a Parquet file: what reports, backtests and people read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from offline.replay.replayer import Replayed
from panther_core.data.table import TransactionTable, Words
from panther_core.decide.reasons import KINDS
from panther_core.state.record import ALERT, COLD, DEGRADED, LATE, REASONS

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("transaction_id", "user_id", "merchant_id", "category", "channel")),
        ("amount", pa.float64()),
        ("event_time", pa.int64()),  # epoch ms
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("alert", pa.bool_()),
        ("history_len", pa.int32()),
        *((name, pa.bool_()) for name in ("cold_start", "late")),
        ("degraded", pa.string()),
        ("model_version", pa.int32()),
        *((f"reason_{i + 1}", pa.string()) for i in range(REASONS)),
        *((f"contribution_{i + 1}", pa.float32()) for i in range(REASONS)),
        ("label", pa.int8()),  # 1 fraud, 0 not, -1 unknown
        ("label_time", pa.int64()),  # epoch ms when it would have arrived, -1 unknown
        ("fraud_kind", pa.string()),
    ]
)


def decision_columns(table: TransactionTable, replayed: Replayed, label_delay_ms: int) -> pa.Table:
    """One row for each transaction that was decided; redeliveries have none."""
    rows = np.flatnonzero(replayed.kept)
    table, decision = table.take(rows), replayed.decision[rows]
    flags = decision["flags"]
    columns = {
        "transaction_id": pa.array(table.transaction_id.tolist(), pa.string()),
        "user_id": _words(table.user),
        "merchant_id": _words(table.merchant),
        "category": _words(table.category),
        "channel": _words(table.channel),
        "amount": table.amount,
        "event_time": table.time_ms,
        "score": decision["score"],
        "threshold": decision["threshold"],
        "alert": (flags & ALERT) > 0,
        "history_len": decision["history_len"],
        "cold_start": (flags & COLD) > 0,
        "late": (flags & LATE) > 0,
        "degraded": _coded(decision["degraded"], DEGRADED),
        "model_version": decision["model_version"].astype(np.int32),
        "label": table.label,
        "label_time": np.where(table.label >= 0, table.time_ms + label_delay_ms, -1),
        "fraud_kind": _words(table.fraud_kind) if table.fraud_kind else pa.nulls(len(rows), pa.string()),
    }
    codes = (None, *(code for code, _, _ in KINDS))
    for i in range(REASONS):
        columns[f"reason_{i + 1}"] = _coded(decision["reason"][:, i], codes)
        columns[f"contribution_{i + 1}"] = np.ascontiguousarray(decision["contribution"][:, i])
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _words(column: Words) -> pa.Array:
    return _taken(column.words, column.index, column.index < 0)


def _coded(codes: NDArray[np.uint8], words: tuple[str | None, ...]) -> pa.Array:
    return _taken(words, codes.astype(np.int32), np.zeros(len(codes), np.bool_))


def _taken(words: tuple[str | None, ...], index: NDArray[np.int32], missing: NDArray[np.bool_]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(index, pa.int32(), mask=missing))
