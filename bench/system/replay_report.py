"""`panther bench replay-report`: fraud metrics of a replay of public data, and its report as a page.

The model is trained on the early days of the data and replays all days.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from infra.local.training import train_once
from offline.replay.request import ReplayRequest, run_replay
from offline.report.build import PAGE, write_report
from panther_core.base.console import progress
from panther_core.base.times import DAY_MS
from panther_core.data.formats import read_table


def run_replay_report(
    folder: Path, data: Path, format: str, train_until: str, until: str | None, label_delay_days: float
) -> dict[str, Any]:
    """Train on the days before `train_until`, replay all days before `until`, report on those from `train_until` on.

    The days trained on are replayed too, so that users have their past when the measured days begin. A finished replay
    in the folder is replaced.
    """
    delay_ms = round(label_delay_days * DAY_MS)
    history = read_table(format, data, end=train_until)
    train_once(folder, history, f"{format} {len(history)} {train_until}", delay_ms, profile=None)
    out = folder / "replay"
    if (out / "replay.json").exists():
        shutil.rmtree(out)
    request = ReplayRequest(
        path=data, format=format, models=(1,), models_dir=folder / "models", end=until, label_delay_ms=delay_ms
    )
    with progress("replay") as done:
        result = run_replay(request, out, done)
    report = write_report([out], out, train_until, title=f"{format}, trained before {train_until}")
    (variant,) = report.variants
    return {
        "report": str(out / PAGE),
        "tps": result["tps"],
        "trained_on": len(history),
        "measured": report.transactions,
        "frauds": report.frauds,
        "threshold": variant.thresholds[0],
        "figures": {name: [f.value, f.low, f.high] for name, f in variant.worth.metrics.items()}
        if variant.worth
        else {},
        "detection": variant.worth.detection.within if variant.worth else {},
        "psi_last_week": variant.weeks[-1].psi,
    }
