"""`panther bench shadow`: decision latency of the live system with and without `panther shadow run` beside it.

One steady load, open loop, on the system of `panther bench e2e`. Stretches with and without the shadow take turns, so
that a machine that is slow for a while is slow for both; a pair is a stretch without and the one with it that follows.
A latency runs from when a transaction was due to the append of its decision.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.load import Load
from bench.system.e2e import running
from bench.system.offered import Offered, offer
from infra.local.errors import StartFailed
from infra.local.process import ManagedProcess
from infra.local.system import System
from panther_core.base.console import say
from panther_core.data.table import TransactionTable
from stream.tools.ledger import Ledger, LedgerReader

_SETTLE_S = 20.0  # the start of the load, not counted
_START_S = 120.0  # the longest that a shadow may take to start: imports, and the past; a figure of its own
_END_S = 30.0


def run_shadow_bench(folder: Path, load: Load, rate: float, pairs: int, seconds: float) -> dict[str, Any]:
    """Latency of `pairs` pairs of stretches of `seconds`, and of the shadows' starts; what the shadows did."""
    longest = _SETTLE_S + pairs * (2 * seconds + 2 * _START_S) + 60
    with running(folder, load, int(rate * longest)) as (system, live):
        return asyncio.run(_measure(system, live, rate, pairs, seconds))


async def _measure(system: System, live: TransactionTable, rate: float, pairs: int, seconds: float) -> dict[str, Any]:
    phases: dict[str, list[tuple[float, float]]] = {"without": [], "starting": [], "with": []}
    shadows: list[dict[str, Any]] = []

    async def meanwhile() -> None:
        await asyncio.sleep(_SETTLE_S)
        for number in range(pairs):
            begin_s = time.time()
            await asyncio.sleep(seconds)
            phases["without"].append((begin_s, time.time()))
            shadows.append(await _beside(system, number, seconds, phases))
            say(f"  pair {number + 1} of {pairs}")

    async with LedgerReader(system.kafka) as reader:
        done = await offer(system, reader, live, rate, meanwhile())
        return _report(reader.ledger, done, phases) | {"shadows": shadows}


async def _beside(
    system: System, number: int, seconds: float, phases: dict[str, list[tuple[float, float]]]
) -> dict[str, Any]:
    """Run a shadow of the live version for a stretch; returns what it did, and what it took of the machine."""
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "shadow", "run", str(Path(system.settings.models_dir) / "1")]
    log = system.folder / "logs" / f"shadow-{number}.log"
    begin_s = time.time()
    shadow = ManagedProcess.start("shadow", [*argv, "--json"], log, env=system.environment)
    process = psutil.Process(shadow.ref.pid)
    try:
        ready_s = await _following(shadow, log)
        phases["starting"].append((begin_s, ready_s))
        before = process.cpu_times()
        await asyncio.sleep(seconds)
        after = process.cpu_times()
        phases["with"].append((ready_s, time.time()))
        memory_mb = round(process.memory_info().rss / 1e6)
    finally:
        await asyncio.to_thread(shadow.stop, _END_S)  # by SIGTERM: it says what it did
    used = (after.user + after.system - before.user - before.system) / seconds
    said = next((line for line in reversed(log.read_text().splitlines()) if line.startswith("{")), "{}")
    return dict(json.loads(said)) | {"cores": round(used, 3), "memory_mb": memory_mb}


async def _following(shadow: ManagedProcess, log: Path) -> float:
    """Wait until the shadow has read the past; returns when that was, epoch s."""
    begin_s = time.time()
    while "follows the stream" not in shadow.log_tail():
        if not shadow.alive() or time.time() > begin_s + _START_S:
            raise StartFailed("shadow", f"it did not follow the stream within {_START_S:.0f} s", log, shadow.log_tail())
        await asyncio.sleep(0.5)
    return time.time()


def _report(ledger: Ledger, done: Offered, phases: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    stretches = {
        name: [ledger.latency_ms(done.between(begin * 1000, end * 1000)) for begin, end in spans]
        for name, spans in phases.items()
    }
    ratios = {
        f"{what}_with_over_without": [
            round(after[what] / max(before[what], 1e-9), 3)
            for before, after in zip(stretches["without"], stretches["with"], strict=True)
        ]
        for what in ("p50", "p99")
    }
    return {
        "transactions": len(done.due_ms),
        "missing": sum(t not in ledger.decisions for t in done.due_ms),
        "contradicted": len(ledger.contradicted),
        "degraded": dict(ledger.degraded),
        "sender_late_ms": done.sender_late_ms,
        "decision_ms": stretches,
        "start_s": [round(end - begin, 1) for begin, end in phases["starting"]],
        **ratios,
        **{f"median_{name}": round(float(np.median(values)), 3) for name, values in ratios.items()},
    }
