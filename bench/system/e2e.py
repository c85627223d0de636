"""`panther bench e2e`: throughput and latency of the whole path on real parts, on this machine.

Three phases on one running system. Capacity: a backlog waits on the topic, and `drained_tps` is how many decisions a
second are appended until it ends. Sustained: transactions are offered at a fixed rate, open loop; `sustained_tps` is
how many decisions a second are appended, and `lag` shows whether the worker falls behind. Latency: transactions are
offered at a share of the sustained rate. A latency runs from the moment the transaction was due to the append of its
decision, by the broker's clock.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.load import Load, label_delay_ms, long_table
from bench.system.offered import Offered, offer
from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.training import train_once
from panther_core.base.console import say
from panther_core.data.table import TransactionTable
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce

_CACHE_BYTES = 800_000  # of Triton's pool for each user: the demo's model takes 316 KB in float32, twice in a swap
_SETTLE_S = 5.0  # the start of each phase, not counted: caches fill, batch sizes settle


def run_e2e(folder: Path, load: Load) -> dict[str, Any]:
    """Run the three phases described at the top of the module; keys as docs/benchmarks names them."""
    needed = load.backlog + int(load.rate * (load.seconds + load.share * load.latency_seconds)) + 1
    with running(folder, load, needed) as (system, live):
        return asyncio.run(_phases(system, live, load))


@contextmanager
def running(folder: Path, load: Load, needed: int) -> Iterator[tuple[System, TransactionTable]]:
    """A running system with one worker, whose states hold the users' past, and `needed` transactions to stream."""
    table = long_table(load, needed)
    split = load.users * load.history
    history, live = table.take(slice(0, split)), table.take(slice(split, None))
    seen = history.take(slice(-400_000, None))
    # only speed is measured, so the label delay may fit the log, which may span only a few days
    train_once(folder, seen, key=f"bench {load.users} {load.history}", label_delay_ms=label_delay_ms(seen))
    for part in ("stack", "worker", "merchants"):  # of an earlier run
        shutil.rmtree(folder / part, ignore_errors=True)
    stack = LocalStack.on_free_ports(folder / "stack", {"PANTHER_CACHE_BYTES": str(load.users * _CACHE_BYTES)})
    with System(folder, stack, fresh_app_id("panther-bench")) as system:
        system.seed(history, system.deploy(1))
        system.start_merchants()
        system.start_worker()
        yield system, live


async def _phases(system: System, live: TransactionTable, load: Load) -> dict[str, Any]:
    backlog, rest = live.take(slice(0, load.backlog)), live.take(slice(load.backlog, None))
    async with LedgerReader(system.kafka) as reader:
        ledger = reader.ledger
        say(f"  capacity: a backlog of {len(backlog)} transactions")
        cpu = system.cpu_seconds()
        await produce(system.kafka, backlog.rows(), rate=0)
        await _wait_for_decisions(system, reader, len(backlog), patience_s=600)
        drained = _append_rate(ledger, _SETTLE_S)
        cpu_backlog = {name: round(s - cpu.get(name, 0), 2) for name, s in system.cpu_seconds().items()}
        memory = {"after_backlog": system.memory_mb()}

        count = int(load.rate * load.seconds)
        say(f"  sustained: {load.rate:.0f}/s for {load.seconds:.0f} s, open loop")
        long = await offer(system, reader, rest.take(slice(0, count)), load.rate)
        sustained = _sustained_rate(long, ledger)
        offered = sustained * load.share
        say(f"  latency: {offered:.0f}/s for {load.latency_seconds:.0f} s, open loop")
        timed = rest.take(slice(count, count + int(offered * load.latency_seconds)))
        short = await offer(system, reader, timed, offered)

        sent = set(backlog.transaction_id.tolist()) | set(long.due_ms) | set(short.due_ms)
        lengths = np.array([d.history_len for d in ledger.decisions.values()])
        return {
            "drained_tps": round(drained, 1),
            "sustained_tps": round(sustained, 1),
            "lag": _lag(long, ledger),
            "sustained_ms": ledger.latency_ms(_settled(long)),
            "offered_tps": round(offered, 1),
            "decision_ms": ledger.latency_ms(_settled(short)),
            "missing": sum(t not in ledger.decisions for t in sent),
            "contradicted": len(ledger.contradicted),
            "repeated": ledger.repeated,
            "degraded": dict(ledger.degraded),
            "cpu_seconds": cpu_backlog,
            "history_len": {"median": int(np.median(lengths)), "p10": int(np.percentile(lengths, 10))},
            "worker_memory_mb": memory | {"end": system.memory_mb()},
            "transactions": len(sent),
            "sender_late_ms": max(long.sender_late_ms, short.sender_late_ms),
        }


def _settled(offered: Offered) -> dict[str, float]:
    return offered.between(min(offered.due_ms.values()) + _SETTLE_S * 1000, np.inf)


def _sustained_rate(offered: Offered, ledger: Ledger) -> float:
    """Decisions appended a second, from when the first transaction was due until the last decision."""
    appended = [ledger.appended_ms[t] for t in offered.due_ms if t in ledger.appended_ms]
    return 1000 * len(appended) / max(1.0, max(appended, default=0.0) - min(offered.due_ms.values()))


def _lag(offered: Offered, ledger: Ledger) -> dict[str, float]:
    """Transactions due but not yet decided: averages over the first and the last fifth of the settled phase."""
    due = np.sort(np.array(list(offered.due_ms.values())))
    appended = np.sort(np.array([ledger.appended_ms.get(t, np.inf) for t in offered.due_ms]))
    at = np.linspace(min(due[0] + 1000 * _SETTLE_S, due[-1]), due[-1], 500)
    lag = np.searchsorted(due, at, side="right") - np.searchsorted(appended, at, side="right")
    return {"first_fifth": round(float(lag[:100].mean()), 1), "last_fifth": round(float(lag[-100:].mean()), 1)}


async def _wait_for_decisions(system: System, reader: LedgerReader, count: int, patience_s: float) -> None:
    deadline = time.time() + patience_s
    while len(reader.ledger.decisions) < count and time.time() < deadline:
        await reader.poll()
        system.check_workers()


def _append_rate(ledger: Ledger, settle_s: float) -> float:
    """Decisions appended a second, the first `settle_s` seconds left out."""
    appended = np.sort(np.array(list(ledger.appended_ms.values()), np.float64)) / 1000
    counted = appended[appended > appended[0] + settle_s] if len(appended) else appended
    if len(counted) < 2:
        return float(len(appended) / max(1e-3, np.ptp(appended))) if len(appended) > 1 else 0.0
    return float(len(counted) / (counted[-1] - counted[0]))
