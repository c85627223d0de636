"""What decisions were worth: the only place of a replay that looks at labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline.replay.replayer import Replayed
from panther_core.data.decision import ALERT
from panther_core.data.table import TransactionTable
from panther_core.evaluation import alert_metrics, fraud_metrics


def measure(table: TransactionTable, replayed: Replayed) -> dict[str, Any]:
    """Figures over the transactions whose label is known."""
    kept, decision = replayed.kept, replayed.decision
    alert = (decision["flags"] & ALERT) > 0
    out = measure_columns(decision["score"][kept], alert[kept], table.label[kept])
    return out | {"transactions": len(table)}


def measure_columns(score: NDArray[np.float64], alert: NDArray[np.bool_], label: NDArray[np.int8]) -> dict[str, Any]:
    """The same figures of decisions given as columns [N]; a `label` of -1 is unknown."""
    known = label >= 0
    out = {"transactions": len(label), "labelled": int(known.sum()), "frauds": int((label == 1).sum())}
    if not 0 < out["frauds"] < out["labelled"]:
        return out  # without both kinds there is nothing to tell apart
    return out | fraud_metrics(score[known], label[known]) | alert_metrics(alert[known], label[known])


def measure_file(path: Path) -> dict[str, Any]:
    """The same figures of a Parquet file of decisions (offline.replay.columns)."""
    table = pq.read_table(path, columns=["score", "alert", "label"])
    return measure_columns(*(table[name].to_numpy() for name in ("score", "alert", "label")))
