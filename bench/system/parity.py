"""`panther bench parity`: how many decisions of a troubled stream differ from a replay of it, event by event."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.load import Load, long_table
from bench.system.e2e import running
from bench.system.parity_load import send_with_troubles, with_redeliveries
from bench.system.swap_and_outage import train_second_version
from offline.parity.report import ParityRequest, run_parity
from panther_core.base.console import say


def run_bench_parity(folder: Path, load: Load, transactions: int, rate: float) -> dict[str, Any]:
    """Stream for users with a past, then compare; keys of `panther parity`, and what was done during the stream."""
    with running(folder, load, transactions) as (system, live):
        train_second_version(system, live, load)
        sent = with_redeliveries(live, load.seed)
        started = time.perf_counter()
        troubles = send_with_troubles(system, sent, rate, live)
        streamed_s = time.perf_counter() - started
        say(f"  {len(sent)} sent and decided in {streamed_s:.0f} s; now the replay")
        started = time.perf_counter()
        request = ParityRequest((1, 2), Path(system.settings.models_dir), system.settings.app_id)
        report = run_parity(
            system.kafka, request, past=long_table(load, transactions).take(slice(0, load.users * load.history))
        )
    return report | {
        "sent": len(sent),
        "troubles": troubles,
        "seconds": {"stream": round(streamed_s, 1), "parity": round(time.perf_counter() - started, 1)},
    }
