"""What decisions were worth: the only place of a replay that looks at labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import iso_ms
from panther_core.evaluation import alert_metrics, fraud_metrics


def day_ms(day: str) -> int:
    """Epoch ms of the beginning of the day `day` (YYYY-MM-DD), UTC. Raises BadInput."""
    try:
        return iso_ms(day)
    except ValueError:
        raise BadInput(f"expected a day YYYY-MM-DD, got {day!r}: see --since") from None


def measure_columns(
    measured_from: int,
    score: NDArray[np.float64],
    alert: NDArray[np.bool_],
    label: NDArray[np.int8],
    time_ms: NDArray[np.int64],
) -> dict[str, Any]:
    """Figures of decisions given as columns [N], from the event time `measured_from` on; a `label` of -1 is
    unknown."""
    later = time_ms >= measured_from
    score, alert, label = score[later], alert[later], label[later]
    known = label >= 0
    out = {
        "transactions": len(label),
        "not_measured": int((~later).sum()),
        "labelled": int(known.sum()),
        "frauds": int((label == 1).sum()),
    }
    if not 0 < out["frauds"] < out["labelled"]:
        return out  # without both kinds there is nothing to tell apart
    return out | fraud_metrics(score[known], label[known]) | alert_metrics(alert[known], label[known])


def measure_file(path: Path, measured_from: int) -> dict[str, Any]:
    """Those figures of a Parquet file of decisions (offline.replay.columns)."""
    names = ("score", "alert", "label", "event_time")
    table = pq.read_table(path, columns=list(names))
    return measure_columns(measured_from, *(table[name].to_numpy() for name in names))
