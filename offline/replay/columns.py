"""Decisions as the columns of a Parquet file: what reports, backtests and people read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from offline.replay.replayer import Replayed
from panther_core.data.decision import FIELDS, REASONS
from panther_core.data.table import TransactionTable, Words
from panther_core.decide.reasons import CODES

_WORD, _REAL, _TIME = pa.string(), pa.float64(), pa.int64()  # times in epoch ms
SCHEMA = pa.schema(
    [
        *((name, _WORD) for name in ("transaction_id", "user_id", "merchant_id", "category", "channel")),
        ("amount", _REAL),
        ("event_time", _TIME),
        *((field.column or field.name, field.parquet) for field in FIELDS if field.parquet),
        *((f"reason_{i + 1}", _WORD) for i in range(REASONS)),
        *((f"contribution_{i + 1}", pa.float32()) for i in range(REASONS)),
        ("label", pa.int8()),  # 1 fraud, 0 not, -1 unknown
        ("label_time", _TIME),  # when it would have arrived, -1 unknown
        ("fraud_kind", _WORD),
    ]
)


def decision_columns(table: TransactionTable, replayed: Replayed, label_delay_ms: int) -> pa.Table:
    """One row for each transaction that was decided; redeliveries have none."""
    rows = np.flatnonzero(replayed.kept)
    table, decision = table.take(rows), replayed.decision[rows]
    columns = {
        "transaction_id": pa.array(table.transaction_id.tolist(), _WORD),
        "user_id": _words(table.user),
        "merchant_id": _words(table.merchant),
        "category": _words(table.category),
        "channel": _words(table.channel),
        "amount": table.amount,
        "event_time": table.time_ms,
        "label": table.label,
        "label_time": np.where(table.label >= 0, table.time_ms + label_delay_ms, -1),
        "fraud_kind": _words(table.fraud_kind) if table.fraud_kind else pa.nulls(len(rows), _WORD),
    }
    for field in FIELDS:
        held = field.array(decision)
        columns[field.column or field.name] = _coded(held, field.words) if field.words else held
    codes = (None, *CODES)
    for i in range(REASONS):
        columns[f"reason_{i + 1}"] = _coded(decision["reason"][:, i], codes)
        columns[f"contribution_{i + 1}"] = np.ascontiguousarray(decision["contribution"][:, i])
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _words(column: Words) -> pa.Array:
    return _taken(column.words, column.index, column.index < 0)


def _coded(codes: NDArray[np.uint8], words: tuple[str | None, ...]) -> pa.Array:
    return _taken(words, codes.astype(np.int32), np.zeros(len(codes), np.bool_))


def _taken(words: tuple[str | None, ...], index: NDArray[np.int32], missing: NDArray[np.bool_]) -> pa.Array:
    return pa.array(words, _WORD).take(pa.array(index, pa.int32(), mask=missing))
